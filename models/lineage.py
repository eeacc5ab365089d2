"""Where each dataset, table and column comes from."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, Numeric, Text, Uuid
from sqlmodel import Field

from models.base import ChangingEntity
from models.fields import Choice, Document, StrictModel, one_of, server


class LineageTransformation(StrEnum):
    """How the target follows from the source."""

    DIRECT = "direct"
    AGGREGATION = "aggregation"
    JOIN = "join"
    CALCULATION = "calculation"
    DERIVED = "derived"


class ImpactType(StrEnum):
    """What a change of the source would do to the target."""

    BREAKING = "breaking"
    DEGRADING = "degrading"
    INFORMATIONAL = "informational"


class ImpactNote(StrictModel):
    """What the last analysis said a change of this edge's source would touch."""

    impact_type: ImpactType | None = None
    affected_pipelines: tuple[str, ...] = ()
    affected_reports: tuple[str, ...] = ()
    analysed_at: datetime | None = None


class DataLineage(ChangingEntity, table=True):
    """An edge from a source to a target, down to columns; confidence is 0-1."""

    __tablename__ = "data_lineage"
    __table_args__ = (
        one_of("transformation_type", LineageTransformation),
        Index("idx_data_lineage_source", "source_dataset", "source_table"),
        Index("idx_data_lineage_target", "target_dataset", "target_table"),
        Index("idx_data_lineage_pipeline", "pipeline_id"),
    )

    source_dataset: str = Field(sa_type=Text)
    source_table: str | None = Field(default=None, sa_type=Text)
    source_column: str | None = Field(default=None, sa_type=Text)
    target_dataset: str = Field(sa_type=Text)
    target_table: str | None = Field(default=None, sa_type=Text)
    target_column: str | None = Field(default=None, sa_type=Text)
    transformation_type: LineageTransformation | None = Field(default=None, sa_type=Choice(LineageTransformation))
    transformation_logic: str | None = Field(default=None, sa_type=Text)
    pipeline_id: UUID | None = Field(default=None, foreign_key="data_pipelines.id", sa_type=Uuid)
    confidence_score: Decimal = Field(default=Decimal("1.0"), sa_type=Numeric, sa_column_kwargs=server("1.0"))
    impact_analysis: ImpactNote = Field(
        default_factory=ImpactNote,
        sa_type=Document(ImpactNote),
        sa_column_kwargs=server("'{}'"),
    )
