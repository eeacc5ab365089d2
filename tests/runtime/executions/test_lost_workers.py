"""A load whose worker died is tried again at once, on what it left in staging; the last attempt is cleared up after."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.connectors._contract import Split
from runtime.executions.executor import OnProgress, Ran, Refs, WorkerLost
from runtime.executions.local import LocalExecutor
from runtime.executions.program import Phase, TaskRequest
from runtime.executions.state import BackingOff
from runtime.executions.supervisor import Supervisor
from tests.kit.definitions import READ, load, pipeline
from tests.kit.engine import Bench
from tests.kit.eventually import eventually

ATTEMPTS = 3
QUICKLY: JsonObject = {"max_attempts": ATTEMPTS, "initial_seconds": 0.01, "max_seconds": 0.01}
SLOWLY: JsonObject = {"max_attempts": ATTEMPTS, "initial_seconds": 60, "max_seconds": 60}


class Losing(LocalExecutor):
    """Runs tasks here, and loses the worker of the first loads once their rows have landed in staging."""

    def __init__(self, bench: Bench, losses: int) -> None:
        super().__init__(bench.worker, bench.artifacts)
        self.phases: list[Phase] = []
        self._losses = losses

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Run a phase; that of a load until its worker is lost."""
        if request.program.load is None:
            return await super().run(request, inputs, on_progress)
        self.phases.append(request.phase)
        if request.phase is Phase.ABORT or not self._losses:
            return await super().run(request, inputs, on_progress)
        self._losses -= 1
        await super().run(replace(request, phase=Phase.PARTITION, split=Split(0)), inputs, on_progress)
        raise WorkerLost("killed")


def staged(bench: Bench) -> list[Path]:
    """The files that are in staging."""
    return [path for path in (bench.folder / "out").rglob("*.csv") if "staging" in path.parts]


async def losing(bench: Bench, losses: int, policy: JsonObject = QUICKLY) -> tuple[Supervisor, Losing]:
    """The supervisor of an execution that is to lose so many workers, and its executor."""
    executor = Losing(bench, losses)
    saved, _ = await bench.pipeline({**pipeline(READ, load("read")), "retry_policy": policy})
    await bench.submit(saved)
    return bench.supervisor(await bench.take(), executor), executor


async def test_the_next_attempt_begins_without_clearing_up(ready: Bench) -> None:
    supervisor, executor = await losing(ready, ATTEMPTS - 1)
    ending = await supervisor.supervise()
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert executor.phases == [Phase.WHOLE] * ATTEMPTS
    assert sorted(int(row["id"]) for row in ready.read("out", "t")) == list(range(100))
    assert staged(ready) == []


async def test_after_the_last_attempt_staging_is_cleared(ready: Bench) -> None:
    supervisor, executor = await losing(ready, ATTEMPTS)
    ending = await supervisor.supervise()
    await supervisor.crew.cleared()
    assert ending.state is ExecutionState.FAILED
    assert executor.phases == [*[Phase.WHOLE] * ATTEMPTS, Phase.ABORT]
    assert (ready.read("out", "t"), staged(ready)) == ([], [])


async def test_one_that_is_cancelled_before_its_next_attempt_leaves_nothing_in_staging(ready: Bench) -> None:
    supervisor, executor = await losing(ready, 1, SLOWLY)
    work = asyncio.create_task(supervisor.supervise())

    async def backs_off() -> bool:
        return isinstance(supervisor.states["load"], BackingOff)

    await eventually(backs_off, because="the worker of the load is lost")
    assert staged(ready)
    supervisor.cancel()
    assert (await work).state is ExecutionState.CANCELLED
    await supervisor.crew.cleared()
    assert (executor.phases, staged(ready)) == ([Phase.WHOLE, Phase.ABORT], [])
