"""Backfills: a range of days of a pipeline's past, run chunk by chunk."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity
from models.fields import Choice, Moment, one_of, server


class BackfillState(StrEnum):
    """Where a backfill stands."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Backfill(ChangingEntity, table=True):
    """The half-open range of days `[range_start, range_end)`, cut into `total` chunks of `chunk` (such as `1d`).

    Each chunk is an execution with the range in its context; at most `most_at_once` of them are claimed at a time.
    """

    __tablename__ = "backfills"
    __table_args__ = (
        one_of("state", BackfillState),
        CheckConstraint("range_end > range_start", name="range_goes_forward"),
        Index("idx_backfills_pipeline", "pipeline_id", text("created_at DESC")),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    range_start: date
    range_end: date
    chunk: str = Field(sa_type=Text)
    most_at_once: int = Field(default=1, sa_column_kwargs=server("1"))
    priority: int = Field(default=-10, sa_column_kwargs=server("-10"))
    total: int
    state: BackfillState = Field(
        default=BackfillState.RUNNING, sa_type=Choice(BackfillState), sa_column_kwargs=server("'running'")
    )
    requested_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
