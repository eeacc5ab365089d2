"""A read-only transaction on an ADBC connection: small answers as tuples, large ones as Arrow batches."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_postgresql import StatementOptions
from adbc_driver_postgresql import dbapi as postgres

from models.errors import Terminal
from runtime.connectors._postgres_config import NOTICING_LOSS, PostgresConfig
from runtime.connectors._postgres_errors import is_lost, of_adbc, translated, unreachable
from runtime.connectors._postgres_pool import Keeping, Pool

BATCH_BYTES = 2 * 1024 * 1024
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def _close(connection: dbapi.Connection) -> None:
    with suppress(adbc_driver_manager.Error):
        connection.close()


def _begins(connection: dbapi.Connection) -> bool:
    """Whether a kept connection is alive: then its next transaction has begun."""
    try:
        _answer(connection, BEGIN, ())
    except adbc_driver_manager.Error:
        return False
    return True


def _answer(connection: dbapi.Connection, sql: str, parameters: tuple[str, ...]) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{StatementOptions.USE_COPY.value: "false"})
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


_POOL: Pool[dbapi.Connection] = Pool(_close)


class Reading:
    """One snapshot of a database, begun when made; used by one thread at a time; `finish` gives the connection back."""

    def __init__(self, config: PostgresConfig) -> None:
        self.config = config
        self._keeping = Keeping(config.idle_connections, config.connection_age_seconds)
        self.applied: dict[str, str] = {}
        self._cursor: dbapi.Cursor | None = None
        self._connection: dbapi.Connection | None = _POOL.take(config.conninfo, self._keeping, self._begun, _begins)
        try:
            self.set(config.settings)
        except BaseException:
            self.finish(reusable=False)
            raise

    def answer(self, sql: str, *parameters: str) -> list[tuple[object, ...]]:
        """The rows of a small query, its parameters bound as text."""
        with self._translating(sql):
            return _answer(self._open, sql, parameters)

    def set(self, settings: dict[str, str], kinds: Mapping[str, str] | None = None) -> None:
        """Server settings until the end of the transaction; names and values are bound.

        A setting with a kind must be a value of that type.
        """
        if settings:
            known = kinds or {}
            calls = ", ".join(
                f"set_config(${2 * at + 1}, ${2 * at + 2}, true)::{known.get(name, 'text')} IS NULL"
                for at, name in enumerate(settings)
            )
            self.answer(
                f"SELECT {calls}, {NOTICING_LOSS} IS NULL", *(text for pair in settings.items() for text in pair)
            )
            self.applied.update(settings)

    def takes(self, text: str, kind: str) -> bool:
        """Whether a text is a value of a type; asked after an error, so outside of a transaction."""
        self.answer("ROLLBACK")
        try:
            self.answer(f"SELECT $1::text::{kind} IS NULL", text)
        except Terminal:
            return False
        return True

    def describe(self, sql: str) -> pa.Schema:
        """The columns of a query as the driver sees them, with PostgreSQL's types as metadata; nothing is read."""
        with self._translating(sql), self._open.cursor() as cursor:
            return cursor.adbc_execute_schema(sql)

    def batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query by binary COPY, in batches of about 2 MiB."""
        with self._translating(sql), self._open.cursor() as cursor:
            self._cursor = cursor
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)})
            try:
                cursor.execute(sql)
                # fetch_record_batch() answers a reader whose errors have lost their SQLSTATE; this one keeps them.
                yield from cursor._results.reader  # type: ignore[union-attr]
            finally:
                self._cursor = None

    def cancel(self) -> None:
        """Stop the running query; from any thread."""
        cursor = self._cursor
        if cursor is not None:
            with suppress(adbc_driver_manager.Error):
                cursor.adbc_cancel()

    def finish(self, *, reusable: bool = True) -> None:
        """End the transaction; a connection that may be in disorder is closed. Safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if reusable:
                _answer(connection, "ROLLBACK", ())
                _POOL.give(self.config.conninfo, self._keeping, connection)
                return
        except adbc_driver_manager.Error:
            _POOL.forget(self.config.conninfo)
        _POOL.discard(connection)

    @property
    def _open(self) -> dbapi.Connection:
        if self._connection is None:
            raise Terminal(f"{self.config.place}: this read was closed", hint="open the source again", code="closed")
        return self._connection

    def _begun(self) -> dbapi.Connection:
        try:
            made: dbapi.Connection = postgres.connect(self.config.conninfo, autocommit=True)
            _answer(made, BEGIN, ())
            return made
        except adbc_driver_manager.Error as error:
            raise unreachable(of_adbc(error), self.config.place) from error

    @contextmanager
    def _translating(self, sql: str) -> Iterator[None]:
        try:
            yield
        except adbc_driver_manager.Error as error:
            report = of_adbc(error)
            if "ReadRecord failed" in str(error):
                raise Terminal(
                    f"{self.config.place}: a value cannot be read: {report.message}",
                    hint="cast arrays with own lower bounds and infinite intervals to text in the query",
                    code="special_value",
                ) from error
            if is_lost(report):
                _POOL.forget(self.config.conninfo)
                raise unreachable(report, self.config.place) from error
            raise translated(report, self.config.place, sql) from error


@contextmanager
def reading(config: PostgresConfig) -> Iterator[Reading]:
    """A read-only transaction for the time of a block."""
    transaction = Reading(config)
    try:
        yield transaction
    except BaseException:
        transaction.finish(reusable=False)
        raise
    transaction.finish()
