"""Destinations of data: where they are, and how loads partition, index and keep what they replace."""

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
from models.sources import HealthStatus


class DestinationType(StrEnum):
    """What kind of place data goes to; the plugin within it is the row's `kind`."""

    DATABASE = "database"
    WAREHOUSE = "warehouse"
    API = "api"
    FILE = "file"
    STREAM = "stream"


class WriteMode(StrEnum):
    """What a load does to the rows that are there."""

    APPEND = "append"
    OVERWRITE = "overwrite"
    UPSERT = "upsert"


class PartitionStrategy(StrEnum):
    """How a destination divides a table among its partitions."""

    RANGE = "range"
    LIST = "list"
    HASH = "hash"


class PartitionGranularity(StrEnum):
    """How much time one range partition covers."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


class IndexMethod(StrEnum):
    """PostgreSQL's index methods that a load may ask for."""

    BTREE = "btree"
    HASH = "hash"
    GIN = "gin"
    BRIN = "brin"


class PartitionConfig(StrictModel):
    """How the tables of a destination are partitioned; without columns, not at all."""

    columns: tuple[str, ...] = ()
    strategy: PartitionStrategy = PartitionStrategy.RANGE
    granularity: PartitionGranularity = PartitionGranularity.MONTH
    buckets: int = Limited(default=8, ge=2, le=1024)


class IndexDefinition(StrictModel):
    """An index that a load makes sure of."""

    columns: tuple[str, ...] = Limited(min_length=1)
    unique: bool = False
    method: IndexMethod = IndexMethod.BTREE
    name: str | None = Limited(default=None, min_length=1, max_length=63)
    table: str | None = None


class IndexingConfig(StrictModel):
    """The indexes of a destination's tables; one without `table` is made on every table that has its columns."""

    indexes: tuple[IndexDefinition, ...] = ()


class BackupConfig(StrictModel):
    """Whether an overwrite keeps what it replaces, how many versions of it and for how many days."""

    enabled: bool = False
    keep_versions: int = Limited(default=1, ge=1, le=100)
    retention_days: int = Limited(default=7, ge=1, le=3650)


class DataDestination(ChangingEntity, table=True):
    """A place data goes to. The sealed column is loaded only when a select names it, by the runtime."""

    __tablename__ = "data_destinations"
    __table_args__ = (
        one_of("destination_type", DestinationType),
        one_of("write_mode", WriteMode),
        one_of("health_status", HealthStatus),
    )

    destination_name: str = Field(sa_type=Text, unique=True)
    destination_type: DestinationType = Field(sa_type=Choice(DestinationType))
    kind: str = Field(sa_type=Text)
    connection_config: Envelope = Field(sa_type=Sealed, nullable=False, repr=False)
    schema_config: SchemaConfig = Field(
        default_factory=SchemaConfig,
        sa_type=Document(SchemaConfig),
        sa_column_kwargs=server("'{}'"),
    )
    write_mode: WriteMode = Field(
        default=WriteMode.APPEND,
        sa_type=Choice(WriteMode),
        sa_column_kwargs=server("'append'"),
    )
    partition_config: PartitionConfig = Field(
        default_factory=PartitionConfig,
        sa_type=Document(PartitionConfig),
        sa_column_kwargs=server("'{}'"),
    )
    indexing_config: IndexingConfig = Field(
        default_factory=IndexingConfig,
        sa_type=Document(IndexingConfig),
        sa_column_kwargs=server("'{}'"),
    )
    backup_config: BackupConfig = Field(
        default_factory=BackupConfig,
        sa_type=Document(BackupConfig),
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
        return {
            "eager_defaults": True,
            "properties": {"connection_config": deferred(columns["connection_config"], raiseload=True)},
        }
