"""Reports: what they show, from where, when, to whom and for how long they are kept."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import Field as Limited
from sqlalchemy import Text, Uuid
from sqlmodel import Field

from models.access import Role
from models.base import ChangingEntity
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
from models.schedules import CronSchedule, IntervalSchedule


class ReportType(StrEnum):
    """When a report is made."""

    DASHBOARD = "dashboard"
    SCHEDULED = "scheduled"
    ADHOC = "adhoc"
    ALERT = "alert"


class ReportFormat(StrEnum):
    """What a report is made as."""

    HTML = "html"
    PDF = "pdf"
    EXCEL = "excel"
    JSON = "json"


class RefreshStrategy(StrEnum):
    """When the data of a report is read anew."""

    REALTIME = "realtime"
    SCHEDULED = "scheduled"
    MANUAL = "manual"


class VisualizationType(StrEnum):
    """What a part of a report is."""

    TABLE = "table"
    CHART = "chart"
    METRIC = "metric"
    TEXT = "text"


class ChannelType(StrEnum):
    """How something reaches people."""

    EMAIL = "email"
    SLACK = "slack"
    WEBHOOK = "webhook"


class CacheKeyStrategy(StrEnum):
    """Whether a report's parameters are part of its cache key."""

    SIMPLE = "simple"
    PARAMETERIZED = "parameterized"


class TableReference(StrictModel):
    """A table to read."""

    table_name: str = Limited(min_length=1)


class QueryReference(StrictModel):
    """A query to run."""

    query: str = Limited(min_length=1)


class EndpointReference(StrictModel):
    """An endpoint to ask."""

    api_endpoint: str = Limited(min_length=1)


class TableData(StrictModel):
    """Data of a report that is a table."""

    source_type: Literal["table"]
    source_config: TableReference
    refresh_strategy: RefreshStrategy


class QueryData(StrictModel):
    """Data of a report that a query answers."""

    source_type: Literal["query"]
    source_config: QueryReference
    refresh_strategy: RefreshStrategy


class EndpointData(StrictModel):
    """Data of a report that an API answers."""

    source_type: Literal["api"]
    source_config: EndpointReference
    refresh_strategy: RefreshStrategy


ReportData: TypeAlias = Annotated[TableData | QueryData | EndpointData, Limited(discriminator="source_type")]
"""Where data of a report comes from, tagged by `source_type`."""


class Visualization(StrictModel):
    """A part of a report."""

    type: VisualizationType
    title: str
    data_source: str
    config: JsonObject


class ReportFilter(StrictModel):
    """A condition on a report's rows, which a reader may change where `user_configurable`."""

    column: str
    operator: str
    value: Json
    user_configurable: bool


class ReportConfig(StrictModel):
    """What a report is made of."""

    format: ReportFormat
    visualizations: tuple[Visualization, ...]
    filters: tuple[ReportFilter, ...] = ()


ReportSchedule: TypeAlias = Annotated[CronSchedule | IntervalSchedule, Limited(discriminator="type")]
"""When a report is made, tagged by `type`."""


class DeliveryChannel(StrictModel):
    """A way to people and its settings."""

    type: ChannelType
    config: JsonObject


class DeliveryCondition(StrictModel):
    """A condition without which a report is not sent."""

    metric: str
    operator: str
    value: Json


class DeliveryConfig(StrictModel):
    """Where a report is sent, and when."""

    channels: tuple[DeliveryChannel, ...] = ()
    conditions: tuple[DeliveryCondition, ...] = ()


class CacheConfig(StrictModel):
    """How long a made report answers for a new one."""

    enabled: bool = False
    ttl_minutes: float = Limited(default=60, ge=0)
    cache_key_strategy: CacheKeyStrategy = CacheKeyStrategy.PARAMETERIZED


class AccessControl(StrictModel):
    """Who may read a report."""

    public: bool = False
    allowed_roles: tuple[Role, ...] = ()
    allowed_users: tuple[str, ...] = ()


class BiReport(ChangingEntity, table=True):
    """A report."""

    __tablename__ = "bi_reports"
    __table_args__ = (one_of("report_type", ReportType),)

    report_name: str = Field(sa_type=Text, unique=True)
    report_type: ReportType = Field(sa_type=Choice(ReportType))
    data_sources: list[ReportData] = Field(sa_type=Document(list[ReportData]))
    report_config: ReportConfig = Field(sa_type=Document(ReportConfig))
    schedule_config: ReportSchedule | None = Field(
        default=None,
        nullable=False,
        sa_type=Document(ReportSchedule, empty_is_none=True),
        sa_column_kwargs=server("'{}'"),
    )
    delivery_config: DeliveryConfig = Field(
        default_factory=DeliveryConfig,
        sa_type=Document(DeliveryConfig),
        sa_column_kwargs=server("'{}'"),
    )
    cache_config: CacheConfig = Field(
        default_factory=CacheConfig,
        sa_type=Document(CacheConfig),
        sa_column_kwargs=server("'{}'"),
    )
    access_control: AccessControl = Field(
        default_factory=AccessControl,
        sa_type=Document(AccessControl),
        sa_column_kwargs=server("'{}'"),
    )
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    last_generated: datetime | None = Field(default=None, sa_type=Moment)
    generation_duration_ms: int | None = None
    created_by: UUID | None = Field(default=None, foreign_key="auth.users.id", sa_type=Uuid)
