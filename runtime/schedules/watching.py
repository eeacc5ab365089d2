"""Looks for new and changed files: the scheduler asks, a worker looks, and what it finds is an arrival."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from models.fields import Json, jsonb_text
from runtime.database import Session
from runtime.queue.kinds import WorkKind

MOST_FILES: Final = 10_000
FILES: Final = "files"

_ASK: Final = text(f"""
    INSERT INTO work_items (kind, subject, payload)
    SELECT '{WorkKind.WATCH.value}', schedule.id, jsonb_build_object('schedule', schedule.id)
    FROM schedules AS schedule
    WHERE schedule.watches IS NOT NULL AND starts_with(schedule.watches, 'file:') AND NOT EXISTS (
        SELECT FROM work_items AS item WHERE item.subject = schedule.id AND item.state IN ('queued', 'claimed'))
    RETURNING id
""")


async def ask(session: Session) -> int:
    """Have the files of all schedules that wait for some looked at, but where somebody is at it; answers how many."""
    return len((await session.execute(_ASK)).all())


@dataclass(frozen=True, slots=True)
class Watch:
    """What a schedule wants looked at: the files of a source that meet a glob."""

    schedule: UUID
    source: UUID
    pattern: str


_WATCH: Final = text("""
    SELECT id, watches FROM schedules WHERE id = :id AND watches IS NOT NULL AND starts_with(watches, 'file:')
""")


async def watch_of(session: Session, schedule: UUID) -> Watch | None:
    """What a schedule wants looked at; None where it wants nothing any more."""
    row = (await session.execute(_WATCH, {"id": schedule})).first()
    if row is None:
        return None
    source, _, pattern = row.watches.removeprefix("file:").partition("/")
    return Watch(schedule, UUID(source), pattern)


_LOCK: Final = text("SELECT event_cursor FROM schedules WHERE id = :id AND watches = :watches FOR UPDATE")
_SEEN: Final = text("""
    UPDATE schedules SET event_cursor = CAST(:cursor AS jsonb) WHERE id = :id
""")
_ARRIVE: Final = text("""
    INSERT INTO schedule_arrivals (schedule_id, cause) VALUES (:id, :cause) ON CONFLICT DO NOTHING RETURNING cause
""")


async def saw(session: Session, watch: Watch, files: Mapping[str, str]) -> list[str]:
    """Record what the files are now, each path with what tells a change; answers those that are new or changed.

    The first look only learns what is there. All that came between two looks is one arrival.
    """
    watches = f"file:{watch.source}/{watch.pattern}"
    row = (await session.execute(_LOCK, {"id": watch.schedule, "watches": watches})).first()
    if row is None:
        return []
    known: Json = row.event_cursor.get(FILES)
    if known == dict(files):
        return []
    await session.execute(_SEEN, {"id": watch.schedule, "cursor": jsonb_text({FILES: dict(files)})})
    if not isinstance(known, dict):
        return []
    changed = sorted(path for path, mark in files.items() if known.get(path) != mark)
    if changed:
        told = "\n".join(f"{path} {files[path]}" for path in changed)
        cause = f"files:{hashlib.sha256(told.encode()).hexdigest()[:32]}"
        await session.execute(_ARRIVE, {"id": watch.schedule, "cause": cause})
    return changed
