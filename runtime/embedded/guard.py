"""Ends what a killed server leaves behind: a process that waits for its parent to go, then stops the rest."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import psutil

from runtime.embedded.processes import import_path

STOP_SECONDS = 15.0
CLOSE_SECONDS = 2 * STOP_SECONDS + 5.0


@dataclass(frozen=True, slots=True)
class Ward:
    """A process to end: by which signal, and in which round. `created` tells it from a later one of the same id."""

    pid: int
    created: float
    signal: int = signal.SIGTERM
    round: int = 0


class Guard:
    """The parent's side: tell it of each process and folder once it is there; `close` when all is stopped."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime.embedded.guard"],
            env={**os.environ, **import_path()},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self, pid: int, how: signal.Signals = signal.SIGTERM, *, last: bool = False) -> None:
        """Have a process ended; `last` ones after all others, which may need them to end well."""
        with suppress(psutil.NoSuchProcess):
            self._tell(asdict(Ward(pid, psutil.Process(pid).create_time(), how, int(last))))

    def remove(self, folder: Path) -> None:
        """Have a folder removed at the very end."""
        self._tell({"folder": str(folder)})

    def close(self) -> None:
        """Let it look once more whether everything has ended, and end itself."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS)

    def _tell(self, what: dict[str, object]) -> None:
        """A guard that was killed is missed only if the server is killed as well."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(orjson.dumps(what) + b"\n")
                self._process.stdin.flush()


def end_all(wards: Iterable[Ward], seconds: float = STOP_SECONDS) -> None:
    """Signal all processes that still run and wait for them; kill those that need longer."""
    left = [process for ward in wards if (process := _running(ward)) is not None]
    _, stubborn = psutil.wait_procs(left, timeout=seconds)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=seconds)


def _running(ward: Ward) -> psutil.Process | None:
    with suppress(psutil.Error):
        process = psutil.Process(ward.pid)
        if process.create_time() == ward.created and process.status() != psutil.STATUS_ZOMBIE:
            process.send_signal(ward.signal)
            return process
    return None


def main() -> None:
    """Read what to end until the parent has gone, which closes the pipe; then end it, round by round."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = [orjson.loads(line) for line in sys.stdin.buffer]
    wards = [Ward(**one) for one in told if "pid" in one]
    for stage in sorted({ward.round for ward in wards}):
        end_all(ward for ward in wards if ward.round == stage)
    for one in told:
        if "folder" in one:
            shutil.rmtree(one["folder"], ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
