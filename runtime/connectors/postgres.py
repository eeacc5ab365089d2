"""PostgreSQL as a source, read through ADBC, and as a destination, loaded by binary COPY."""

import re
import time
from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import pyarrow as pa

from models.destinations import DestinationType
from models.errors import Invalid, RunError
from models.sources import SourceType
from runtime.connectors import _postgres_catalog as catalog
from runtime.connectors import _postgres_load as loading
from runtime.connectors._contract import (
    DESTINATIONS,
    SOURCES,
    CursorMove,
    Destination,
    Health,
    LoadCounts,
    ReadRequest,
    Receipt,
    Restorable,
    RunKey,
    Source,
    Split,
    TableVersion,
    Target,
)
from runtime.connectors._postgres_backups import restore_version, versions_of
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_errors import checked
from runtime.connectors._postgres_fit import LoadOptions, fitted
from runtime.connectors._postgres_ledger import kept_cursor
from runtime.connectors._postgres_names import quoted, table_name
from runtime.connectors._postgres_ranges import split_range, watermark
from runtime.connectors._postgres_reading import Reading, reading
from runtime.connectors._postgres_select import select
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_stream import Stream
from runtime.connectors._postgres_table import inspect


@SOURCES.register
class PostgresSource(Source[PostgresConfig]):
    """Tables and queries of one database, each read in a read-only transaction of its own."""

    kind: ClassVar[str] = "postgres"
    source_type: ClassVar[SourceType] = SourceType.DATABASE
    Config: ClassVar[type[PostgresConfig]] = PostgresConfig
    incremental: ClassVar[bool] = True

    def __init__(self, config: PostgresConfig) -> None:
        super().__init__(config)
        self._streams: list[Stream] = []

    def check(self) -> Health:
        """Sign in and ask for the version."""
        started = time.perf_counter()
        try:
            with reading(self.config) as transaction:
                ((version,),) = transaction.answer("SELECT current_setting('server_version')")
        except RunError as error:
            raise checked(error) from error
        return health(self.config, str(version), started)

    def discover(self) -> dict[str, pa.Schema]:
        """The tables, views and foreign tables of the configured schema that the user may read."""
        with reading(self.config) as transaction:
            return catalog.schemas(transaction.answer(catalog.TABLES, self.config.schema_name))

    def schema(self, request: ReadRequest) -> pa.Schema:
        """What `read` will deliver; the server plans the query and runs nothing."""
        with reading(self.config) as transaction:
            return select(transaction, request).schema

    def watermark(self, request: ReadRequest, cursor_column: str | None) -> str:
        """The upper end of the next incremental range."""
        with reading(self.config) as transaction:
            return watermark(transaction, request, cursor_column)

    def split(self, request: ReadRequest, count: int) -> list[Split]:
        """Ranges of `partition_column`; one part without it, with a limit, or where its type has no ranges."""
        if count < 2 or request.partition_column is None or request.limit is not None:
            return [Split(0)]
        with reading(self.config) as transaction:
            return split_range(transaction, request, request.partition_column, count)

    def read(self, request: ReadRequest, split: Split) -> pa.RecordBatchReader:
        """Stream the rows of one split, two batches ahead of the reader."""
        transaction = Reading(self.config)
        try:
            stream = Stream(transaction, select(transaction, request, split), request.batch_rows)
        except BaseException:
            transaction.finish(reusable=False)
            raise
        self._streams.append(stream)
        return stream.reader()

    def close(self) -> None:
        """Stop what is still being read."""
        while self._streams:
            self._streams.pop().close()


@DESTINATIONS.register
class PostgresDestination(Destination[PostgresConfig], Restorable):
    """Tables of one database; as a warehouse too, where it is one.

    A table that is not there is made, with the keys of an upsert as its primary key. An upsert leaves rows that are
    equal already alone and does not count them. What a load replaces with `overwrite` is kept where `backup_config`
    says so; `versions` lists it and `restore` brings it back.
    """

    kind: ClassVar[str] = "postgres"
    destination_type: ClassVar[DestinationType] = DestinationType.DATABASE
    Config: ClassVar[type[PostgresConfig]] = PostgresConfig
    Options: ClassVar[type[LoadOptions]] = LoadOptions
    has_indexes: ClassVar[bool] = True

    def check(self) -> Health:
        """Sign in, ask for the version, and see that the schema is there."""
        started = time.perf_counter()
        try:
            with Session(self.config) as session:
                (row,) = session.fetch(
                    "SELECT current_setting('server_version') AS version, to_regnamespace($1) IS NOT NULL AS found",
                    quoted(self.config.schema_name),
                )
        except RunError as error:
            raise checked(error) from error
        if not row["found"]:
            name = self.config.schema_name
            raise Invalid(f"there is no schema {name!r}", hint=f"CREATE SCHEMA {quoted(name)}", path="schema")
        return health(self.config, row["version"], started)

    def discover(self) -> dict[str, pa.Schema]:
        """The tables and views of the configured schema that the user may read."""
        with Session(self.config) as session:
            return catalog.schemas([tuple(row) for row in session.fetch(catalog.TABLES, self.config.schema_name)])

    def fit(self, target: Target, schema: pa.Schema) -> None:
        """Raise `Terminal` naming each column that the target cannot take."""
        with Session(self.config) as session:
            fitted(target, inspect(session, table_name(target.table, self.config.schema_name)), schema)

    def prepare(self, target: Target, schema: pa.Schema, run: RunKey) -> None:
        """Open the run in the ledger, and make its staging table."""
        loading.prepare(loading.Load(self.config, target, run), schema)

    def write(self, target: Target, run: RunKey, partition: int, rows: pa.RecordBatchReader) -> Receipt:
        """Land one partition in an unlogged table of its own."""
        return loading.write(loading.Load(self.config, target, run), partition, rows)

    def commit(self, target: Target, run: RunKey, receipts: Sequence[Receipt], cursor: CursorMove | None) -> LoadCounts:
        """Publish all partitions, the ledger rows and the cursor in one transaction."""
        return loading.commit(loading.Load(self.config, target, run), receipts, cursor)

    def abort(self, target: Target, run: RunKey) -> None:
        """Remove the run's staging tables."""
        loading.abort(loading.Load(self.config, target, run))

    def load(self, target: Target, run: RunKey, rows: pa.RecordBatchReader, cursor: CursorMove | None) -> LoadCounts:
        """Load one stream in one transaction; an append goes straight into the table."""
        return loading.load(loading.Load(self.config, target, run), rows, cursor)

    def cursor(self, pipeline_id: UUID, step: str) -> str | None:
        """The cursor that the last published run left in the configured schema."""
        with Session(self.config) as session:
            return kept_cursor(session, pipeline_id, step)

    def versions(self, table: str) -> list[TableVersion]:
        """The earlier versions of a table that are kept, newest first."""
        with Session(self.config) as session:
            return versions_of(session, table_name(table, self.config.schema_name))

    def restore(self, table: str, version: str) -> int:
        """Put the rows of an earlier version in the place of the table's; answers how many. Raises `NotFound`."""
        with Session(self.config) as session:
            rows = restore_version(session, inspect(session, table_name(table, self.config.schema_name)), version)
            session.commit()
        return rows


def health(config: PostgresConfig, version: str, started: float) -> Health:
    """The good answer of a check."""
    number = re.split(r"\s", version)[0]
    latency = (time.perf_counter() - started) * 1000
    return Health(True, f"PostgreSQL {number}, {config.place}", latency, number)
