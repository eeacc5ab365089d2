"""PostgreSQL passes the shared suites, as a source and as a destination."""

import asyncio
import json
from collections.abc import Mapping
from typing import ClassVar
from uuid import uuid4

import asyncpg
import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.fields import JsonObject, parse
from runtime.connectors._contract import ReadRequest, RunKey, Split, Target
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors.postgres import PostgresDestination, PostgresSource
from tests.kit.contracts.connector_rows import NESTED
from tests.kit.contracts.connectors import (
    DATASET,
    DestinationContract,
    DestinationHarness,
    SourceContract,
    SourceHarness,
)


def execute(uri: str, *statements: str) -> None:
    """Run statements as somebody else, past the connector."""

    async def run() -> None:
        connection = await asyncpg.connect(uri)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


class PostgresSourceHarness(SourceHarness):
    """A table `guests` in an empty database."""

    kind: ClassVar[str] = "postgres"
    divides: ClassVar[bool] = True

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def config(self) -> JsonObject:
        return {"url": self.uri}

    def put(self, rows: pa.Table) -> None:
        execute(self.uri, f"DROP TABLE IF EXISTS {DATASET}")
        self.add(rows)

    def add(self, rows: pa.Table) -> None:
        destination = PostgresDestination(parse(PostgresConfig, self.config()))
        run = RunKey(uuid4(), uuid4(), "load")
        destination.load(Target(DATASET, WriteMode.APPEND), run, rows.to_reader(), None)

    def bad_configs(self) -> Mapping[str, JsonObject]:
        return bad_configs(self.uri)


class PostgresDestinationHarness(DestinationHarness):
    """An empty database; rows are read back by the source, and structs out of their JSON."""

    kind: ClassVar[str] = "postgres"
    nested: ClassVar[bool] = True

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def config(self) -> JsonObject:
        return {"url": self.uri}

    def read(self, table: str) -> pa.Table | None:
        source = PostgresSource(parse(PostgresConfig, self.config()))
        if table not in source.discover():
            return None
        rows = source.read(ReadRequest(dataset=table), Split(0)).read_all()
        if "venue" not in rows.column_names:
            return rows
        venues = [None if one is None else json.loads(one) for one in rows.column("venue").to_pylist()]
        return rows.set_column(1, "venue", pa.array(venues, NESTED.field("venue").type))

    def bad_configs(self) -> Mapping[str, JsonObject]:
        return bad_configs(self.uri)


def bad_configs(uri: str) -> Mapping[str, JsonObject]:
    return {
        "hosts": {"url": uri, "hosts": "x"},
        "port": {"host": "h", "database": "d", "port": 0},
        "sslmode": {"url": uri, "sslmode": "sometimes"},
        "database": {"url": uri.replace("/test_", "/no_such_test_")},
    }


class TestPostgresSource(SourceContract):
    @pytest.fixture
    def harness(self, scratch: str) -> PostgresSourceHarness:
        return PostgresSourceHarness(scratch)


class TestPostgresDestination(DestinationContract):
    @pytest.fixture
    def harness(self, scratch: str) -> PostgresDestinationHarness:
        return PostgresDestinationHarness(scratch)
