"""An execution's log: JSON lines in the artifact store, written by its supervisor, read by whoever may see it."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import orjson

from models.errors import NotFound
from models.fields import JsonObject
from runtime.access.mask import mask_text

READ_BYTES = 1_000_000
SUFFIX = ".jsonl"


class LogFile:
    """The log of one execution, below the artifact store's folder; a full disk costs lines, never the execution."""

    def __init__(self, artifacts: Path, execution_id: UUID) -> None:
        self._path = artifacts / "logs" / f"{execution_id}{SUFFIX}"
        self.location = self._path.relative_to(artifacts).as_posix()

    def write(self, lines: Sequence[Mapping[str, object]]) -> None:
        """Append lines, masked."""
        if not lines:
            return
        data = b"".join(orjson.dumps(_masked(line), default=str) + b"\n" for line in lines)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(data)
        except OSError:
            return


def prune_logs(artifacts: Path, days: int, most: int, now: datetime) -> int:
    """Remove at most `most` logs that were last written more than `days` ago; answers how many."""
    before, removed = (now - timedelta(days=days)).timestamp(), 0
    with suppress(FileNotFoundError), os.scandir(artifacts / "logs") as entries:
        for entry in entries:
            if removed == most:
                break
            # Another dispatcher may have been there first.
            with suppress(FileNotFoundError):
                if entry.name.endswith(SUFFIX) and entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _masked(line: Mapping[str, object]) -> dict[str, object]:
    return {key: mask_text(value) if isinstance(value, str) else value for key, value in line.items()}


def read_log(artifacts: Path, location: str, after: int = 0) -> tuple[list[JsonObject], int]:
    """Whole lines from the byte `after`, at most 1 MB of them, and the byte at which to go on.

    Raises `NotFound` when the file is gone: its retention is over, or the artifact store is elsewhere.
    """
    path = (artifacts / location).resolve()
    if not path.is_relative_to(artifacts.resolve()) or not path.is_file():
        raise NotFound("the log is not in the artifact store", hint="logs are kept for a retention; see its settings")
    with path.open("rb") as file:
        file.seek(after)
        data = file.read(READ_BYTES)
    whole = data[: data.rfind(b"\n") + 1]
    return [orjson.loads(line) for line in whole.splitlines() if line], after + len(whole)
