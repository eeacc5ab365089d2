"""What every table shares: a UUID made by either side, and the moments PostgreSQL keeps."""

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import FetchedValue, Uuid
from sqlmodel import Field, SQLModel

from models.fields import Moment, StrictModel, server

__all__ = ["ChangingEntity", "Entity", "StrictModel", "Table"]


class Table(SQLModel):
    """Base of all tables: what PostgreSQL computes on a write comes back with that write, never by a later read."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}


class Entity(Table):
    """A row with an identity and the moment of its making."""

    id: UUID = Field(
        default_factory=uuid4,
        primary_key=True,
        sa_type=Uuid,
        sa_column_kwargs=server("gen_random_uuid()"),
    )
    created_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))


class ChangingEntity(Entity):
    """An entity whose last change a trigger stamps."""

    updated_at: datetime = Field(
        default=None,
        nullable=False,
        sa_type=Moment,
        sa_column_kwargs={**server("now()"), "server_onupdate": FetchedValue()},
    )
