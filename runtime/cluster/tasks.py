"""Ray tasks: one phase of a plan's task, streamed, and one item of other work. Thin shells over plain functions."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import ray

from models.errors import Retryable
from runtime.cluster.work import Tools, perform
from runtime.cluster.worker import (
    process_background,
    process_database,
    process_sealer,
    process_settings,
    process_worker,
)
from runtime.connectors.permits import Permits
from runtime.executions.program import Outcome, TaskRequest
from runtime.executions.steps import Item, run_task
from runtime.queue.store import Claim

FETCH_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class RemoteBlocks:
    """Blocks in the object store, fetched one at a time, as often as they are read."""

    refs: Sequence["ray.ObjectRef[pa.Table]"]

    def __iter__(self) -> Iterator[pa.Table]:
        for ref in self.refs:
            try:
                value = ray.get(ref, timeout=FETCH_SECONDS)
            except ray.exceptions.GetTimeoutError as error:
                raise Retryable("an input did not arrive from the object store in time", code="lost_input") from error
            except ray.exceptions.ObjectLostError as error:
                raise Retryable("an input was lost with the node that held it", code="lost_input") from error
            block = value.block if isinstance(value, Outcome) else value
            if block is not None:
                yield block


@ray.remote(num_cpus=1, max_retries=0)
def run_step(request: TaskRequest, inputs: Mapping[str, Sequence["ray.ObjectRef[pa.Table]"]]) -> Iterator[Item]:
    """Run one phase of a task: its blocks or its progress, and its outcome last."""
    blocks = {name: RemoteBlocks(refs) for name, refs in inputs.items()}
    yield from run_task(request, blocks, process_worker())


@ray.remote(num_cpus=1, max_retries=0)
def run_work(claim: Claim) -> None:
    """Do one item of other work and record how it ended."""
    permits = Permits.of(process_settings())
    perform(claim, Tools(process_worker(), process_database(), process_background(), process_sealer(), permits))


@ray.remote(num_cpus=1, max_retries=0)
def warm_up(seconds: float) -> int:
    """Make this process ready for its first task; holding its slot for some seconds makes the next one take another."""
    process_worker()
    time.sleep(seconds)
    return os.getpid()
