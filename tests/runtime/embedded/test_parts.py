"""The parts of a stack are started again when they end, unless they will not stay."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from models.errors import Unavailable
from runtime.embedded.guard import Guard
from runtime.embedded.parts import AGAIN_SECONDS, FIRST_PAUSE_SECONDS, MOST_SHORT_LIVES, STAYS_SECONDS, Parts
from runtime.embedded.processes import Child
from tests.kit.eventually import eventually


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(guard: Guard, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """One part, `worker`, that stays until it is killed."""
    (tmp_path / "a_module.py").write_text("import os, time; print(os.environ['MARK']); time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = Parts(guard, clock, spared=["worker"])
    made.begin(Child("worker", "a_module"), {"MARK": "kept"}, tmp_path)
    yield made
    for stop in made.stops():
        stop()


async def end(process: psutil.Process) -> None:
    """Kill a process and wait until it has ended."""
    process.kill()

    async def is_gone() -> bool:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    await eventually(is_gone, because="it was killed")


async def killed(parts: Parts) -> dict[str, str]:
    """Kill the part and have the parts mended once it has ended."""
    await end(psutil.Process(parts.pid("worker")))
    return parts.mend()


def waiting(parts: Parts) -> list[psutil.Process]:
    """The processes of the module that are not the part."""
    children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in children if "a_module" in one.cmdline() and one.pid != parts.pid("worker")]


async def test_a_part_that_ended_runs_again_in_its_environment(parts: Parts, clock: Clock, tmp_path: Path) -> None:
    async def has_said(times: int) -> bool:
        log = tmp_path / "worker.log"
        return log.exists() and log.read_text() == "kept\n" * times

    await eventually(partial(has_said, 1), because="it begins")
    first = parts.pid("worker")
    assert parts.mend() == {}
    clock.now += STAYS_SECONDS
    assert await killed(parts) == {"worker": "the worker process was ended by SIGKILL"}
    assert parts.pid("worker") != first
    await eventually(partial(has_said, 2), because="it begins again")


async def test_a_part_that_ended_soon_after_its_start_waits_longer_each_time_and_is_given_up(
    parts: Parts, clock: Clock
) -> None:
    for times in range(MOST_SHORT_LIVES - 1):
        assert await killed(parts) == {}
        clock.now += FIRST_PAUSE_SECONDS * 2**times / 2
        assert parts.mend() == {}
        clock.now += FIRST_PAUSE_SECONDS * 2**times / 2
        assert list(parts.mend()) == ["worker"]
    with pytest.raises(Unavailable, match="the worker process was ended by SIGKILL") as refusal:
        await killed(parts)
    assert "worker.log" in str(refusal.value.hint)


async def test_a_part_that_stayed_is_started_again_as_often_as_it_ends(parts: Parts, clock: Clock) -> None:
    for _ in range(MOST_SHORT_LIVES + 1):
        clock.now += STAYS_SECONDS
        assert list(await killed(parts)) == ["worker"]


async def test_another_waits_to_take_the_place_of_a_part_that_has_stayed(parts: Parts, clock: Clock) -> None:
    parts.mend()
    assert waiting(parts) == []
    clock.now += STAYS_SECONDS
    parts.mend()
    parts.mend()
    (spare,) = waiting(parts)
    await killed(parts)
    assert parts.pid("worker") == spare.pid
    assert waiting(parts) == []
    clock.now += AGAIN_SECONDS
    parts.mend()
    assert len(waiting(parts)) == 1


async def test_one_that_waited_and_was_killed_is_no_loss(parts: Parts, clock: Clock) -> None:
    clock.now += STAYS_SECONDS
    parts.mend()
    (spare,) = waiting(parts)
    await end(spare)
    assert parts.mend() == {}
    assert list(await killed(parts)) == ["worker"]
    assert parts.pid("worker") != spare.pid


async def test_one_that_waits_ends_with_the_rest(parts: Parts, clock: Clock) -> None:
    clock.now += STAYS_SECONDS
    parts.mend()
    (spare,) = waiting(parts)
    for stop in parts.stops():
        stop()
    assert not spare.is_running()
