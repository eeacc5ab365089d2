"""Sources of data: where they are, how they are watched, and their sealed credentials."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field as Limited
from sqlalchemy import Text, Uuid
from sqlalchemy.orm import declared_attr, deferred
from sqlmodel import Field

from models.base import ChangingEntity
from models.fields import (
    Choice,
    Document,
    Envelope,
    Moment,
    Sealed,
    StrictModel,
    one_of,
    server,
)
from models.schemas import SchemaConfig


class SourceType(StrEnum):
    """What kind of place data comes from; the plugin within it is the row's `kind`."""

    DATABASE = "database"
    API = "api"
    FILE = "file"
    STREAM = "stream"
    WEBHOOK = "webhook"


class HealthStatus(StrEnum):
    """How the last checks of a source or destination went."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


class MonitoringConfig(StrictModel):
    """How often something is checked, how long an answer may take, and how many failures make it unhealthy."""

    enabled: bool = True
    interval_seconds: int = Limited(default=300, ge=5, le=86_400)
    timeout_seconds: float = Limited(default=10.0, gt=0, le=300)
    failure_threshold: int = Limited(default=3, ge=1, le=100)


class RateLimitConfig(StrictModel):
    """How much may be asked of a source: requests per second with a burst, and requests at a time."""

    requests_per_second: float | None = Limited(default=None, gt=0)
    burst: int = Limited(default=1, ge=1)
    max_concurrent: int | None = Limited(default=None, ge=1)


class DataSource(ChangingEntity, table=True):
    """A place data comes from. The sealed columns are loaded only when a select names them, by the runtime."""

    __tablename__ = "data_sources"
    __table_args__ = (
        one_of("source_type", SourceType),
        one_of("health_status", HealthStatus),
    )

    source_name: str = Field(sa_type=Text, unique=True)
    source_type: SourceType = Field(sa_type=Choice(SourceType))
    kind: str = Field(sa_type=Text)
    connection_config: Envelope = Field(sa_type=Sealed, nullable=False, repr=False)
    schema_config: SchemaConfig = Field(
        default_factory=SchemaConfig,
        sa_type=Document(SchemaConfig),
        sa_column_kwargs=server("'{}'"),
    )
    monitoring_config: MonitoringConfig = Field(
        default_factory=MonitoringConfig,
        sa_type=Document(MonitoringConfig),
        sa_column_kwargs=server("'{}'"),
    )
    rate_limit_config: RateLimitConfig = Field(
        default_factory=RateLimitConfig,
        sa_type=Document(RateLimitConfig),
        sa_column_kwargs=server("'{}'"),
    )
    authentication_config: Envelope | None = Field(
        default=None,
        sa_type=Sealed,
        nullable=False,
        repr=False,
        sa_column_kwargs=server("'{}'"),
    )
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    health_status: HealthStatus = Field(
        default=HealthStatus.UNKNOWN,
        sa_type=Choice(HealthStatus),
        sa_column_kwargs=server("'unknown'"),
    )
    last_health_check: datetime | None = Field(default=None, sa_type=Moment)
    archived_at: datetime | None = Field(default=None, sa_type=Moment)
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        columns = cls.__table__.columns  # type: ignore[attr-defined]
        sealed = ("connection_config", "authentication_config")
        return {
            "eager_defaults": True,
            "properties": {name: deferred(columns[name], raiseload=True) for name in sealed},
        }
