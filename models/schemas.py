"""Schemas of datasets and the versions they went through."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import Field as Limited
from pydantic import model_validator
from sqlalchemy import Text, UniqueConstraint, Uuid
from sqlmodel import Field

from models.base import Entity
from models.fields import Choice, Document, Json, Moment, StrictModel, one_of, server


class CompatibilityMode(StrEnum):
    """Whose data a new schema must be able to read: its predecessor's, its successor's, both, or nobody's."""

    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"
    NONE = "none"


class ChangeKind(StrEnum):
    """What happened to a column between two versions."""

    COLUMN_ADDED = "column_added"
    COLUMN_REMOVED = "column_removed"
    COLUMN_RENAMED = "column_renamed"
    TYPE_CHANGED = "type_changed"
    NULLABILITY_CHANGED = "nullability_changed"


class ColumnDefinition(StrictModel):
    """A column: its name, its type as Arrow writes it (`int64`, `timestamp[us, tz=UTC]`), whether it may be null."""

    name: str = Limited(min_length=1)
    type: str = Limited(min_length=1)
    nullable: bool = True
    description: str | None = None


class SchemaDefinition(StrictModel):
    """The columns of a dataset in order, and those that identify a row, where known."""

    columns: tuple[ColumnDefinition, ...]
    primary_key: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_are_columns(self) -> "SchemaDefinition":
        names = [column.name for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"columns must have distinct names; more than once: {', '.join(twice)}")
        unknown = sorted(set(self.primary_key) - set(names))
        if unknown:
            raise ValueError(f"primary_key names no column: {', '.join(unknown)}")
        return self


class SchemaConfig(StrictModel):
    """The schema expected of a source or destination, by dataset (table, file, endpoint), and how strictly."""

    datasets: dict[str, SchemaDefinition] = Limited(default_factory=dict)
    compatibility_mode: CompatibilityMode = CompatibilityMode.BACKWARD


class SchemaChange(StrictModel):
    """One difference from the version before; types or names before and after where the kind has them."""

    kind: ChangeKind
    column: str
    before: str | None = None
    after: str | None = None
    breaking: bool = False


class SchemaVersion(Entity, table=True):
    """What the schema of one dataset of a source or a destination was, from one discovery to the next."""

    __tablename__ = "schema_versions"
    __table_args__ = (
        UniqueConstraint(
            "source_id",
            "destination_id",
            "dataset",
            "version_number",
            postgresql_nulls_not_distinct=True,
        ),
        one_of("compatibility_mode", CompatibilityMode),
    )

    source_id: UUID | None = Field(default=None, foreign_key="data_sources.id", sa_type=Uuid)
    destination_id: UUID | None = Field(default=None, foreign_key="data_destinations.id", sa_type=Uuid)
    dataset: str | None = Field(default=None, sa_type=Text)
    version_number: int
    schema_definition: SchemaDefinition = Field(sa_type=Document(SchemaDefinition))
    schema_changes: list[SchemaChange] = Field(
        default_factory=list,
        sa_type=Document(list[SchemaChange]),
        sa_column_kwargs=server("'[]'"),
    )
    compatibility_mode: CompatibilityMode = Field(
        default=CompatibilityMode.BACKWARD,
        sa_type=Choice(CompatibilityMode),
        sa_column_kwargs=server("'backward'"),
    )
    migration_script: str | None = Field(default=None, sa_type=Text)
    validation_rules: list[Json] = Field(
        default_factory=list,
        sa_type=Document(list[Json]),
        sa_column_kwargs=server("'[]'"),
    )
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    applied_at: datetime | None = Field(default=None, sa_type=Moment)
