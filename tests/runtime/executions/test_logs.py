"""Logs of executions are removed once their retention is over, some at a time."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from runtime.executions.logs import LogFile, prune_logs

NOON = datetime(2026, 7, 4, 12, tzinfo=UTC)


def written(artifacts: Path, days_ago: int) -> Path:
    """A log that was written last so many days before noon."""
    log = LogFile(artifacts, uuid4())
    log.write([{"kind": "execution_started"}])
    path, moment = artifacts / log.location, (NOON - timedelta(days=days_ago)).timestamp()
    os.utime(path, (moment, moment))
    return path


def test_logs_past_their_retention_are_removed_some_at_a_time(tmp_path: Path) -> None:
    old, young = [written(tmp_path, 31) for _ in range(5)], [written(tmp_path, days) for days in (0, 29)]
    other = tmp_path / "logs" / "notes.txt"
    other.write_text("kept")
    os.utime(other, (0, 0))
    assert [prune_logs(tmp_path, 30, 3, NOON) for _ in range(3)] == [3, 2, 0]
    assert [path.exists() for path in (*old, *young, other)] == [False] * 5 + [True] * 3


def test_where_nothing_was_logged_nothing_is_removed(tmp_path: Path) -> None:
    assert prune_logs(tmp_path, 30, 3, NOON) == 0
