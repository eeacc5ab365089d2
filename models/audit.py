"""The audit log: who did what to which thing, append-only, each entry hashed over the one before."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, FetchedValue, Index, LargeBinary, Text, Uuid
from sqlmodel import Field

from models.base import Table
from models.fields import Document, JsonObject, Moment, server


class AuditEntry(Table, table=True):
    """One deed. Write it with a plain `INSERT` (`sqlmodel.insert(AuditEntry).inline()`), as the transaction's last act.

    PostgreSQL numbers, dates and chains it and holds the chain's end until the commit, which is why it comes last;
    most who may write may not read, so nothing may be returned. `wedsync.verify_audit()` gives the first broken id.
    `actor` and `actor_role` must be the transaction's own; the runtime writes no actor and `RUNTIME_ACTOR`.
    """

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("idx_audit_log_entity", "entity_type", "entity_id"),
        Index("idx_audit_log_actor", "actor", "recorded_at"),
    )

    id: int = Field(
        default=None,
        primary_key=True,
        sa_type=BigInteger,
        sa_column_kwargs={"autoincrement": False, "server_default": FetchedValue()},
    )
    recorded_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))
    actor: UUID | None = Field(default=None, sa_type=Uuid)
    actor_role: str = Field(sa_type=Text)
    action: str = Field(sa_type=Text)
    entity_type: str = Field(sa_type=Text)
    entity_id: str | None = Field(default=None, sa_type=Text)
    detail: JsonObject = Field(
        default_factory=dict,
        sa_type=Document(JsonObject),
        sa_column_kwargs=server("'{}'"),
    )
    previous_hash: bytes = Field(
        default=None,
        nullable=False,
        sa_type=LargeBinary,
        sa_column_kwargs={"server_default": FetchedValue()},
    )
    hash: bytes = Field(
        default=None,
        nullable=False,
        sa_type=LargeBinary,
        sa_column_kwargs={"server_default": FetchedValue()},
    )
