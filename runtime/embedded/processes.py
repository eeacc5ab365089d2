"""Child processes with a log file each, which end with their parent however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.errors import Unavailable

LOG_TAIL_BYTES = 2_000


class Child:
    """One Python module run as a process of its own."""

    def __init__(self, name: str, module: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "runtime.embedded.child", str(os.getpid()), *module],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def require(self) -> None:
        """Raise `Unavailable` with the end of its log when it has ended."""
        if not self.is_alive:
            tail = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
            hint = f"its log is {self.log}"
            raise Unavailable(f"{self.name} ended with status {self._process.returncode}:\n{tail}", hint=hint)

    def stop(self, seconds: float = 15.0) -> None:
        """Ask it to end, and make it end when it does not within the seconds."""
        if not self.is_alive:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(seconds)
