"""A transaction on an asyncpg connection for synchronous callers: small statements, and binary COPY from any thread.

asyncpg and not ADBC, because ADBC's COPY encoder costs four times the CPU of `_postgres_copy` (measured: 2 M rows of
five columns 0.9 s and 0.2 s). All connections of a process live on one event loop in a thread of its own, so that a
caller may be in any thread, even in one that runs an event loop itself.
"""

import asyncio
import atexit
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, TypeVar

import asyncpg

from models.errors import Terminal
from runtime.connectors._postgres_config import NOTICING_LOSS, PostgresConfig
from runtime.connectors._postgres_errors import is_lost, of_asyncpg, translated, unreachable
from runtime.connectors._postgres_names import TableName, literal
from runtime.connectors._postgres_pool import Keeping, Pool
from runtime.resets import resets_told

CLOSE_SECONDS = 2.0
CHUNKS_AHEAD = 2

T = TypeVar("T")

_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


_STARTING = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """The process's event loop for connections: one, also for threads that want it first at the same moment."""
    with _STARTING:
        return _started()


@lru_cache(maxsize=1)
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="postgres-load", daemon=True).start()
    atexit.register(_stop, loop)
    return loop


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    _POOL.forget()
    loop.call_soon_threadsafe(loop.stop)


def _wait(work: Coroutine[Any, Any, T]) -> T:
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        with resets_told():
            return future.result()
    except BaseException:
        future.cancel()
        raise


async def _close_softly(connection: asyncpg.Connection) -> None:
    try:
        with resets_told():
            await connection.close(timeout=CLOSE_SECONDS)
    except _FAILURES:
        connection.terminate()


def _close(connection: asyncpg.Connection) -> None:
    if not connection.is_closed():
        _wait(_close_softly(connection))


_POOL: Pool[asyncpg.Connection] = Pool(_close)


class Session:
    """One transaction, as a context: committed by `commit`, else rolled back at its end.

    A connection whose transaction ended in disorder is closed. Used by one thread at a time. `mark` is what
    `pg_stat_activity` calls the transaction.
    """

    def __init__(self, config: PostgresConfig, mark: str | None = None) -> None:
        self.config = config
        self._keeping = Keeping(config.idle_connections, config.connection_age_seconds)
        self._begin = _begun_with(config, mark)
        self._open: asyncpg.Connection | None = None
        self._copying: asyncio.Task[Any] | None = None

    def __enter__(self) -> "Session":
        self._open = _POOL.take(self.config.conninfo, self._keeping, self._connect, partial(_begins, self._begin))
        if not self._open.is_in_transaction():
            try:
                self.execute(self._begin)
            except BaseException:
                self._discard()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._open
        if connection is None:
            return
        if kind is not None and not issubclass(kind, Exception):
            self._discard()
            return
        try:
            if connection.is_in_transaction():
                self.execute("ROLLBACK")
        except Exception:
            self._discard()
            if kind is None:
                raise
            return
        self._open = None
        _POOL.give(self.config.conninfo, self._keeping, connection)

    @property
    def server_version(self) -> int:
        """The server's major version."""
        return int(self._connection.get_server_version().major)

    def fetch(self, sql: str, *parameters: object) -> list[asyncpg.Record]:
        """The rows of a statement, its parameters bound."""
        with self._translating(sql):
            return _wait(self._connection.fetch(sql, *parameters))

    def execute(self, sql: str) -> str:
        """Run statements without parameters; answers the tag of the last, such as `INSERT 0 5`."""
        with self._translating(sql):
            return _wait(self._connection.execute(sql))

    def commit(self) -> None:
        """Make it lasting; when the connection is lost meanwhile, the outcome is read from the ledger on retry."""
        self.execute("COMMIT")

    @contextmanager
    def savepoint(self, name: str) -> Iterator[None]:
        """A part that is undone when it fails, so that the transaction can still be asked why."""
        self.execute(f"SAVEPOINT {name}")
        try:
            yield
        except Exception:
            self.execute(f"ROLLBACK TO SAVEPOINT {name}")
            raise
        self.execute(f"RELEASE SAVEPOINT {name}")

    def copy(self, table: TableName | str, columns: list[str], chunks: Iterable[memoryview]) -> int:
        """Feed chunks of binary COPY to a table (a string names a temporary one); answers the number of rows.

        The next chunks are made in the caller's thread while earlier ones are sent. An error raised by `chunks` ends
        the COPY and comes out as it was.
        """
        queue: asyncio.Queue[memoryview | None] = asyncio.Queue(CHUNKS_AHEAD)
        copying = asyncio.run_coroutine_threadsafe(self._copy(table, columns, queue), _loop())
        try:
            for chunk in chunks:
                if not _put(queue, chunk, copying):
                    break
            else:
                _put(queue, None, copying)
            with self._translating(""), resets_told():
                return int(copying.result().rsplit(" ", 1)[-1])
        except BaseException:
            if not copying.done():
                _wait(_cancelled(self._copying))
                self._discard()
            raise

    async def _copy(self, table: TableName | str, columns: list[str], queue: "asyncio.Queue[memoryview | None]") -> str:
        task, connection, lost = asyncio.current_task(), self._connection, asyncio.Event()
        self._copying = task

        async def source() -> AsyncIterator[bytes]:
            while (chunk := await queue.get()) is not None:
                yield chunk  # type: ignore[misc]  # asyncpg takes whatever has a buffer

        def on_loss(_: object) -> None:
            # asyncpg waits for ever to write to a connection that was lost amid a COPY.
            lost.set()
            if task is not None:
                task.cancel()

        connection.add_termination_listener(on_loss)
        name, schema = (table, None) if isinstance(table, str) else (table.name, table.schema)
        try:
            return await connection.copy_to_table(
                name, schema_name=schema, columns=columns, source=source(), format="binary"
            )
        except (asyncio.CancelledError, AttributeError) as error:
            if not lost.is_set():
                raise
            raise asyncpg.ConnectionDoesNotExistError("the connection was closed amid a COPY") from error
        finally:
            connection.remove_termination_listener(on_loss)

    @property
    def _connection(self) -> asyncpg.Connection:
        if self._open is None:
            raise Terminal(f"{self.config.place}: this transaction is over", hint="begin another", code="closed")
        return self._open

    def _discard(self) -> None:
        connection, self._open = self._open, None
        if connection is not None:
            _loop().call_soon_threadsafe(connection.terminate)
            _POOL.discard(connection)

    def _connect(self) -> asyncpg.Connection:
        try:
            return _wait(_connected(self.config))
        except _FAILURES as error:
            raise unreachable(of_asyncpg(error), self.config.place) from error

    @contextmanager
    def _translating(self, sql: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            report = of_asyncpg(error)
            if is_lost(report):
                self._discard()
                _POOL.forget(self.config.conninfo)
                raise unreachable(report, self.config.place) from error
            raise translated(report, self.config.place, sql) from error


def _begins(begin: str, connection: asyncpg.Connection) -> bool:
    """Whether a kept connection takes a new transaction: only this tells one that the server has dropped."""
    try:
        _wait(connection.execute(begin))
    except _FAILURES:
        return False
    return True


def _begun_with(config: PostgresConfig, mark: str | None) -> str:
    settings = {"lock_timeout": f"{int(config.lock_timeout_seconds * 1000)}ms", **config.settings}
    if mark is not None:
        settings["application_name"] = mark
    calls = ", ".join(f"set_config({literal(name)}, {literal(value)}, true)" for name, value in settings.items())
    return f"BEGIN; SELECT {calls}, {NOTICING_LOSS}"


async def _connected(config: PostgresConfig) -> asyncpg.Connection:
    parts = config.parts
    secure = {name: parts[name] for name in ("sslmode", "sslrootcert", "sslcert", "sslkey") if name in parts}
    query = "&".join(f"{name}={value}" for name, value in secure.items())
    return await asyncpg.connect(
        f"postgresql:///?{query}",
        host=parts["host"],
        port=int(parts["port"]),
        user=parts.get("user"),
        password=parts.get("password"),
        database=parts["dbname"],
        timeout=config.connect_timeout_seconds,
        server_settings={"application_name": "wedsync"},
    )


async def _cancelled(task: "asyncio.Task[Any] | None") -> None:
    """Stop a COPY, so that the server is told before its connection is closed."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task], timeout=CLOSE_SECONDS)


def _put(
    queue: "asyncio.Queue[memoryview | None]", chunk: memoryview | None, copying: "concurrent.futures.Future[str]"
) -> bool:
    """Hand over a chunk; False when the COPY ended before it could be taken."""
    putting = asyncio.run_coroutine_threadsafe(queue.put(chunk), _loop())
    running: list[concurrent.futures.Future[Any]] = [putting, copying]
    concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
    if copying.done():
        putting.cancel()
        return False
    return True
