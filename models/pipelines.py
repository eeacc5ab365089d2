"""Pipelines, their immutable versions and their steps."""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from pydantic import Field as Limited
from pydantic import model_validator
from sqlalchemy import CheckConstraint, Index, Text, UniqueConstraint, Uuid
from sqlmodel import Field

from models.base import ChangingEntity, Entity
from models.fields import (
    Choice,
    Document,
    Json,
    JsonObject,
    Moment,
    OrderedDocument,
    StrictModel,
    one_of,
    server,
)

POOL_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_.\-]*$"
MOST_POOL_NAME: Final = 120
MOST_PRIORITY: Final = 1000


class PipelineType(StrEnum):
    """What a pipeline does: `etl` loads, `streaming` owns a processor, `reporting` ends in a report, `sync` mirrors."""

    ETL = "etl"
    STREAMING = "streaming"
    REPORTING = "reporting"
    SYNC = "sync"


class StepType(StrEnum):
    """The part a step plays."""

    EXTRACT = "extract"
    TRANSFORM = "transform"
    LOAD = "load"
    VALIDATE = "validate"
    NOTIFY = "notify"


class RetryClass(StrEnum):
    """Which failures a retry policy repeats."""

    RETRYABLE = "retryable"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    WORKER_LOST = "worker_lost"


class QualityAction(StrEnum):
    """What a failed quality check does to its pipeline."""

    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


class RetryPolicy(StrictModel):
    """How often a step runs at most, the first time included, and after which pause it runs again.

    Pauses are in seconds; `jitter` is the share of the pause drawn. The default gives WS-269's three retries.
    """

    max_attempts: int = Limited(default=4, ge=1, le=100)
    initial_seconds: float = Limited(default=1.0, ge=0, le=3600)
    multiplier: float = Limited(default=2.0, ge=1, le=100)
    max_seconds: float = Limited(default=60.0, ge=0, le=86_400)
    jitter: float = Limited(default=0.1, ge=0, le=1)
    retry_on: tuple[RetryClass, ...] = tuple(RetryClass)

    @model_validator(mode="after")
    def _pauses_grow(self) -> "RetryPolicy":
        if self.max_seconds < self.initial_seconds:
            raise ValueError("max_seconds must not be less than initial_seconds")
        return self


class RetryOverrides(StrictModel):
    """What one step does otherwise than its pipeline's retry policy; what is not set is as the pipeline has it."""

    max_attempts: int | None = Limited(default=None, ge=1, le=100)
    initial_seconds: float | None = Limited(default=None, ge=0, le=3600)
    multiplier: float | None = Limited(default=None, ge=1, le=100)
    max_seconds: float | None = Limited(default=None, ge=0, le=86_400)
    jitter: float | None = Limited(default=None, ge=0, le=1)
    retry_on: tuple[RetryClass, ...] | None = None

    def over(self, policy: RetryPolicy) -> RetryPolicy:
        """The policy with these overrides; raises ValueError when its pauses would shrink."""
        return RetryPolicy.model_validate(policy.model_dump() | self.model_dump(exclude_none=True))


class Concurrency(StrictModel):
    """How many executions of a pipeline run at once at most, in which pool each holds a slot, and how urgent they are.

    The more urgent is claimed first; -1000 to 1000, 0 unless set. A pool that has no size limits nothing.
    """

    max_active: int | None = Limited(default=None, ge=1, le=10_000)
    pool: str = Limited(default="default", pattern=POOL_NAME, max_length=MOST_POOL_NAME)
    priority: int = Limited(default=0, ge=-MOST_PRIORITY, le=MOST_PRIORITY)


class Resources(StrictModel):
    """What each task of a step may use: memory in MB, beside what its worker holds before it begins, and processors.

    A task that outgrows its memory fails with `memory_limit`; both are also what a node must have free to run it.
    """

    memory_mb: int | None = Limited(default=None, ge=128, le=1_048_576)
    cpus: float | None = Limited(default=None, ge=0.1, le=256)

    @model_validator(mode="after")
    def _whole_processors(self) -> "Resources":
        if self.cpus is not None and self.cpus > 1 and self.cpus != int(self.cpus):
            raise ValueError("cpus above 1 is a whole number")
        return self


class QualityCheckRef(StrictModel):
    """A quality rule that a pipeline's rows must pass, by id or name; `threshold` is a pass rate of 0-100 %."""

    rule_id: str = Limited(min_length=1)
    threshold: float = Limited(ge=0, le=100)
    action: QualityAction


class AlertConfig(StrictModel):
    """Which of a pipeline's misfortunes are told, and where."""

    on_failure: bool = True
    on_quality_issues: bool = True
    notification_channels: tuple[str, ...] = ()


class DataPipeline(ChangingEntity, table=True):
    """A pipeline; its JSON columns are projections of the newest version's document, in the simple form of WS-269.

    An archived pipeline has `archived_at` and the name `<name>~archived~<8 hex>`, so that its name is free again.
    """

    __tablename__ = "data_pipelines"
    __table_args__ = (one_of("pipeline_type", PipelineType), CheckConstraint("max_active > 0", name="may_run"))

    pipeline_name: str = Field(sa_type=Text, unique=True)
    pipeline_type: PipelineType = Field(sa_type=Choice(PipelineType))
    description: str | None = Field(default=None, sa_type=Text)
    source_config: JsonObject = Field(sa_type=Document(JsonObject))
    destination_config: JsonObject = Field(sa_type=Document(JsonObject))
    transformation_config: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    schedule_config: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    retry_policy: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    quality_checks: list[Json] = Field(
        default_factory=list,
        sa_type=Document(list[Json]),
        sa_column_kwargs=server("'[]'"),
    )
    alert_config: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    tags: list[str] = Field(
        default_factory=list,
        sa_type=Document(list[str]),
        sa_column_kwargs=server("'[]'"),
    )
    max_active: int | None = Field(default=None)
    pool: str = Field(default="default", sa_type=Text, sa_column_kwargs=server("'default'"))
    priority: int = Field(default=0, sa_column_kwargs=server("0"))
    deadline_minutes: int | None = None
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    is_paused: bool = Field(default=False, sa_column_kwargs=server("false"))
    version: int = Field(default=0, sa_column_kwargs=server("0"))
    archived_at: datetime | None = Field(default=None, sa_type=Moment)
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)


class PipelineVersion(Entity, table=True):
    """What a pipeline was at one save: the document as it was written, and the plan compiled from it. Never changed."""

    __tablename__ = "pipeline_versions"
    __table_args__ = (UniqueConstraint("pipeline_id", "version"),)

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    version: int
    document: JsonObject = Field(sa_type=OrderedDocument(JsonObject))
    fingerprint: str = Field(sa_type=Text)
    plan: JsonObject | None = Field(default=None, sa_type=OrderedDocument(JsonObject))
    difference: list[Json] = Field(
        default_factory=list,
        sa_type=Document(list[Json]),
        sa_column_kwargs=server("'[]'"),
    )
    message: str | None = Field(default=None, sa_type=Text)
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)


class PipelineStep(ChangingEntity, table=True):
    """A step of the newest version in its explicit form; one that a later version dropped is disabled, not deleted."""

    __tablename__ = "pipeline_steps"
    __table_args__ = (
        UniqueConstraint("pipeline_id", "step_name"),
        one_of("step_type", StepType),
        Index("idx_pipeline_steps_order", "pipeline_id", "step_order"),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    step_name: str = Field(sa_type=Text)
    step_type: StepType = Field(sa_type=Choice(StepType))
    kind: str | None = Field(default=None, sa_type=Text)
    step_order: int
    step_config: JsonObject = Field(sa_type=Document(JsonObject))
    depends_on: list[str] = Field(
        default_factory=list,
        sa_type=Document(list[str]),
        sa_column_kwargs=server("'[]'"),
    )
    parallel_execution: bool = Field(default=False, sa_column_kwargs=server("false"))
    timeout_minutes: int = Field(default=60, sa_column_kwargs=server("60"))
    retry_attempts: int = Field(default=3, sa_column_kwargs=server("3"))
    critical: bool = Field(default=True, sa_column_kwargs=server("true"))
    is_enabled: bool = Field(default=True, sa_column_kwargs=server("true"))
