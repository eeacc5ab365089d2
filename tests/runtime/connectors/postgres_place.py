"""A database that is somebody's source or destination, as the tests of the PostgreSQL connector use it."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pyarrow as pa

from models.destinations import WriteMode
from models.fields import Json, JsonObject, parse
from runtime.connectors._contract import LoadCounts, ReadRequest, RunKey, Split, Target
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors.postgres import PostgresDestination, PostgresSource


class Place:
    """One database: plain statements past the connector, and the connector on it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def config(self, **changes: Json) -> PostgresConfig:
        given: JsonObject = {"url": self.uri, **changes}
        return parse(PostgresConfig, given)

    def source(self, **changes: Json) -> PostgresSource:
        return PostgresSource(self.config(**changes))

    def destination(self, **changes: Json) -> PostgresDestination:
        return PostgresDestination(self.config(**changes))

    def execute(self, *statements: str) -> None:
        async def work() -> None:
            connection = await asyncpg.connect(self.uri)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(work())

    def fetch(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        async def work() -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(self.uri)
            try:
                return [tuple(row) for row in await connection.fetch(sql, *parameters)]
            finally:
                await connection.close()

        return asyncio.run(work())

    def read(self, query: str, parameters: Mapping[str, Json] | None = None, **changes: Json) -> pa.Table:
        request = ReadRequest(query=query, parameters=parameters or {})
        return self.source(**changes).read(request, Split(0)).read_all()

    def load(
        self, rows: pa.Table, mode: WriteMode = WriteMode.APPEND, run: RunKey | None = None, **target: Any
    ) -> LoadCounts:
        name = target.pop("table", "guests")
        plan = Target(name, mode, **target)
        return self.destination().load(plan, run or a_run(), rows.to_reader(max_chunksize=1000), None)

    def leftovers(self) -> list[str]:
        """Our tables that are not the ledger's."""
        rows = self.fetch("SELECT relname FROM pg_class WHERE relname LIKE '\\_wedsync\\_%' AND relkind = 'r'")
        return sorted({name for (name,) in rows} - {"_wedsync_ledger", "_wedsync_cursors"})


def a_run(execution: UUID | None = None, generation: int = 0) -> RunKey:
    return RunKey(uuid4(), execution or uuid4(), "load_guests", generation)


def broken(rows: pa.Table, error: Exception) -> pa.RecordBatchReader:
    """A stream that gives rows and then breaks."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows.to_batches()
        raise error

    return pa.RecordBatchReader.from_batches(rows.schema, batches())
