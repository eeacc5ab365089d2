"""A load whose worker died is tried again at once, on what it left in staging; the last attempt is cleared up after."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.connectors._contract import Split
from runtime.executions.executor import OnProgress, Ran, Refs, WorkerLost
from runtime.executions.local import LocalExecutor
from runtime.executions.program import Phase, TaskRequest
from tests.kit.definitions import READ, load, pipeline
from tests.kit.engine import Bench

ATTEMPTS = 3
QUICKLY: JsonObject = {"retry_policy": {"max_attempts": ATTEMPTS, "initial_seconds": 0.01, "max_seconds": 0.01}}


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


async def lost(bench: Bench, losses: int) -> tuple[Any, Losing]:
    """The end of an execution that loses so many workers, and its executor."""
    executor = Losing(bench, losses)
    saved, _ = await bench.pipeline({**pipeline(READ, load("read")), **QUICKLY})
    await bench.submit(saved)
    supervisor = bench.supervisor(await bench.take(), executor)
    ending = await supervisor.supervise()
    await supervisor.crew.cleared()
    return ending, executor


async def test_the_next_attempt_begins_without_clearing_up(ready: Bench) -> None:
    ending, executor = await lost(ready, ATTEMPTS - 1)
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert executor.phases == [Phase.WHOLE] * ATTEMPTS
    assert sorted(int(row["id"]) for row in ready.read("out", "t")) == list(range(100))
    assert staged(ready) == []


async def test_after_the_last_attempt_staging_is_cleared(ready: Bench) -> None:
    ending, executor = await lost(ready, ATTEMPTS)
    assert ending.state is ExecutionState.FAILED
    assert executor.phases == [*[Phase.WHOLE] * ATTEMPTS, Phase.ABORT]
    assert (ready.read("out", "t"), staged(ready)) == ([], [])
