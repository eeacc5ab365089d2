"""Executions of pipelines and of their steps, and what proves which of their effects are committed."""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, TypeAlias
from uuid import UUID

from pydantic import AwareDatetime, model_validator
from pydantic import Field as Limited
from sqlalchemy import BigInteger, Index, Numeric, Text, UniqueConstraint, Uuid, text
from sqlmodel import Field

from models.base import Entity, Table
from models.fields import (
    Choice,
    Document,
    Json,
    JsonObject,
    Moment,
    StrictModel,
    one_of,
    server,
)


class ExecutionType(StrEnum):
    """What started an execution."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"
    TRIGGERED = "triggered"
    RETRY = "retry"


class ExecutionStatus(StrEnum):
    """An execution as WS-269 tells it; `running` from acceptance on."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ExecutionState(StrEnum):
    """An execution as the runtime knows it."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self in (
            ExecutionState.COMPLETED,
            ExecutionState.FAILED,
            ExecutionState.CANCELLED,
        )

    @property
    def status(self) -> ExecutionStatus:
        """The same in WS-269's words."""
        return ExecutionStatus(self.value) if self.is_terminal else ExecutionStatus.RUNNING


class StepStatus(StrEnum):
    """A step as WS-269 tells it."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class StepState(StrEnum):
    """A step as the runtime knows it."""

    RUNNING = "running"
    BACKING_OFF = "backing_off"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


Bound: TypeAlias = Annotated[AwareDatetime | date, Limited(union_mode="left_to_right")]


class DateRange(StrictModel):
    """The half-open range `[start, end)` that a backfill's execution covers: of days, or of moments for parts of days.

    A day stands for its first moment in UTC.
    """

    start: Bound
    end: Bound

    @model_validator(mode="after")
    def _goes_forward(self) -> "DateRange":
        if _moment(self.end) <= _moment(self.start):
            raise ValueError("end must be after start")
        return self


def _moment(bound: date) -> datetime:
    return bound if isinstance(bound, datetime) else datetime(bound.year, bound.month, bound.day, tzinfo=UTC)


class ExecutionContext(StrictModel):
    """What an execution was asked to do beside running its version: bound parameters, and where it takes up."""

    parameters: dict[str, Json] = Limited(default_factory=dict)
    retry_of: UUID | None = None
    from_step: str | None = None
    date_range: DateRange | None = None
    sample_rows: int | None = Limited(default=None, ge=1)


class PerformanceMetrics(StrictModel):
    """Durations in milliseconds, memory in MB and CPU in percent of one core, under WS-269's six keys."""

    total_duration_ms: int = 0
    extract_duration_ms: int = 0
    transform_duration_ms: int = 0
    load_duration_ms: int = 0
    peak_memory_usage_mb: float = 0
    avg_cpu_usage_percent: float = 0


class ErrorDetails(StrictModel):
    """Why an execution failed; `hint` says what to do and `path` names the place, where known."""

    error_type: str
    error_message: str
    failed_step: str
    retry_count: int = 0
    hint: str | None = None
    path: str | None = None


class PipelineExecution(Entity, table=True):
    """One run of a pipeline's version; every change is compare-and-set on `(id, generation)`.

    `started_at` is the moment of acceptance. `last_event_seq` allocates the gapless `seq` of its events. `late_at` is
    when it was told to be late.
    """

    __tablename__ = "pipeline_executions"
    __table_args__ = (
        one_of("execution_type", ExecutionType),
        one_of("status", ExecutionStatus),
        one_of("state", ExecutionState),
        Index("idx_pipeline_executions_pipeline_id", "pipeline_id"),
        Index("idx_pipeline_executions_started_at", text("started_at DESC")),
        Index("idx_pipeline_executions_status", "status"),
        Index(
            "idx_pipeline_executions_latest",
            "pipeline_id",
            text("started_at DESC"),
            postgresql_include=["id", "status", "completed_at", "triggered_by", "dry_run"],
        ),
        Index(
            "idx_pipeline_executions_failed",
            "completed_at",
            postgresql_include=["pipeline_id", "triggered_by", "dry_run"],
            postgresql_where=text("status = 'failed'"),
        ),
        Index("idx_pipeline_executions_unfinished", "pipeline_id", postgresql_where=text("status = 'running'")),
        Index(
            "idx_pipeline_executions_backfill",
            "backfill_id",
            "state",
            postgresql_where=text("backfill_id IS NOT NULL"),
        ),
        Index(
            "idx_pipeline_executions_due",
            "pipeline_id",
            "started_at",
            postgresql_where=text("status = 'running' AND late_at IS NULL AND backfill_id IS NULL"),
        ),
        Index(
            "idx_pipeline_executions_history",
            "pipeline_id",
            text("started_at DESC"),
            postgresql_include=["completed_at"],
            postgresql_where=text("status = 'completed' AND NOT dry_run AND backfill_id IS NULL"),
        ),
        Index(
            "idx_pipeline_executions_idempotency",
            "pipeline_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    execution_id: str = Field(sa_type=Text, unique=True)
    execution_type: ExecutionType = Field(sa_type=Choice(ExecutionType))
    started_at: datetime = Field(sa_type=Moment)
    completed_at: datetime | None = Field(default=None, sa_type=Moment)
    status: ExecutionStatus = Field(
        default=ExecutionStatus.RUNNING,
        sa_type=Choice(ExecutionStatus),
        sa_column_kwargs=server("'running'"),
    )
    records_processed: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    records_inserted: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    records_updated: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    records_deleted: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    records_failed: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    data_quality_score: Decimal | None = Field(default=None, sa_type=Numeric)
    execution_context: ExecutionContext = Field(
        default_factory=ExecutionContext,
        sa_type=Document(ExecutionContext),
        sa_column_kwargs=server("'{}'"),
    )
    performance_metrics: PerformanceMetrics = Field(
        default_factory=PerformanceMetrics,
        sa_type=Document(PerformanceMetrics),
        sa_column_kwargs=server("'{}'"),
    )
    error_details: ErrorDetails | None = Field(default=None, sa_type=Document(ErrorDetails))
    logs_location: str | None = Field(default=None, sa_type=Text)
    triggered_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    state: ExecutionState = Field(
        default=ExecutionState.QUEUED,
        sa_type=Choice(ExecutionState),
        sa_column_kwargs=server("'queued'"),
    )
    generation: int = Field(default=0, sa_column_kwargs=server("0"))
    version: int | None = None
    dry_run: bool = Field(default=False, sa_column_kwargs=server("false"))
    idempotency_key: str | None = Field(default=None, sa_type=Text)
    last_event_seq: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    cancel_requested_at: datetime | None = Field(default=None, sa_type=Moment)
    backfill_id: UUID | None = Field(default=None, foreign_key="backfills.id", ondelete="SET NULL", sa_type=Uuid)
    late_at: datetime | None = Field(default=None, sa_type=Moment)


class StepExecution(Entity, table=True):
    """One step of one execution; fused steps keep a row each. Times in milliseconds, memory in MB."""

    __tablename__ = "step_executions"
    __table_args__ = (
        UniqueConstraint("pipeline_execution_id", "step_execution_id"),
        one_of("status", StepStatus),
        one_of("state", StepState),
        Index("idx_step_executions_pipeline_execution", "pipeline_execution_id"),
        Index("idx_step_executions_step", "step_id"),
    )

    pipeline_execution_id: UUID = Field(foreign_key="pipeline_executions.id", ondelete="CASCADE", sa_type=Uuid)
    step_id: UUID | None = Field(default=None, foreign_key="pipeline_steps.id", ondelete="CASCADE", sa_type=Uuid)
    step_name: str = Field(sa_type=Text)
    step_execution_id: str = Field(sa_type=Text)
    started_at: datetime = Field(sa_type=Moment)
    completed_at: datetime | None = Field(default=None, sa_type=Moment)
    status: StepStatus = Field(
        default=StepStatus.RUNNING,
        sa_type=Choice(StepStatus),
        sa_column_kwargs=server("'running'"),
    )
    state: StepState = Field(
        default=StepState.RUNNING,
        sa_type=Choice(StepState),
        sa_column_kwargs=server("'running'"),
    )
    attempt: int = Field(default=1, sa_column_kwargs=server("1"))
    generation: int = Field(default=0, sa_column_kwargs=server("0"))
    records_in: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    records_out: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    processing_time_ms: int | None = None
    memory_usage_mb: int | None = None
    cpu_usage_percent: Decimal | None = Field(default=None, sa_type=Numeric)
    input_data_sample: Json = Field(default=None, nullable=True, sa_type=Document(Json))
    output_data_sample: Json = Field(default=None, nullable=True, sa_type=Document(Json))
    transformation_stats: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    error_message: str | None = Field(default=None, sa_type=Text)
    error_stack: str | None = Field(default=None, sa_type=Text)
    retry_count: int = Field(default=0, sa_column_kwargs=server("0"))


class CommitLedger(Table, table=True):
    """Proof, written in the transaction that commits it, that a partition of a step's output has landed once."""

    __tablename__ = "commit_ledger"

    execution_id: UUID = Field(
        primary_key=True,
        foreign_key="pipeline_executions.id",
        ondelete="CASCADE",
        sa_type=Uuid,
    )
    step_name: str = Field(primary_key=True, sa_type=Text)
    partition: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    rows: int = Field(sa_type=BigInteger)
    token: str | None = Field(default=None, sa_type=Text)
    committed_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))


class Keeping(StrEnum):
    """How long a step's output is kept: until the execution succeeds, for a retention, or not at all."""

    UNTIL_SUCCESS = "until_success"
    ALWAYS = "always"
    NEVER = "never"


class Checkpoint(Table, table=True):
    """What a finished task left: the places of its output's blocks (Arrow IPC), and its report."""

    __tablename__ = "checkpoints"
    __table_args__ = (one_of("kept", Keeping), Index("idx_checkpoints_created", "created_at"))

    execution_id: UUID = Field(primary_key=True, foreign_key="pipeline_executions.id", ondelete="CASCADE", sa_type=Uuid)
    task_name: str = Field(primary_key=True, sa_type=Text)
    generation: int
    attempt: int
    blocks: list[Json] = Field(sa_type=Document(list[Json]))
    report: JsonObject = Field(sa_type=Document(JsonObject))
    kept: Keeping = Field(sa_type=Choice(Keeping))
    created_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))


class PipelineCursor(Table, table=True):
    """How far an incremental step has read; advanced by the execution that committed what it read."""

    __tablename__ = "pipeline_cursors"
    __table_args__ = (Index("idx_pipeline_cursors_execution", "execution_id"),)

    pipeline_id: UUID = Field(
        primary_key=True,
        foreign_key="data_pipelines.id",
        ondelete="CASCADE",
        sa_type=Uuid,
    )
    step_name: str = Field(primary_key=True, sa_type=Text)
    cursor: JsonObject = Field(sa_type=Document(JsonObject))
    execution_id: UUID | None = Field(
        default=None,
        foreign_key="pipeline_executions.id",
        ondelete="SET NULL",
        sa_type=Uuid,
    )
    updated_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))
