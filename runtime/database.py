"""The unit of work: one transaction with an identity, in which PostgreSQL's row-level security decides."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from models.errors import Conflict, Denied, DomainError, Exhausted, Invalid, Unavailable
from runtime.resets import resets_told
from runtime.statements import Connections, Statements, prepared

CONNECT_SECONDS: Final = 10
IDLE_IN_TRANSACTION_SECONDS: Final = 300
RECYCLE_SECONDS: Final = 1800

_IDENTIFY: Final = text("SELECT set_config('role', :role, true), set_config('request.jwt.claims', :claims, true)")


Session: TypeAlias = AsyncSession | Statements
"""A transaction that runs `text(…)`, of either kind."""


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


class Transactions(Protocol):
    """Where transactions of plain statements come from: a `Database`, or one that is simulated."""

    def statements(self, identity: Identity, *, lasting: bool = True) -> AbstractAsyncContextManager[Statements]:
        """A transaction, as `Database.statements` gives it."""


class Database:
    """A pool of connections to the metadata database.

    Role and claims are set for one transaction, so its end takes them off the connection; nothing of ours sets
    anything for a whole session, which a house test sees to.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, statement_timeout: float = 30.0, name: str = "wedsync"
    ) -> None:
        """`statement_timeout` is in seconds; `name` is what `pg_stat_activity` shows of these connections."""
        settings = {
            "application_name": name,
            "statement_timeout": str(int(statement_timeout * 1000)),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_SECONDS * 1000),
            "jit": "off",
        }
        self._connecting = {"server_settings": settings, "timeout": CONNECT_SECONDS}
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_recycle=RECYCLE_SECONDS,
            pool_use_lifo=True,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            connect_args=self._connecting,
        )
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._connections = Connections(self._connect, pool_size, translated)

    @asynccontextmanager
    async def transaction(self, identity: Identity) -> AsyncIterator[AsyncSession]:
        """A session whose one transaction acts as `identity`; commits at the end, rolls back on an error.

        Raises typed errors for what the database refuses: `Conflict`, `Denied`, `Invalid`, `Exhausted`, `Unavailable`.
        """
        try:
            async with self._sessions() as session:
                await self._begin(session, identity)
                try:
                    with resets_told():
                        yield session
                        await session.commit()
                except (DBAPIError, asyncpg.InternalClientError, ConnectionResetError) as error:
                    if isinstance(_cause(error), _DRIVER_ERRORS):
                        await session.invalidate()
                    raise
        except (DBAPIError, PoolTimeoutError, ConnectionResetError) as error:
            known = translated(error)
            if known is None:
                raise
            raise known from error

    @asynccontextmanager
    async def statements(self, identity: Identity, *, lasting: bool = True) -> AsyncIterator[Statements]:
        """A transaction as `transaction` gives one, for plain statements only, at a tenth of the cost.

        One that is not `lasting` does not wait for the disk: a crash of PostgreSQL may undo it, but nothing that was
        committed before it, and it lasts when a later one does.
        """
        async with self._connections.transaction(_begin_as(identity, lasting=lasting)) as statements:
            yield statements

    async def _connect(self) -> asyncpg.Connection:
        _, place = self.engine.dialect.create_connect_args(self.engine.url)
        options: dict[str, Any] = {**place, **self._connecting}
        return await prepared(await asyncpg.connect(**options))

    async def _begin(self, session: AsyncSession, identity: Identity) -> None:
        """The first statement; a pooled connection that the server has dropped meanwhile is replaced once."""
        parameters = {"role": identity.database_role, "claims": orjson.dumps(dict(identity.claims)).decode()}
        try:
            try:
                with resets_told():
                    await session.execute(_IDENTIFY, parameters)
            except ConnectionResetError:
                await session.invalidate()
                await session.execute(_IDENTIFY, parameters)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                await session.rollback()
                await session.execute(_IDENTIFY, parameters)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # Connecting: SQLAlchemy passes these on as asyncpg raises them.
            raise translated(error) or _away(error) from error

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()
        await self.engine.dispose()


def _begin_as(identity: Identity, *, lasting: bool) -> str:
    """Begin and identify in one round trip; the texts are quoted, as this cannot be bound."""
    claims = orjson.dumps(dict(identity.claims)).decode()
    role, told = (text.replace("'", "''") for text in (identity.database_role, claims))
    settings = {"role": role, "request.jwt.claims": told, **({} if lasting else {"synchronous_commit": "off"})}
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return f"BEGIN; SELECT {calls}"


_BY_STATE: Final[Mapping[str, tuple[type[DomainError], str]]] = {
    "22P02": (Invalid, "see the expected form"),
    "22003": (Invalid, "see the allowed range"),
    "22001": (Invalid, "make it shorter"),
    "23502": (Invalid, "give it a value"),
    "23514": (Invalid, "see the allowed values"),
    "23503": (Conflict, "it refers to something that is not there, or is still referred to"),
    "23505": (Conflict, "choose another name or key, or change what is there"),
    "40001": (Conflict, "it was changed at the same time; try again"),
    "40P01": (Conflict, "it was changed at the same time; try again"),
    "42501": (Denied, "ask for the role that may do this"),
    "55P03": (Conflict, "it is being changed; try again"),
    "57014": (Exhausted, "it took too long; ask for less at once"),
    "53300": (Exhausted, "PostgreSQL has no connection left; raise its max_connections or lower WEDSYNC_POOL_SIZE"),
}
# After these asyncpg's state of the connection is unknown: another transaction must not inherit it.
_DRIVER_ERRORS: Final = (asyncpg.InternalClientError, asyncpg.InterfaceError, ConnectionResetError)
_AWAY_CLASSES: Final = ("08", "28", "3D", "53", "57P", "25P03")
_KEYED_STATES: Final = ("23503", "23505")
_KEY: Final = re.compile(r"^Key \((?P<column>\w+)\)=")


def translated(error: BaseException) -> DomainError | None:
    """What the database refused, as a typed error; None for what is a bug of ours and must stay as it is.

    Takes SQLAlchemy's errors and asyncpg's. Row values appear only where the person gave them: in a taken key.
    """
    if isinstance(error, PoolTimeoutError):
        return Exhausted("all connections to the metadata database are busy", hint="try again")
    cause = _cause(error)
    if isinstance(cause, asyncpg.InvalidCachedStatementError):
        return Unavailable("the tables have just been migrated", hint="try again")
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        if state in _BY_STATE:
            kind, hint = _BY_STATE[state]
            message, path = _said(cause, state)
            return kind(message, hint=hint, path=path)
        return _away(cause) if state.startswith(_AWAY_CLASSES) else None
    is_disconnect = isinstance(error, DBAPIError) and error.connection_invalidated
    return _away(cause) if is_disconnect or isinstance(cause, OSError) else None


def _cause(error: BaseException) -> BaseException:
    """The driver's error inside SQLAlchemy's two wrappings."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ or error.orig


def _away(cause: BaseException) -> Unavailable:
    hint = "is PostgreSQL up, and does DATABASE_URL name it? see GET /readyz"
    return Unavailable(f"the metadata database cannot be reached: {cause or type(cause).__name__}", hint=hint)


def _said(cause: BaseException, state: str) -> tuple[str, str | None]:
    """PostgreSQL's sentence and, of a key, its column. Other details quote whole rows, which may hold secrets."""
    detail = getattr(cause, "detail", None)
    if state in _KEYED_STATES and detail:
        named = _KEY.match(detail)
        return str(detail), named["column"] if named else None
    return str(getattr(cause, "message", None) or cause), getattr(cause, "column_name", None)
