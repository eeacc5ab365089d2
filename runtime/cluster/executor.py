"""The executor on Ray: each phase of a task is one Ray task whose output stays in the object store."""

import asyncio
from collections.abc import Mapping
from typing import NoReturn, TypeAlias, cast

import pyarrow as pa
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)

from models.errors import Cancelled
from runtime.cluster.tasks import run_step
from runtime.executions.executor import OnProgress, Ran, Refs, WorkerLost
from runtime.executions.program import Outcome, Phase, Progress, TaskRequest
from runtime.executions.steps import Item

BlockRef: TypeAlias = "ray.ObjectRef[pa.Table]"
LOSSES = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, ObjectLostError, OwnerDiedError)


class RayExecutor:
    """Starts Ray tasks, and kills their worker when the asyncio task that awaits them is cancelled."""

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's own typed error, `WorkerLost` when its process died, `Cancelled` when it was killed."""
        name = f"{request.program.task}:{request.phase.value}"
        stream = run_step.options(num_returns="streaming", name=name).remote(
            request, {key: [cast(BlockRef, ref) for ref in refs] for key, refs in inputs.items()}
        )
        try:
            return await self._follow(request, stream, on_progress)
        except asyncio.CancelledError:
            ray.cancel(stream, force=True)
            raise
        except RayError as error:
            _raise(error)

    async def _follow(self, request: TaskRequest, stream: "ray.ObjectRefGenerator", on_progress: OnProgress) -> Ran:
        """A task that loads tells progress; any other delivers blocks, fetched by whoever reads them."""
        tells = request.program.load is not None or request.phase is not Phase.WHOLE
        refs: list[ray.ObjectRef[Item]] = []
        async for ref in stream:
            refs.append(ref)
            if tells:
                item = await ref
                if isinstance(item, Progress):
                    on_progress(item)
        outcome = await refs[-1]
        if not isinstance(outcome, Outcome):
            raise WorkerLost("the worker ended without an outcome")
        delivers = request.program.load is None and request.phase in (Phase.WHOLE, Phase.PARTITION)
        return Ran(outcome, tuple(refs) if delivers else ())


def _raise(error: RayError) -> NoReturn:
    if isinstance(error, RayTaskError):
        cause = error.cause
        raise cause if isinstance(cause, Exception) else error
    if isinstance(error, TaskCancelledError):
        raise Cancelled("the task was cancelled") from error
    if isinstance(error, LOSSES):
        raise WorkerLost(str(error).splitlines()[0] if str(error) else "the worker died") from error
    raise error
