"""Looks for new and changed files and for messages: the scheduler asks, a worker looks, what is new is an arrival."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from models.errors import DomainError
from models.fields import Json, jsonb_text
from models.schedules import EventKind
from runtime.database import Session
from runtime.queue.kinds import WorkKind

MOST_FILES: Final = 10_000
SEEN: Final = {EventKind.FILE: "files", EventKind.STREAM: "messages"}
"""What is looked for, as a cursor and a cause name it."""

PROBLEM: Final = "problem"

# A look that has ended is forgotten with the next one: schedules would leave tens of thousands of them a day.
_ASK: Final = text(f"""
    WITH waiting AS (
        SELECT schedule.id FROM schedules AS schedule
        WHERE schedule.watches IS NOT NULL AND starts_with(schedule.watches, :kind || ':') AND NOT EXISTS (
            SELECT FROM work_items AS item WHERE item.subject = schedule.id AND item.state IN ('queued', 'claimed'))
    ), forgotten AS (
        DELETE FROM work_items AS item USING waiting
        WHERE item.subject = waiting.id AND item.kind = '{WorkKind.WATCH.value}'
            AND item.state NOT IN ('queued', 'claimed')
    )
    INSERT INTO work_items (kind, subject, payload)
    SELECT '{WorkKind.WATCH.value}', id, jsonb_build_object('schedule', id) FROM waiting
    RETURNING id
""")


async def ask(session: Session, kind: EventKind) -> int:
    """Have looked at what all schedules wait for that wait for this kind of event; answers how many there are.

    Those are left out that somebody is at already.
    """
    return len((await session.execute(_ASK, {"kind": kind.value})).all())


@dataclass(frozen=True, slots=True)
class Watch:
    """What a schedule wants looked at: the files of a source that meet a glob, or one of its streams."""

    schedule: UUID
    kind: EventKind
    source: UUID
    subject: str

    @property
    def watches(self) -> str:
        """It as the schedule has it."""
        return f"{self.kind.value}:{self.source}/{self.subject}"


_WATCH: Final = text("SELECT id, watches FROM schedules WHERE id = :id AND watches IS NOT NULL")


async def watch_of(session: Session, schedule: UUID) -> Watch | None:
    """What a schedule wants looked at; None where it wants nothing any more."""
    row = (await session.execute(_WATCH, {"id": schedule})).first()
    kind, _, place = row.watches.partition(":") if row is not None else ("", "", "")
    if kind not in SEEN:
        return None
    source, _, subject = place.partition("/")
    return Watch(schedule, EventKind(kind), UUID(source), subject)


_LOCK: Final = text("SELECT event_cursor FROM schedules WHERE id = :id AND watches = :watches FOR UPDATE")
_SEEN: Final = text("""
    UPDATE schedules SET event_cursor = CAST(:cursor AS jsonb) WHERE id = :id
""")
_ARRIVE: Final = text("""
    INSERT INTO schedule_arrivals (schedule_id, cause) VALUES (:id, :cause) ON CONFLICT DO NOTHING RETURNING cause
""")


async def saw(session: Session, watch: Watch, marks: Mapping[str, str]) -> list[str]:
    """Record what is there now, each file or stream with what tells a change; answers those that are new or changed.

    The first look only learns what is there. All that came between two looks is one arrival.
    """
    row = (await session.execute(_LOCK, {"id": watch.schedule, "watches": watch.watches})).first()
    if row is None:
        return []
    noun = SEEN[watch.kind]
    known: Json = row.event_cursor.get(noun)
    if known == dict(marks) and PROBLEM not in row.event_cursor:
        return []
    await session.execute(_SEEN, {"id": watch.schedule, "cursor": jsonb_text({noun: dict(marks)})})
    if not isinstance(known, dict):
        return []
    changed = sorted(name for name, mark in marks.items() if known.get(name) != mark)
    if changed:
        told = "\n".join(f"{name} {marks[name]}" for name in changed)
        cause = f"{noun}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"
        await session.execute(_ARRIVE, {"id": watch.schedule, "cause": cause})
    return changed


_FAILED: Final = text("""
    UPDATE schedules SET event_cursor = event_cursor || jsonb_build_object(CAST(:problem AS text), CAST(:said AS text))
    WHERE id = :id AND watches = :watches AND event_cursor ->> :problem IS DISTINCT FROM :said
""")


async def failed(session: Session, watch: Watch, error: DomainError) -> None:
    """Record why nothing could be looked at, until it can again."""
    values = {"id": watch.schedule, "watches": watch.watches, "problem": PROBLEM, "said": str(error)}
    await session.execute(_FAILED, values)
