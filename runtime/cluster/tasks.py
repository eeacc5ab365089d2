"""Ray tasks: one phase of a plan's task, at once or streamed, and one item of other work. Thin shells."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import pyarrow as pa
import ray

from models.errors import Retryable
from runtime.cluster.work import Tools, perform
from runtime.cluster.worker import (
    process_background,
    process_confinement,
    process_database,
    process_paces,
    process_sealer,
    process_settings,
    process_worker,
)
from runtime.connectors.permits import Permits
from runtime.executions.checkpoints import LOST_INPUT, Place, StoredBlocks, write_blocks
from runtime.executions.program import Outcome, Progress, TaskRequest
from runtime.executions.steps import INLINE_BYTES, Blocks, Item
from runtime.queue.store import Claim

FETCH_SECONDS = 300.0

BlockRef: TypeAlias = "ray.ObjectRef[pa.Table | bytes]"
KeptRef: TypeAlias = "BlockRef | Place"
Value: TypeAlias = pa.Table | bytes | Outcome
"""What comes as an input: a block, a small one as an Arrow IPC stream, or the outcome that holds the only one."""


class TooLarge(Exception):
    """The output of a task that was run at once is more than one block; it has to be streamed."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of a task's progress: the name of a supervisor's actor, and the key it knows the task by."""

    actor: str
    key: str


@dataclass(frozen=True, slots=True)
class Given:
    """A task's inputs by name: small ones came along with it, of large ones only the references to their blocks, or
    the places of their checkpoints.
    """

    small: tuple[str, ...]
    large: Mapping[str, Sequence[KeptRef]]

    def blocks(self, values: Sequence[Value]) -> dict[str, Blocks]:
        """The blocks of each input, to be read as often as one likes."""
        came: dict[str, Blocks] = {name: _table(value) for name, value in zip(self.small, values, strict=True)}
        return {**came, **{name: RemoteBlocks(refs) for name, refs in self.large.items()}}


@dataclass(frozen=True, slots=True)
class RemoteBlocks:
    """Blocks in the object store, fetched one at a time, or in the artifact store, as often as they are read."""

    refs: Sequence[KeptRef]

    def __iter__(self) -> Iterator[pa.Table]:
        for ref in self.refs:
            if isinstance(ref, Place):
                yield from StoredBlocks(process_settings().artifacts, ref)
            else:
                yield from _fetched(ref)


def _fetched(ref: BlockRef) -> tuple[pa.Table, ...]:
    try:
        return _table(ray.get(ref, timeout=FETCH_SECONDS))
    except ray.exceptions.GetTimeoutError as error:
        raise Retryable("an input did not arrive from the object store in time", code=LOST_INPUT) from error
    except ray.exceptions.ObjectLostError as error:
        raise Retryable("an input was lost with the node that held it", code=LOST_INPUT) from error


def _table(value: Value) -> tuple[pa.Table, ...]:
    if isinstance(value, bytes):
        return (pa.ipc.open_stream(value).read_all(),)
    block = value.block if isinstance(value, Outcome) else value
    return () if block is None else (block,)


def _packed(block: pa.Table) -> pa.Table | bytes:
    """A small block as an IPC stream, which Ray passes on for a tenth of what it takes to pack a table itself."""
    if block.nbytes > INLINE_BYTES:
        return block
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_table(block)
    return sink.getvalue().to_pybytes()


@ray.remote(num_cpus=1, max_retries=0, num_returns="streaming")
def stream_step(request: TaskRequest, given: Given, *values: Value) -> Iterator[Item]:
    """Run one phase of a task whose output may be large: its blocks, and its outcome last."""
    yield from process_confinement().items(request, given.blocks(values))


@ray.remote(num_cpus=1, max_retries=0, num_returns=2)
def run_step(request: TaskRequest, given: Given, *values: Value) -> tuple[Outcome, pa.Table | bytes]:
    """Run a task whose output is small: its outcome and its one block; raises `TooLarge`."""
    made, rows = list[pa.Table](), 0
    for item in process_confinement().items(request, given.blocks(values)):
        if isinstance(item, Outcome):
            blocks = [*made, *_table(item)]
            return replace(item, block=None), _packed(blocks[0] if len(blocks) == 1 else pa.concat_tables(blocks))
        if isinstance(item, pa.Table):
            made.append(item)
            rows += item.num_rows
            if rows > request.context.block_rows:
                break
    raise TooLarge(f"{request.program.task} makes more than one block")


@ray.remote(num_cpus=1, max_retries=0)
def finish_step(request: TaskRequest, listener: Listener, given: Given, *values: Value) -> Outcome:
    """Run one phase of a task that has no output but its outcome, such as a load; tells how far it is."""
    told = Progress(0, 0)
    for item in process_confinement().items(request, given.blocks(values)):
        if isinstance(item, Outcome):
            return item
        if isinstance(item, Progress) and item != told:
            told = item
            with suppress(ValueError, ray.exceptions.RayError):
                _supervisor(listener.actor).progress.remote(listener.key, item)
    raise Retryable("the task ended without an outcome", code="no_outcome")


@ray.remote(num_cpus=1, max_retries=0)
def save_output(refs: Sequence[BlockRef], file: str, _near: Value) -> Place:
    """Write the output of a task to a file of the artifact store, on the node where its first block is."""
    return save_blocks(refs, file)


def save_blocks(refs: Sequence[BlockRef], file: str) -> Place:
    """The same in this process."""
    return write_blocks(process_settings().artifacts, file, RemoteBlocks(refs))


@lru_cache(maxsize=16)
def _supervisor(name: str) -> Any:
    return ray.get_actor(name)


@ray.remote(num_cpus=1, max_retries=0)
def run_work(claim: Claim) -> None:
    """Do one item of other work and record how it ended."""
    permits = Permits.of(process_settings())
    process = (process_worker(), process_database(), process_background(), process_sealer())
    perform(claim, Tools(*process, permits, process_paces()))


@ray.remote(num_cpus=1, max_retries=0)
def warm_up(seconds: float) -> int:
    """Make this process ready for its first task; holding its slot for some seconds makes the next one take another."""
    process_worker()
    time.sleep(seconds)
    return os.getpid()
