"""Backfills: a range of a pipeline's past, run chunk by chunk."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity
from models.fields import Choice, Document, JsonObject, Moment, one_of, server


class BackfillState(StrEnum):
    """Where a backfill stands."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Backfill(ChangingEntity, table=True):
    """The half-open range of moments `[range_start, range_end)`, cut into chunks of `chunk` (such as `1d`).

    `total` chunks are executions of it, each with its range in its context; `already` ones needed none, since they had
    completed or were under way. At most `most_at_once` of its work items are `queued` or `claimed`; the others are
    `held`. A cancelled one has `finished_at` once the last that ran has ended.
    """

    __tablename__ = "backfills"
    __table_args__ = (
        one_of("state", BackfillState),
        CheckConstraint("range_end > range_start", name="range_goes_forward"),
        CheckConstraint("most_at_once > 0", name="runs_some"),
        Index("idx_backfills_pipeline", "pipeline_id", text("created_at DESC")),
        Index("idx_backfills_open", "created_at", postgresql_where=text("finished_at IS NULL")),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    range_start: datetime = Field(sa_type=Moment)
    range_end: datetime = Field(sa_type=Moment)
    chunk: str = Field(sa_type=Text)
    most_at_once: int = Field(default=1, sa_column_kwargs=server("1"))
    priority: int = Field(default=-10, sa_column_kwargs=server("-10"))
    parameters: JsonObject = Field(default_factory=dict, sa_type=Document(JsonObject), sa_column_kwargs=server("'{}'"))
    total: int
    already: int = Field(default=0, sa_column_kwargs=server("0"))
    state: BackfillState = Field(
        default=BackfillState.RUNNING, sa_type=Choice(BackfillState), sa_column_kwargs=server("'running'")
    )
    requested_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    finished_at: datetime | None = Field(default=None, sa_type=Moment)
