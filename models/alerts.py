"""Alerts: what sets them off, whom they reach, when they are held back, and each time they went off."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import Field as Limited
from pydantic import model_validator
from sqlalchemy import Index, Text, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity, Entity
from models.fields import Choice, Document, Json, Moment, StrictModel, one_of, server
from models.reports import DeliveryChannel


class AlertType(StrEnum):
    """What an alert watches."""

    PIPELINE_FAILURE = "pipeline_failure"
    DATA_QUALITY = "data_quality"
    PERFORMANCE = "performance"
    RESOURCE = "resource"


class AlertSeverity(StrEnum):
    """How bad it is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class AlertStatus(StrEnum):
    """What became of an alert that went off."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    SUPPRESSED = "suppressed"


class ConditionOperator(StrEnum):
    """How a measure is compared."""

    ABOVE = "above"
    BELOW = "below"
    EQUALS = "equals"
    NOT_EQUALS = "not_equals"


class DeliveryState(StrEnum):
    """How a notification fares."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class AlertCondition(StrictModel):
    """A comparison of a measure over the last `window_minutes`."""

    metric: str = Limited(min_length=1)
    operator: ConditionOperator
    value: Json
    window_minutes: float = Limited(default=5, gt=0)


class AlertConditions(StrictModel):
    """When an alert goes off: for these pipelines (all, when none is named), when every condition holds."""

    pipelines: tuple[str, ...] = ()
    all_of: tuple[AlertCondition, ...] = ()


class EscalationStep(StrictModel):
    """Whom to tell when nobody has answered for so long."""

    after_minutes: float = Limited(gt=0)
    notification_channels: tuple[DeliveryChannel, ...]
    severity: AlertSeverity | None = None


class EscalationPolicy(StrictModel):
    """The steps of an escalation, each later than the one before."""

    steps: tuple[EscalationStep, ...] = ()

    @model_validator(mode="after")
    def _steps_follow(self) -> "EscalationPolicy":
        minutes = [step.after_minutes for step in self.steps]
        if minutes != sorted(set(minutes)):
            raise ValueError("after_minutes must grow from step to step")
        return self


class MaintenanceWindow(StrictModel):
    """A time in which an alert is held back."""

    starts_at: datetime
    ends_at: datetime


class SuppressionConfig(StrictModel):
    """When an alert is held back: soon after the last one, beyond a number an hour, during maintenance."""

    cooldown_minutes: float = Limited(default=0, ge=0)
    max_per_hour: int | None = Limited(default=None, ge=1)
    maintenance_windows: tuple[MaintenanceWindow, ...] = ()


class AlertData(StrictModel):
    """What set an alert off."""

    message: str
    pipeline_name: str | None = None
    step_name: str | None = None
    measures: dict[str, Json] = Limited(default_factory=dict)


class NotificationStatus(StrictModel):
    """How one channel's notification fares."""

    state: DeliveryState
    attempts: int = 0
    at: datetime | None = None
    error_message: str | None = None


class PipelineAlert(ChangingEntity, table=True):
    """An alert."""

    __tablename__ = "pipeline_alerts"
    __table_args__ = (
        one_of("alert_type", AlertType),
        one_of("severity", AlertSeverity),
    )

    alert_name: str = Field(sa_type=Text)
    alert_type: AlertType = Field(sa_type=Choice(AlertType))
    conditions: AlertConditions = Field(sa_type=Document(AlertConditions))
    notification_channels: list[DeliveryChannel] = Field(
        default_factory=list,
        sa_type=Document(list[DeliveryChannel]),
        sa_column_kwargs=server("'[]'"),
    )
    escalation_policy: EscalationPolicy = Field(
        default_factory=EscalationPolicy,
        sa_type=Document(EscalationPolicy),
        sa_column_kwargs=server("'{}'"),
    )
    suppression_config: SuppressionConfig = Field(
        default_factory=SuppressionConfig,
        sa_type=Document(SuppressionConfig),
        sa_column_kwargs=server("'{}'"),
    )
    severity: AlertSeverity = Field(
        default=AlertSeverity.MEDIUM,
        sa_type=Choice(AlertSeverity),
        sa_column_kwargs=server("'medium'"),
    )
    is_enabled: bool = Field(default=True, sa_column_kwargs=server("true"))
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)


class AlertInstance(Entity, table=True):
    """One time an alert went off."""

    __tablename__ = "alert_instances"
    __table_args__ = (
        one_of("status", AlertStatus),
        one_of("severity", AlertSeverity),
        Index("idx_alert_instances_triggered", text("triggered_at DESC")),
        Index("idx_alert_instances_status", "status"),
        Index("idx_alert_instances_alert", "alert_id"),
        Index("idx_alert_instances_execution", "pipeline_execution_id"),
    )

    alert_id: UUID = Field(foreign_key="pipeline_alerts.id", ondelete="CASCADE", sa_type=Uuid)
    pipeline_execution_id: UUID | None = Field(default=None, foreign_key="pipeline_executions.id", sa_type=Uuid)
    triggered_at: datetime = Field(sa_type=Moment)
    resolved_at: datetime | None = Field(default=None, sa_type=Moment)
    status: AlertStatus = Field(
        default=AlertStatus.OPEN,
        sa_type=Choice(AlertStatus),
        sa_column_kwargs=server("'open'"),
    )
    severity: AlertSeverity = Field(sa_type=Choice(AlertSeverity))
    alert_data: AlertData = Field(sa_type=Document(AlertData))
    notification_status: dict[str, NotificationStatus] = Field(
        default_factory=dict,
        sa_type=Document(dict[str, NotificationStatus]),
        sa_column_kwargs=server("'{}'"),
    )
    acknowledged_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    resolved_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
    resolution_notes: str | None = Field(default=None, sa_type=Text)
