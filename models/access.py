"""Who may do what: the three roles of people, the database's roles, and the users that rows refer to."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Uuid
from sqlmodel import Field

from models.base import Table
from models.fields import Moment, server

RUNTIME_ACTOR = "runtime"
"""What `audit_log.actor_role` holds when the runtime, not a person, acted."""


class Role(StrEnum):
    """What a person may do; the `role` claim that the row-level security policies read."""

    DATA_ENGINEER = "data_engineer"
    DATA_ANALYST = "data_analyst"
    SYSTEM_ADMIN = "system_admin"


class DatabaseRole(StrEnum):
    """The PostgreSQL roles a transaction takes on."""

    AUTHENTICATED = "authenticated"
    RUNTIME = "wedsync_runtime"


class User(Table, table=True):
    """A person, as Supabase's `auth.users` knows one; only the columns we read. Made with `wedsync.ensure_user`."""

    __tablename__ = "users"
    __table_args__ = ({"schema": "auth"},)

    id: UUID = Field(primary_key=True, sa_type=Uuid)
    email: str | None = None
    created_at: datetime | None = Field(default=None, sa_type=Moment, sa_column_kwargs=server("now()"))
