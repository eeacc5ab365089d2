"""The executor on Ray: each phase of a task is one Ray task whose output stays in the object store.

A task that is streamed costs twice what one that runs at once does (measured: 5.4 ms of CPU against 2.9), so only those
are whose output may be large: what reads more than one block, or a source that was not small the last time.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast
from uuid import uuid4
from weakref import WeakSet

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    OwnerDiedError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from models.errors import Cancelled, Retryable, Terminal
from models.pipelines import Resources
from runtime.cluster.tasks import (
    BlockRef,
    Given,
    KeptRef,
    Listener,
    TooLarge,
    finish_step,
    run_step,
    save_blocks,
    save_output,
    stream_step,
)
from runtime.executions.checkpoints import LOST_INPUT, Place
from runtime.executions.executor import OnProgress, Ran, Refs, TaskResult, WorkerLost
from runtime.executions.program import Outcome, Progress, TaskProgram, TaskRequest
from runtime.executions.steps import INLINE_BYTES

MEGABYTE = 1024 * 1024
LOSSES = (WorkerCrashedError, OutOfMemoryError, NodeDiedError)
LOST_INPUTS = (ObjectLostError, OwnerDiedError)


class RayExecutor:
    """Starts Ray tasks, and kills their worker when the asyncio task that awaits them is cancelled.

    `actor` is the name of the actor it works for, to which workers call `progress` with the key of a task.
    """

    def __init__(self, actor: str) -> None:
        self._actor = actor
        self._listening: dict[str, OnProgress] = {}
        self._small: WeakSet[TaskProgram] = WeakSet()

    def progress(self, key: str, progress: Progress) -> None:
        """Hear how far a task is; of one that has ended meanwhile nothing is told."""
        if key in self._listening:
            self._listening[key](progress)

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's own typed error, `WorkerLost` when its process died, `Cancelled` when it was killed."""
        name = f"{request.program.task}:{request.phase.value}"
        _require_room(request.program.resources)
        ones = {key: refs[0] for key, refs in inputs.items() if len(refs) == 1}
        small = {key: cast(BlockRef, ref) for key, ref in ones.items() if not isinstance(ref, Place)}
        large = {key: cast("list[KeptRef]", refs) for key, refs in inputs.items() if key not in small}
        given = Given(tuple(small), large)
        try:
            if not request.delivers:
                return await self._finish(name, request, given, small, on_progress)
            return await self._delivered(name, request, given, small)
        except RayError as error:
            meant = typed(error)
            if meant is error:
                raise
            raise meant from error

    async def save(self, output: TaskResult, file: str) -> Place:
        """Write the output of a task to a file of the artifact store: a large one by a worker, a small one here."""
        refs = cast("list[BlockRef]", list(output.blocks))
        if output.output_bytes <= INLINE_BYTES:
            return await asyncio.to_thread(save_blocks, refs, file)
        saved: Place = await save_output.remote(refs, file, refs[0])
        return saved

    async def _delivered(self, name: str, request: TaskRequest, given: Given, small: Mapping[str, BlockRef]) -> Ran:
        program = request.program
        ran: Ran | None = None
        if not given.large and (program.extract is None or program in self._small):
            ran = await _at_once(name, request, given, small)
        if ran is None:
            ran = await _streamed(name, request, given, small)
        if len(ran.blocks) > 1:
            self._small.discard(program)
        else:
            self._small.add(program)
        return ran

    async def _finish(
        self, name: str, request: TaskRequest, given: Given, small: Mapping[str, BlockRef], on_progress: OnProgress
    ) -> Ran:
        listener = Listener(self._actor, uuid4().hex)
        self._listening[listener.key] = on_progress
        ref = _named(finish_step, name, request.program.resources).remote(request, listener, given, *small.values())
        try:
            return Ran(await ref)
        except asyncio.CancelledError:
            ray.cancel(ref, force=True)
            raise
        finally:
            del self._listening[listener.key]


async def _at_once(name: str, request: TaskRequest, given: Given, small: Mapping[str, BlockRef]) -> Ran | None:
    """Run a task whose output is one block at most; None when it turns out larger."""
    ref, block = _named(run_step, name, request.program.resources).remote(request, given, *small.values())
    try:
        return Ran(await ref, (block,))
    except asyncio.CancelledError:
        ray.cancel(ref, force=True)
        raise
    except RayTaskError as error:
        if isinstance(error.cause, TooLarge):
            return None
        raise


async def _streamed(name: str, request: TaskRequest, given: Given, small: Mapping[str, BlockRef]) -> Ran:
    stream = _named(stream_step, name, request.program.resources).remote(request, given, *small.values())
    try:
        refs = [ref async for ref in stream]
        outcome = await refs[-1]
    except asyncio.CancelledError:
        ray.cancel(stream, force=True)
        raise
    if not isinstance(outcome, Outcome):
        raise WorkerLost("the worker ended without an outcome")
    return Ran(outcome, tuple(refs))


@lru_cache(maxsize=1024)
def _named(function: Any, name: str, resources: Resources | None) -> Any:
    """The remote function under a name for Ray's dashboard, on a node that has the resources free."""
    options: dict[str, float] = {}
    if resources is not None and resources.cpus is not None:
        options["num_cpus"] = resources.cpus
    if resources is not None and resources.memory_mb is not None:
        options["memory"] = resources.memory_mb * MEGABYTE
    return function.options(name=name, **options)


def _require_room(resources: Resources | None) -> None:
    """Raise `Terminal` for what no node could ever have free: Ray would wait for such a node without a word."""
    if resources is None:
        return
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    rooms = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, memory = resources.cpus or 0, (resources.memory_mb or 0) * MEGABYTE
    if not any(room.get("CPU", 0) >= cpus and room.get("memory", 0) >= memory for room in rooms):
        most = max((room.get("CPU", 0), int(room.get("memory", 0) / MEGABYTE)) for room in rooms)
        raise Terminal(
            f"no node has {resources.cpus or 1:g} processors and {resources.memory_mb or 0} MB for the step",
            hint=f"ask for at most {most[0]:g} cpus and {most[1]} memory_mb in its resources, or add a larger node",
            code="no_room",
        )


def typed(error: RayError) -> Exception:
    """What a failure of Ray means for the task: the error of its own code, or one of ours; else Ray's as it is."""
    if isinstance(error, RayTaskError):
        return error.cause if isinstance(error.cause, Exception) else error
    if isinstance(error, TaskCancelledError):
        return Cancelled("the task was cancelled")
    if isinstance(error, LOST_INPUTS):
        return Retryable("an input was lost with the process or node that held it", code=LOST_INPUT)
    if isinstance(error, OutOfDiskError):
        hint = "free space where Ray keeps what its memory has no room for, then run again"
        return Terminal("no space left on a worker's disk", hint=hint, code="disk_full")
    if isinstance(error, LOSSES):
        return WorkerLost(str(error).splitlines()[0] if str(error) else "the worker died")
    return error
