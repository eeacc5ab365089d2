"""Transactions of plain statements over asyncpg, for what every execution does many times.

A transaction through SQLAlchemy's session costs 1 ms of CPU, through this 0.1 (measured with one statement). What is
written as `text(…)` runs through either: results answer `first`, `one`, `all` and `scalar_one`, rows have attributes.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar

import asyncpg
import orjson
from sqlalchemy import TextClause

from models.errors import DomainError, Exhausted
from runtime.resets import resets_told

T = TypeVar("T")

Parameters: TypeAlias = Mapping[str, object]
Translator: TypeAlias = Callable[[BaseException], DomainError | None]
Listener: TypeAlias = Callable[[str], None]

_NAME: Final = re.compile(r"(?<![:\w]):(\w+)")
WAIT_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 5.0


class Row(asyncpg.Record):
    """A row whose columns are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Rows(Generic[T]):
    """What a statement answered."""

    def __init__(self, rows: Sequence[T]) -> None:
        self._rows = rows

    def all(self) -> Sequence[T]:
        """Every row."""
        return self._rows

    def first(self) -> T | None:
        """The first row, if there is one."""
        return self._rows[0] if self._rows else None

    def one(self) -> T:
        """The only row; raises ValueError when there is none, or more than one."""
        (row,) = self._rows
        return row

    def scalars(self) -> "Rows[Any]":
        """The first column of each row."""
        return Rows([row[0] for row in self._rows])  # type: ignore[index]

    def scalar_one(self) -> Any:
        """The only row's first column."""
        return self.scalars().one()


class Statements:
    """One transaction; it can do nothing but run statements."""

    def __init__(
        self, connection: asyncpg.Connection, translated: Translator, listeners: Sequence[Listener] = ()
    ) -> None:
        self._connection = connection
        self._translated = translated
        self._listeners = listeners

    async def execute(self, statement: TextClause, parameters: Parameters | None = None) -> Rows[Any]:
        """Run a statement with its named parameters bound; raises typed errors."""
        sql, names = _positional(statement)
        given = parameters or {}
        for listener in self._listeners:
            listener(sql)
        with _translating(self._connection, self._translated):
            return Rows(await self._connection.fetch(sql, *(given[name] for name in names), record_class=Row))

    async def scalars(self, statement: TextClause, parameters: Parameters | None = None) -> Rows[Any]:
        """The first column of each row of a statement."""
        return (await self.execute(statement, parameters)).scalars()


class Connections:
    """At most `size` connections, the last used taken first; a lost one is replaced when it is wanted.

    `listeners` hear the text of each statement before it runs.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], size: int, translated: Translator) -> None:
        self._connect = connect
        self._translated = translated
        self._free = asyncio.Semaphore(size)
        self._idle: list[asyncpg.Connection] = []
        self._is_closed = False
        self.listeners: list[Listener] = []

    @asynccontextmanager
    async def transaction(self, begin: str) -> AsyncIterator[Statements]:
        """A transaction begun by `begin`; commits at the end, rolls back on an error. Raises typed errors."""
        async with self._turn():
            connection = await self._begun(begin)
            try:
                yield Statements(connection, self._translated, self.listeners)
                with _translating(connection, self._translated):
                    await connection.execute("COMMIT")
            except Exception:
                await _rolled_back(connection)
                raise
            except BaseException:
                connection.terminate()
                raise
            finally:
                if self._is_closed:
                    connection.terminate()
                elif not connection.is_closed():
                    self._idle.append(connection)

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._is_closed = True
        while self._idle:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._idle.pop().close(timeout=PATIENCE_SECONDS)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise Exhausted("all connections to the metadata database are busy", hint="try again") from error
        try:
            yield
        finally:
            self._free.release()

    async def _begun(self, begin: str) -> asyncpg.Connection:
        """A connection in a new transaction; idle ones that the server has dropped meanwhile are let go."""
        while self._idle:
            connection = self._idle.pop()
            try:
                with resets_told():
                    await connection.execute(begin)
                return connection
            except _LOSSES:
                connection.terminate()
            except BaseException:
                connection.terminate()
                raise
        with _translating(None, self._translated):
            connection = await self._connect()
            try:
                await connection.execute(begin)
            except BaseException:
                connection.terminate()
                raise
            return connection


_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# asyncpg raises an internal error where it has yet to notice that the server dropped an idle connection.
_LOSSES: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
)


@contextmanager
def _translating(connection: asyncpg.Connection | None, translated: Translator) -> Iterator[None]:
    try:
        with resets_told():
            yield
    except _FAILURES as error:
        # asyncpg says only `connection is closed` of one that the server dropped, or breaks before it has noticed.
        is_closed = isinstance(error, asyncpg.InterfaceError) and (connection is None or connection.is_closed())
        is_lost = is_closed or isinstance(error, asyncpg.InternalClientError)
        known = translated(ConnectionError(str(error)) if is_lost else error)
        if known is None:
            raise
        raise known from error


async def prepared(connection: asyncpg.Connection) -> asyncpg.Connection:
    """A new connection that reads JSON as Python has it; what is written as JSON is given as its text."""
    try:
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.loads, format="text")
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _rolled_back(connection: asyncpg.Connection) -> None:
    if connection.is_closed():
        return
    try:
        with resets_told():
            await connection.execute("ROLLBACK", timeout=PATIENCE_SECONDS)
    except _FAILURES:
        connection.terminate()


_COMPILED: Final[dict[TextClause, tuple[str, tuple[str, ...]]]] = {}


def _positional(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """The statement with `$1` for its first name and so on, and the names in that order."""
    known = _COMPILED.get(statement)
    if known is None:
        names: list[str] = []

        def place(found: re.Match[str]) -> str:
            if found[1] not in names:
                names.append(found[1])
            return f"${names.index(found[1]) + 1}"

        known = (_NAME.sub(place, statement.text), tuple(names))
        _COMPILED[statement] = known
    return known
