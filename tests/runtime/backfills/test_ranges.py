"""Each chunk reads its own range of a real PostgreSQL, and a backfill leaves the cursors of live runs alone."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from models.executions import ExecutionState
from models.fields import Json, JsonObject
from runtime.backfills import control, requests
from runtime.backfills.requests import Request
from runtime.connectors import store as places
from runtime.connectors.store import DestinationDraft, SourceDraft
from runtime.executions.journal import Ending
from tests.kit.database import Postgres
from tests.kit.definitions import pipeline, step
from tests.kit.engine import Bench
from tests.kit.identities import ENGINEER, RUNTIME


@dataclass
class Past:
    """A bench between a source with four rows an hour of five days, and a warehouse."""

    bench: Bench
    postgres: Postgres
    names: Mapping[str, str]

    @asynccontextmanager
    async def connect(self, place: str) -> AsyncIterator[asyncpg.Connection]:
        async with self.postgres.connect(self.names[place]) as connection:
            yield connection

    async def backfill(self, pipeline_id: UUID, start: str, end: str, chunk: str = "1d") -> list[Ending]:
        """Request a backfill and supervise its executions to the end."""
        async with self.bench.database.statements(ENGINEER) as session:
            await requests.request(session, Request(pipeline_id, start, end, chunk, again=True), ENGINEER)
        endings = list[Ending]()
        while True:
            endings.append(await self.bench.supervisor(await self.bench.take()).supervise())
            async with self.bench.database.statements(RUNTIME) as session:
                if not (await control.keep(session)).open:
                    return endings

    async def cursors(self) -> dict[str, Json]:
        async with self.bench.database.transaction(RUNTIME) as session:
            rows = (await session.execute(text("SELECT step_name, cursor FROM pipeline_cursors"))).all()
        return {row.step_name: row.cursor for row in rows}


@pytest.fixture
async def past(bench: Bench, postgres: Postgres) -> AsyncIterator[Past]:
    names = {"app": await postgres.create(), "warehouse": await postgres.create()}
    made = Past(bench, postgres, names)
    async with made.connect("app") as connection:
        await connection.execute(
            """CREATE TABLE bookings (id bigint PRIMARY KEY, day date NOT NULL, updated_at timestamptz NOT NULL);
               INSERT INTO bookings SELECT n, moment::date, moment
               FROM generate_series(0, 479) AS n, LATERAL (
                   SELECT timestamptz '2026-01-01 00:00Z' + n * interval '15 minutes' AS moment) AS at"""
        )
    settings: JsonObject = {"host": str(postgres.server.folder), "user": "postgres"}
    async with bench.database.transaction(ENGINEER) as session:
        source = SourceDraft(name="app", connection={**settings, "database": names["app"]})
        target = DestinationDraft(name="warehouse", connection={**settings, "database": names["warehouse"]})
        await places.create_source(session, bench.sealer, ENGINEER, "postgres", source)
        await places.create_destination(session, bench.sealer, ENGINEER, "postgres", target)
    yield made
    for name in names.values():
        await postgres.drop(name)


def moving(name: str, **config: object) -> JsonObject:
    read = step("read", "extract", {"source_id": "app", **config})  # type: ignore[dict-item]
    load: JsonObject = {
        "destination_id": "warehouse",
        "table_name": "bookings",
        "write_mode": "upsert",
        "key_columns": ["id"],
    }
    return pipeline(read, step("load", "load", load, "read"), name=name)


QUERY = "SELECT id, day, updated_at FROM bookings WHERE day >= :range_start AND day < :range_end"
LAST_RUN = "SELECT id, day, updated_at FROM bookings WHERE updated_at > :last_run AND day < :range_end"
CURSOR: JsonObject = {"cursor_column": "updated_at"}


@pytest.mark.parametrize(
    ("config", "chunk", "rows"),
    [
        ({"query": QUERY}, "1d", [96, 96, 96]),
        ({"query": QUERY}, "3d", [288]),
        ({"dataset": "bookings", "incremental": CURSOR}, "1d", [96, 96, 96]),
        ({"dataset": "bookings", "incremental": CURSOR}, "36h", [144, 144]),
        ({"dataset": "bookings", "incremental": CURSOR, "partition": {"column": "id", "count": 3}}, "1w", [288]),
        ({"query": LAST_RUN}, "3d", [287]),
    ],
)
async def test_each_chunk_reads_its_own_rows(past: Past, config: JsonObject, chunk: str, rows: list[int]) -> None:
    saved, _ = await past.bench.pipeline(moving("p", **config))
    endings = await past.backfill(saved, "2026-01-02", "2026-01-05", chunk)
    assert [(one.error, one.totals["inserted"]) for one in endings] == [(None, count) for count in rows]
    async with past.connect("warehouse") as connection:
        bounds = await connection.fetchrow("SELECT count(*), max(day) < '2026-01-05' FROM bookings")
    assert bounds is not None
    assert tuple(bounds) == (sum(rows), True)


@pytest.mark.parametrize("partition", [None, {"column": "id", "count": 3}])
async def test_a_backfill_leaves_the_cursors_of_live_runs_where_they_are(past: Past, partition: Json) -> None:
    config: JsonObject = {"dataset": "bookings", "incremental": CURSOR}
    saved, _ = await past.bench.pipeline(moving("p", **config, **({"partition": partition} if partition else {})))
    _, first = await past.bench.again(saved)
    assert first.totals["processed"] == 480
    before = await past.cursors()
    # Past the year that this is read in: had it moved the cursor, the next live run would find nothing.
    endings = await past.backfill(saved, "2026-01-01", "2096-01-01", "240mo")
    assert [one.state for one in endings] == [ExecutionState.COMPLETED] * 4
    assert await past.cursors() == before
    async with past.connect("app") as connection:
        await connection.execute("INSERT INTO bookings VALUES (480, current_date, now())")
    _, second = await past.bench.again(saved)
    assert (second.totals["processed"], second.totals["inserted"]) == (1, 1)


async def test_a_backfill_before_the_first_live_run_leaves_it_everything(past: Past) -> None:
    saved, _ = await past.bench.pipeline(moving("p", dataset="bookings", incremental=CURSOR))
    await past.backfill(saved, "2026-01-03", "2026-01-05")
    assert await past.cursors() == {}
    _, live = await past.bench.again(saved)
    assert (live.totals["processed"], live.totals["inserted"]) == (480, 288)


async def test_a_run_that_is_given_no_range_is_told_so(past: Past) -> None:
    saved, _ = await past.bench.pipeline(moving("p", query=QUERY))
    _, live = await past.bench.again(saved)
    assert live.error is not None
    assert "parameter :range_" in live.error.error_message


async def test_defaults_are_what_other_runs_read(past: Past) -> None:
    definition: JsonObject = {
        **moving("p", query=QUERY),
        "parameters": {"range_start": "2026-01-01", "range_end": "2026-01-03"},
    }
    saved, _ = await past.bench.pipeline(definition)
    _, live = await past.bench.again(saved)
    assert live.totals["processed"] == 192
    (chunk,) = await past.backfill(saved, "2026-01-05", "2026-01-06")
    assert chunk.totals["processed"] == 96
