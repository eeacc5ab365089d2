"""Child processes with a log file each, which end with their parent however it ends; light to import."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

LOG_TAIL_BYTES = 4_000
STOP_SECONDS = 15.0
SOURCE = Path(__file__).parents[2]


def import_path() -> dict[str, str]:
    """The environment with which a child finds these packages; empty where they are installed."""
    if not (SOURCE / "pyproject.toml").is_file():
        return {}
    return {"PYTHONPATH": os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])}


class Child:
    """A Python module run as a process, which waits for `begin` and meanwhile imports what it is told to.

    Made by the main thread, since the kernel ties it to its maker's life.
    """

    def __init__(self, name: str, module: str, *early: str) -> None:
        self.name = name
        self._modules = (module, *early)
        self.log: Path | None = None
        self._log_begins = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "runtime.embedded.child", str(os.getpid()), module, *early],
            env={**os.environ, **import_path(), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def again(self) -> "Child":
        """Another process of the same."""
        return Child(self.name, *self._modules)

    def begin(self, environment: Mapping[str, str], logs: Path) -> "Child":
        """Let it go on, in this environment, with a log of its name in the folder."""
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{self.name}.log"
        self._log_begins = self.log.stat().st_size if self.log.exists() else 0
        told = json.dumps({"log": str(self.log), "environment": dict(environment)})
        self._say(told.encode() + b"\n")
        return self

    def _say(self, line: bytes) -> None:
        """Write to its standard input and close it; a child that has ended is noticed by `ending`."""
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            return
        with suppress(OSError):
            pipe.write(line)
        with suppress(OSError):
            pipe.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def ending(self) -> str | None:
        """How it ended, by itself with the last line of its log; None while it runs."""
        status = self._process.poll()
        if status is None:
            return None
        if status < 0:
            return f"the {self.name} process was ended by {signal.Signals(-status).name}"
        said = self._last_words()
        return f"the {self.name} process ended with status {status}" + (f": {said}" if said else "")

    def _last_words(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_begins, end - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def ask_to_stop(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end, and make it and its own children end when it does not within the seconds."""
        self.ask_to_stop()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(seconds)
        self._say(b"")


def early_api() -> Child:
    """The API's process, importing while its maker finds out how it is to run."""
    return Child("api", "api", "api.server")
