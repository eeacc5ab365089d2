"""The unit of work: one transaction with an identity, in which PostgreSQL's row-level security decides."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Protocol
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from models.errors import Conflict, Denied, DomainError, Exhausted, Invalid, Unavailable

_IDENTIFY = text("SELECT set_config('role', :role, true), set_config('request.jwt.claims', :claims, true)")


class Identity(Protocol):
    """Who a transaction acts as: a PostgreSQL role and the claims that policies read."""

    @property
    def user_id(self) -> UUID:
        """The person, or the runtime."""

    @property
    def database_role(self) -> str:
        """The PostgreSQL role that the transaction takes on."""

    @property
    def claims(self) -> Mapping[str, str]:
        """What `auth.jwt()` answers."""


class Database:
    """A pool of connections to the metadata database."""

    def __init__(
        self, url: str, *, pool_size: int = 10, statement_timeout: float = 30.0, name: str = "wedsync"
    ) -> None:
        settings = {"application_name": name, "statement_timeout": str(int(statement_timeout * 1000)), "jit": "off"}
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_recycle=1800,
            pool_use_lifo=True,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            connect_args={"server_settings": settings, "timeout": 10},
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self, identity: Identity) -> AsyncIterator[AsyncSession]:
        """A session whose one transaction acts as `identity`; commits at the end, rolls back on an error.

        Raises typed errors for what the database refuses: `Conflict`, `Denied`, `Exhausted`, `Unavailable`.
        """
        parameters = {"role": identity.database_role, "claims": orjson.dumps(dict(identity.claims)).decode()}
        try:
            async with self._sessions() as session, session.begin():
                await self._identify(session, parameters)
                yield session
        except (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise translated(error) from error

    async def _identify(self, session: AsyncSession, parameters: Mapping[str, str]) -> None:
        """The first statement; a pooled connection that the server has dropped since is replaced once."""
        try:
            await session.execute(_IDENTIFY, parameters)
        except (InterfaceError, OperationalError, DBAPIError) as error:
            if not error.connection_invalidated:
                raise
            await session.rollback()
            await session.begin()
            await session.execute(_IDENTIFY, parameters)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


_BY_STATE: Mapping[str, tuple[type[DomainError], str]] = {
    "23505": (Conflict, "choose another name or key, or change what is there"),
    "23503": (Conflict, "it refers to something that is not there, or is still referred to"),
    "42501": (Denied, "ask for the role that may do this"),
    "23514": (Invalid, "see the allowed values"),
    "22P02": (Invalid, "see the expected form"),
    "57014": (Exhausted, "it took too long; ask for less at once"),
    "40001": (Conflict, "it was changed at the same time; try again"),
    "40P01": (Conflict, "it was changed at the same time; try again"),
}


def translated(error: Exception) -> DomainError:
    """What the database refused, as a typed error; `Unavailable` when it cannot be reached."""
    cause = getattr(getattr(error, "orig", error), "__cause__", None) or getattr(error, "orig", error)
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str) and state in _BY_STATE:
        kind, hint = _BY_STATE[state]
        return kind(_sentence(cause), hint=hint)
    if isinstance(state, str) and not state.startswith(("08", "57P", "53")):
        raise error
    return Unavailable("the metadata database cannot be reached", hint="is PostgreSQL up? see GET /readyz")


def _sentence(cause: object) -> str:
    detail = getattr(cause, "detail", None)
    message = getattr(cause, "message", None) or str(cause)
    return f"{message}: {detail}" if detail else str(message)
