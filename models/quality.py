"""Quality rules, what their checks found, and the rows set aside for review."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from pydantic import Field as Limited
from sqlalchemy import BigInteger, Index, Numeric, Text, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity, Entity
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


class RuleType(StrEnum):
    """The dimension of quality that a rule measures."""

    COMPLETENESS = "completeness"
    ACCURACY = "accuracy"
    CONSISTENCY = "consistency"
    VALIDITY = "validity"
    UNIQUENESS = "uniqueness"


class RuleSeverity(StrEnum):
    """How bad a failed rule is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class CheckStatus(StrEnum):
    """How a check ended; `failed` when its pass rate is under the threshold or it could not be computed."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class QuarantineStatus(StrEnum):
    """What became of a row set aside."""

    PENDING = "pending"
    RELEASED = "released"
    CORRECTED = "corrected"
    DISCARDED = "discarded"


class RuleConfig(StrictModel):
    """The values of a rule's expression, and code of its own in place of one."""

    parameters: dict[str, Json] = Limited(default_factory=dict)
    custom_logic: str | None = None


class ThresholdConfig(StrictModel):
    """The pass rate (0-100 %) from which a rule passes, and its weight in the overall score."""

    pass_threshold: float = Limited(default=100.0, ge=0, le=100)
    quality_weight: float = Limited(default=1.0, ge=0, le=1000)


class RuleResult(StrictModel):
    """What a check measured beside its counts."""

    execution_time_ms: int = 0
    threshold: float | None = None
    action: str | None = None
    measures: dict[str, Json] = Limited(default_factory=dict)
    remediation_suggestions: tuple[str, ...] = ()
    error_message: str | None = None


class DataQualityRule(ChangingEntity, table=True):
    """A statement that the rows of a table should satisfy."""

    __tablename__ = "data_quality_rules"
    __table_args__ = (one_of("rule_type", RuleType), one_of("severity", RuleSeverity))

    rule_name: str = Field(sa_type=Text, unique=True)
    rule_type: RuleType = Field(sa_type=Choice(RuleType))
    target_table: str = Field(sa_type=Text)
    target_column: str | None = Field(default=None, sa_type=Text)
    rule_expression: str = Field(sa_type=Text)
    rule_config: RuleConfig = Field(
        default_factory=RuleConfig,
        sa_type=Document(RuleConfig),
        sa_column_kwargs=server("'{}'"),
    )
    severity: RuleSeverity = Field(
        default=RuleSeverity.WARNING,
        sa_type=Choice(RuleSeverity),
        sa_column_kwargs=server("'warning'"),
    )
    threshold_config: ThresholdConfig = Field(
        default_factory=ThresholdConfig,
        sa_type=Document(ThresholdConfig),
        sa_column_kwargs=server("'{}'"),
    )
    alert_on_failure: bool = Field(default=True, sa_column_kwargs=server("true"))
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)


class DataQualityCheck(Entity, table=True):
    """What one evaluation of a rule found; rates and scores are 0-100. Without an execution it was made on demand."""

    __tablename__ = "data_quality_checks"
    __table_args__ = (
        one_of("status", CheckStatus),
        Index("idx_data_quality_checks_execution", "pipeline_execution_id"),
        Index("idx_data_quality_checks_timestamp", text("check_timestamp DESC")),
        Index("idx_data_quality_checks_rule", "rule_id", text("check_timestamp DESC")),
    )

    pipeline_execution_id: UUID | None = Field(
        default=None,
        foreign_key="pipeline_executions.id",
        ondelete="CASCADE",
        sa_type=Uuid,
    )
    rule_id: UUID = Field(foreign_key="data_quality_rules.id", ondelete="CASCADE", sa_type=Uuid)
    check_timestamp: datetime = Field(sa_type=Moment)
    records_checked: int = Field(sa_type=BigInteger)
    records_passed: int = Field(sa_type=BigInteger)
    records_failed: int = Field(sa_type=BigInteger)
    pass_rate: Decimal = Field(sa_type=Numeric)
    quality_score: Decimal = Field(sa_type=Numeric)
    rule_result: RuleResult = Field(sa_type=Document(RuleResult))
    sample_failures: list[Json] = Field(
        default_factory=list,
        sa_type=Document(list[Json]),
        sa_column_kwargs=server("'[]'"),
    )
    remediation_suggested: str | None = Field(default=None, sa_type=Text)
    status: CheckStatus = Field(
        default=CheckStatus.COMPLETED,
        sa_type=Choice(CheckStatus),
        sa_column_kwargs=server("'completed'"),
    )


class QuarantinedRow(Entity, table=True):
    """A row that an execution set aside: as it came, why, and what a reviewer made of it."""

    __tablename__ = "quarantined_rows"
    __table_args__ = (
        one_of("status", QuarantineStatus),
        Index("idx_quarantined_rows_execution", "pipeline_execution_id"),
        Index(
            "idx_quarantined_rows_pending",
            "created_at",
            postgresql_where=text("status = 'pending'"),
        ),
    )

    pipeline_execution_id: UUID = Field(foreign_key="pipeline_executions.id", ondelete="CASCADE", sa_type=Uuid)
    step_name: str = Field(sa_type=Text)
    rule_id: UUID | None = Field(
        default=None,
        foreign_key="data_quality_rules.id",
        ondelete="SET NULL",
        sa_type=Uuid,
    )
    row: JsonObject = Field(sa_type=Document(JsonObject))
    corrected_row: JsonObject | None = Field(default=None, sa_type=Document(JsonObject))
    reason: str = Field(sa_type=Text)
    status: QuarantineStatus = Field(
        default=QuarantineStatus.PENDING,
        sa_type=Choice(QuarantineStatus),
        sa_column_kwargs=server("'pending'"),
    )
    reviewed_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    reviewed_at: datetime | None = Field(default=None, sa_type=Moment)
