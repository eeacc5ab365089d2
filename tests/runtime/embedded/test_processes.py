"""Children end with their parent, tell how they ended, and a guard ends what a killed parent leaves behind."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from runtime.embedded.guard import Guard, Ward, end_all
from runtime.embedded.processes import SOURCE, Child
from tests.kit.eventually import eventually

SLEEPER = "import time; time.sleep(600)"


def child_of(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that runs code."""
    (folder / "a_module.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return Child("worker", "a_module")


def ended(pid: int) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    return look


async def test_a_child_runs_in_the_environment_it_is_given_and_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = child_of(tmp_path, "import os; print('hello', os.environ['WHOM'])", monkeypatch)
    child.begin({"WHOM": "world"}, tmp_path / "logs")
    await eventually(ended(child.pid), because="it has nothing more to do")
    assert child.log is not None
    assert child.log.read_text() == "hello world\n"
    assert child.ending == "the worker process ended with status 0: hello world"
    child.stop()


async def test_a_child_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = child_of(tmp_path, "import sys; sys.exit('no room')", monkeypatch).begin({}, tmp_path)
    await eventually(ended(child.pid), because="it fails at once")
    assert child.ending == "the worker process ended with status 1: no room"
    child.stop()


async def test_the_log_of_an_earlier_child_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "worker.log").write_text("what an earlier one said\n")
    child = child_of(tmp_path, "raise SystemExit(3)", monkeypatch).begin({}, tmp_path)
    await eventually(ended(child.pid), because="it ends at once")
    assert child.ending == "the worker process ended with status 3"
    child.stop()


def test_a_child_that_does_not_listen_is_made_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    child = child_of(tmp_path, deaf, monkeypatch).begin({}, tmp_path)
    assert child.ending is None
    child.stop(seconds=0.5)
    assert not psutil.pid_exists(child.pid)


PARENT = """
import os, signal, sys
from pathlib import Path
from runtime.embedded.processes import Child
child = Child("worker", "a_module").begin({}, Path(sys.argv[1]))
print(child.pid, flush=True)
signal.pause()
"""


def left_behind(code: str, folder: Path) -> list[int]:
    """The processes of a parent that was killed once it had named them."""
    paths = {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(folder)])}
    command = [sys.executable, "-c", code, str(folder / "sockets")]
    with subprocess.Popen(command, env={**os.environ, **paths}, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        named = parent.stdout.readline().split()
        parent.kill()
    return [int(pid) for pid in named]


async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "a_module.py").write_text(SLEEPER)
    (pid,) = left_behind(PARENT, tmp_path)
    await eventually(ended(pid), because="the kernel tells it")


GUARDED = """
import signal, subprocess, sys
from pathlib import Path
from runtime.embedded.guard import Guard
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
guard = Guard()
first = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
second = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE)
second.stdout.readline()
guard.end(first.pid)
guard.end(second.pid, signal.SIGINT, last=True)
guard.remove(Path(sys.argv[1]))
print(first.pid, second.pid, flush=True)
signal.pause()
"""


async def test_a_guard_ends_what_a_killed_server_leaves_behind(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    first, second = left_behind(GUARDED, tmp_path)
    await eventually(ended(first), within=30, because="the guard signals it")
    await eventually(ended(second), within=30, because="the guard sends the signal it was told to")

    async def removed() -> bool:
        return not folder.exists()

    await eventually(removed, because="the guard removes folders at the end")


def test_a_guard_leaves_a_later_process_of_the_same_id_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as other:
        end_all([Ward(other.pid, created=0.0)], seconds=0.1)
        assert other.poll() is None
        other.kill()


def test_a_guard_has_nothing_against_a_process_that_has_ended() -> None:
    guard = Guard()
    guard.end(2**22 + 1)
    guard.close()
