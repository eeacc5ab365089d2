"""An executor that is held before or after a task, so that its supervisor can be killed there."""

import asyncio
from collections.abc import Collection, Mapping

from runtime.executions.executor import OnProgress, Ran, Refs
from runtime.executions.local import LocalExecutor
from runtime.executions.program import Phase, TaskRequest
from runtime.executions.supervisor import Supervisor
from tests.kit.engine import Bench


class HeldExecutor(LocalExecutor):
    """Runs tasks here, and waits for ever before those of `before` begin and once those of `after` are done."""

    def __init__(self, bench: Bench, *, before: Collection[str] = (), after: Collection[str] = ()) -> None:
        super().__init__(bench.worker, bench.artifacts)
        self.ran: list[str] = []
        self.reached = asyncio.Event()
        self._before = before
        self._after = after

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's own typed error."""
        name = request.program.task
        if request.phase is Phase.ABORT:
            return await super().run(request, inputs, on_progress)
        if name in self._before:
            await self._hold()
        ran = await super().run(request, inputs, on_progress)
        self.ran.append(name)
        if name in self._after:
            await self._hold()
        return ran

    async def _hold(self) -> None:
        self.reached.set()
        await asyncio.Event().wait()


async def kill(supervising: "asyncio.Task[object]") -> None:
    """End a supervisor where it stands."""
    supervising.cancel()
    await asyncio.gather(supervising, return_exceptions=True)


def supervising(supervisor: Supervisor) -> "asyncio.Task[object]":
    """A supervisor at work."""
    return asyncio.create_task(_supervise(supervisor))


async def _supervise(supervisor: Supervisor) -> object:
    return await supervisor.supervise()
