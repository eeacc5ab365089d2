"""The home: one folder with a server's data, logs and secrets, used by one server at a time."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

from models.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Running:
    """What a running server tells of itself in `server.json`, for the commands that speak to it."""

    url: str
    pid: int
    database_url: str
    owner_url: str
    redis_url: str


class Home:
    """The paths of a home, and the lock that keeps a second server out."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: IO[str] | None = None

    @property
    def postgres(self) -> Path:
        """The embedded PostgreSQL's data."""
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        """The logs of the processes."""
        return self.path / "logs"

    @property
    def _note(self) -> Path:
        return self.path / "server.json"

    def acquire(self) -> None:
        """Lock the home for this process; raises `Conflict` while another server runs in it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            hint = "stop it with Ctrl-C there, or choose another home with WEDSYNC_HOME"
            raise Conflict(f"a server runs in {self.path} already", hint=hint, code="home_in_use") from None
        self._lock = lock

    def release(self) -> None:
        """Forget the running server and unlock the home."""
        if self._lock is not None:
            self._note.unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def announce(self, running: Running) -> None:
        """Tell other commands where the server is; the file is the owner's alone."""
        draft = self._note.with_suffix(".new")
        fields = {name: getattr(running, name) for name in Running.__dataclass_fields__}
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(fields))
        draft.replace(self._note)

    def running(self) -> Running:
        """The server of this home; raises `NotFound` when none runs."""
        try:
            found = Running(**orjson.loads(self._note.read_bytes()))
            os.kill(found.pid, 0)
        except (OSError, TypeError, ValueError):
            hint = "start one with `wedsync up`, or name another home with WEDSYNC_HOME"
            raise NotFound(f"no server runs in {self.path}", hint=hint, code="not_running") from None
        return found
