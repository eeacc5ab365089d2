"""The runtime passes every seed of the simulator, and each bug that is seeded in it is found."""

import subprocess
import sys
from itertools import chain

import pytest

from models.events import EventKind
from models.executions import ExecutionState
from tests.kit.simulation.bugs import BUGS
from tests.kit.simulation.search import first_found, found_among, lived

SEEDS = 2_000
JOBS = 2
ENOUGH = 300
ALONE = 100


def test_the_runtime_passes_every_seed() -> None:
    found = chain.from_iterable(lot for _, lot in found_among(range(SEEDS), JOBS))
    assert list(found) == [], "replay one with `python -m tests.kit.simulation SEED`"


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_seeded_bug_is_found(bug: str) -> None:
    assert first_found(bug, SEEDS) is not None


def test_a_seed_replays_exactly_in_another_process() -> None:
    found = first_found("commit_without_ledger", SEEDS)
    assert found is not None
    command = [sys.executable, "-m", "tests.kit.simulation", str(found.seed), "--bug", "commit_without_ledger"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(2))
    assert first.stdout == second.stdout
    assert (first.returncode, "WRONG: part 0 of step" in first.stdout) == (1, True), first.stdout + first.stderr


def test_a_world_does_not_depend_on_those_before_it() -> None:
    forth = {seed: lived(seed, telling=True)[1] for seed in range(ALONE)}
    back = {seed: lived(seed, telling=True)[1] for seed in reversed(range(ALONE))}
    assert [seed for seed in range(ALONE) if forth[seed] != back[seed]] == []


def test_another_scheduler_takes_the_lead_in_some_worlds() -> None:
    changes = (len(lived(seed)[0].leaders) for seed in range(SEEDS))
    assert any(leaders > 2 for leaders in changes)


def test_the_worlds_have_all_the_troubles_that_they_should_have() -> None:
    told, generations, states, kinds = set[str](), set[int](), set[ExecutionState](), set[EventKind]()
    for seed in range(ENOUGH):
        history, notes = lived(seed, telling=True)
        told |= {" ".join(word.partition("-")[0] for word in text.split()[:3]) for _, text in notes}
        generations |= {one.generation for one in history.executions}
        states |= {one.state for one in history.executions}
        kinds |= {one.kind for one in history.events}
    processes = ("dispatcher", "supervisor", "worker", "scheduler")
    assert told >= {f"{process} is {fate}" for process in processes for fate in ("killed", "stopped")}
    assert {"the database dies,", "supervisor broke: could", "dispatcher broke: the", "dispatcher leaves"} <= told
    assert max(generations) >= 4
    assert states == {ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED}
    assert {EventKind.STEP_RETRYING, EventKind.STEP_FAILED, EventKind.EXECUTION_CANCELLING} <= kinds
