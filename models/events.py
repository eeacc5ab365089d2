"""The events of executions: a gapless sequence each, kept in daily partitions."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Index, Text, Uuid
from sqlmodel import Field

from models.base import Table
from models.fields import Choice, Document, JsonObject, Moment, one_of, server


class EventKind(StrEnum):
    """What happened, to an execution or to one of its steps."""

    EXECUTION_QUEUED = "execution_queued"
    EXECUTION_STARTED = "execution_started"
    EXECUTION_TAKEN_OVER = "execution_taken_over"
    EXECUTION_CANCELLING = "execution_cancelling"
    EXECUTION_COMPLETED = "execution_completed"
    EXECUTION_FAILED = "execution_failed"
    EXECUTION_CANCELLED = "execution_cancelled"
    EXECUTION_LATE = "execution_late"
    EXECUTION_STALLED = "execution_stalled"
    STEP_STARTED = "step_started"
    STEP_PROGRESS = "step_progress"
    STEP_RETRYING = "step_retrying"
    STEP_RESTORED = "step_restored"
    STEP_COMPLETED = "step_completed"
    STEP_FAILED = "step_failed"
    STEP_SKIPPED = "step_skipped"
    STEP_CANCELLED = "step_cancelled"


class ExecutionEvent(Table, table=True):
    """Something that happened in an execution; never changed, dropped with its day.

    `seq` is gapless within the execution; `position` orders events across executions, and is taken after the lock on
    this table, which is how `runtime.executions.events` knows up to which position nothing is still to commit.
    No foreign key ties it to its execution: it would be checked for every event, and days are dropped whole.
    """

    __tablename__ = "execution_events"
    __table_args__ = (
        one_of("kind", EventKind),
        Index("idx_execution_events_execution", "execution_id", "seq"),
        Index("idx_execution_events_position", "position"),
        {"postgresql_partition_by": "RANGE (recorded_at)"},
    )

    recorded_at: datetime = Field(
        default=None,
        primary_key=True,
        sa_type=Moment,
        sa_column_kwargs=server("clock_timestamp()"),
    )
    execution_id: UUID = Field(primary_key=True, sa_type=Uuid)
    seq: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    position: int = Field(
        default=None,
        nullable=False,
        sa_type=BigInteger,
        sa_column_kwargs=server("nextval('wedsync.execution_event_position')"),
    )
    kind: EventKind = Field(sa_type=Choice(EventKind))
    step_name: str | None = Field(default=None, sa_type=Text)
    payload: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
