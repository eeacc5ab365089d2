"""Reads the events of executions after a cursor: of one by its gapless `seq`, of all by `position`.

An execution's events are numbered under its row's lock, so they commit in their order. Positions come from a sequence
and may commit out of order: `settled` waits for those who may still commit an earlier one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from models.errors import NotFound
from models.events import EventKind
from models.executions import ExecutionState
from models.parsing import as_uuid
from runtime import positions
from runtime.database import Session
from runtime.positions import LATEST, Positions

MOST: Final = 500
CLOCKS_APART: Final = timedelta(hours=1)
POSITIONS: Final = Positions("execution_events", "execution_event_position")

ENDINGS: Final = frozenset(
    {EventKind.EXECUTION_COMPLETED, EventKind.EXECUTION_FAILED, EventKind.EXECUTION_CANCELLED},
)
"""After one of these an execution has no more events."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in an execution; `payload` is JSON as it goes out."""

    execution_id: UUID
    seq: int
    position: int
    kind: EventKind
    step_name: str | None
    recorded_at: datetime
    payload: bytes

    @property
    def is_last(self) -> bool:
        """Whether the execution has no event after this."""
        return self.kind in ENDINGS


@dataclass(frozen=True, slots=True)
class Span:
    """The events of one execution with `after < seq <= until`; `since`, when it was accepted, saves old partitions."""

    execution_id: UUID
    since: datetime
    after: int
    until: int = LATEST


_COLUMNS: Final = "execution_id, seq, position, kind, step_name, recorded_at, payload::text AS payload"

_OF_SOME = text(f"""
    SELECT event.*
    FROM unnest(CAST(:ids AS uuid[]), CAST(:since AS timestamptz[]), CAST(:after AS bigint[]), CAST(:until AS bigint[]))
        AS span (id, since, after, until)
    CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM execution_events
        WHERE execution_id = span.id AND seq > span.after AND seq <= span.until AND recorded_at >= span.since
        ORDER BY seq LIMIT :most
    ) AS event
    ORDER BY event.execution_id, event.seq
""")

_OF_ALL = text(f"""
    SELECT {_COLUMNS} FROM execution_events
    WHERE position > :after AND position <= :until ORDER BY position LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Followed:
    """An execution whose events are followed: when it was accepted, whether it has ended, and its last event yet."""

    id: UUID
    started_at: datetime
    has_ended: bool
    last_seq: int


_FOLLOWED = text("""
    SELECT id, started_at, state, last_event_seq FROM pipeline_executions
    WHERE id = CAST(:id AS uuid) OR execution_id = :reference
""")


async def followed(session: Session, reference: str) -> Followed:
    """The execution of an id or of an `execution_id`; raises `NotFound`, also for what is hidden."""
    row = (await session.execute(_FOLLOWED, {"id": as_uuid(reference), "reference": reference})).first()
    if row is None:
        raise no_execution(reference)
    return Followed(row.id, row.started_at, ExecutionState(row.state).is_terminal, row.last_event_seq)


def no_execution(reference: object) -> NotFound:
    """What one is told who names an execution that is not there, or not for them."""
    hint = "see the executions there are, by id or `executionId`"
    return NotFound(f"there is no execution {str(reference)!r}", hint=hint, path="execution_id")


async def of_some(session: Session, spans: Sequence[Span], most: int = MOST) -> list[Event]:
    """The next events of several executions, at most `most` of each, by execution and `seq`."""
    parameters = {
        "ids": [span.execution_id for span in spans],
        "since": [span.since - CLOCKS_APART for span in spans],
        "after": [span.after for span in spans],
        "until": [span.until for span in spans],
        "most": most,
    }
    return [_event(row) for row in (await session.execute(_OF_SOME, parameters)).all()]


async def of_all(session: Session, after: int, until: int, most: int = MOST) -> list[Event]:
    """The next events of all executions with `after < position <= until`; `until` must have been `settled`."""
    parameters = {"after": after, "until": until, "most": most}
    return [_event(row) for row in (await session.execute(_OF_ALL, parameters)).all()]


async def settled(session: Session, known: int = 0) -> int:
    """The last position of all executions' events up to which no more will come; `known` is one already settled."""
    return await positions.settled(session, POSITIONS, known)


def _event(row: Any) -> Event:
    return Event(
        row.execution_id,
        row.seq,
        row.position,
        EventKind(row.kind),
        row.step_name,
        row.recorded_at,
        row.payload.encode(),
    )
