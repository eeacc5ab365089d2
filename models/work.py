"""Work to be claimed by whoever is free, and the leases that say who holds what."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, FetchedValue, Index, Text, Uuid, text
from sqlmodel import Field

from models.access import Role
from models.base import Entity, Table
from models.fields import Choice, Document, Json, JsonObject, Moment, one_of, server


class WorkState(StrEnum):
    """Where an item of work stands; a held one waits for its turn, and no claim sees it."""

    HELD = "held"
    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkItem(Entity, table=True):
    """Something to be done: `kind` names who knows how, `subject` the row it is about.

    An execution carries its pipeline, in whose turn it is claimed, and the pool in which it then holds a slot.
    People ask in their own name only: `requested_by` must be theirs, `requested_role` comes from their claims.
    """

    __tablename__ = "work_items"
    __table_args__ = (
        one_of("state", WorkState),
        one_of("requested_role", Role),
        CheckConstraint("kind <> 'execution' OR pipeline_id IS NOT NULL", name="belongs_to_a_pipeline"),
        Index(
            "idx_work_items_claimable",
            text("priority DESC"),
            "created_at",
            postgresql_where=text("state = 'queued' AND kind = 'execution' AND run_after < 'infinity'"),
        ),
        Index(
            "idx_work_items_lanes",
            "pool",
            "pipeline_id",
            text("(- priority)"),
            "created_at",
            postgresql_where=text("state = 'queued' AND kind = 'execution' AND run_after < 'infinity'"),
        ),
        Index(
            "idx_work_items_others",
            text("priority DESC"),
            "created_at",
            postgresql_where=text("state = 'queued' AND kind <> 'execution'"),
        ),
        Index(
            "idx_work_items_lease",
            "lease_expires_at",
            postgresql_where=text("state = 'claimed'"),
        ),
        Index("idx_work_items_subject", "subject"),
        Index(
            "idx_work_items_backfill",
            "backfill_id",
            "state",
            "created_at",
            postgresql_where=text("backfill_id IS NOT NULL AND state IN ('held', 'queued', 'claimed')"),
        ),
        Index(
            "idx_work_items_held", "created_at", postgresql_where=text("state = 'queued' AND run_after = 'infinity'")
        ),
        Index("idx_work_items_running", "pool", "pipeline_id", postgresql_where=text("state = 'claimed'")),
    )

    kind: str = Field(sa_type=Text)
    subject: UUID | None = Field(default=None, sa_type=Uuid)
    payload: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    pipeline_id: UUID | None = Field(default=None, sa_type=Uuid)
    backfill_id: UUID | None = Field(default=None, sa_type=Uuid)
    pool: str = Field(default="default", sa_type=Text, sa_column_kwargs=server("'default'"))
    priority: int = Field(default=0, sa_column_kwargs=server("0"))
    state: WorkState = Field(
        default=WorkState.QUEUED,
        sa_type=Choice(WorkState),
        sa_column_kwargs=server("'queued'"),
    )
    run_after: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))
    attempts: int = Field(default=0, sa_column_kwargs=server("0"))
    holder: str | None = Field(default=None, sa_type=Text)
    lease_expires_at: datetime | None = Field(default=None, sa_type=Moment)
    generation: int = Field(default=0, sa_column_kwargs=server("0"))
    result: Json = Field(default=None, nullable=True, sa_type=Document(Json))
    error: JsonObject | None = Field(default=None, sa_type=Document(JsonObject))
    requested_by: UUID | None = Field(default=None, sa_type=Uuid)
    requested_role: Role | None = Field(
        default=None, sa_type=Choice(Role), sa_column_kwargs={"server_default": FetchedValue()}
    )
    finished_at: datetime | None = Field(default=None, sa_type=Moment)


class Lease(Table, table=True):
    """Who holds a name until when; a new holder raises `generation`, which fences the old one off."""

    __tablename__ = "leases"

    name: str = Field(primary_key=True, sa_type=Text)
    holder: str = Field(sa_type=Text)
    generation: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=server("0"))
    acquired_at: datetime = Field(sa_type=Moment)
    expires_at: datetime = Field(sa_type=Moment)


class ConcurrencyPool(Table, table=True):
    """How many executions may run at once that name this pool; one that has no row here has no limit."""

    __tablename__ = "concurrency_pools"
    __table_args__ = (CheckConstraint("slots > 0", name="has_slots"),)

    name: str = Field(primary_key=True, sa_type=Text)
    slots: int
    created_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))


class PipelineTurn(Table, table=True):
    """When an execution of a pipeline was claimed last: of pipelines that run equally many, the one longest ago goes
    first.
    """

    __tablename__ = "pipeline_turns"

    pipeline_id: UUID = Field(primary_key=True, sa_type=Uuid)
    taken_at: datetime = Field(sa_type=Moment)
