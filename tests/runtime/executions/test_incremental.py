"""Incremental and partitioned reads of a real PostgreSQL: what changed is read once, ranges are half open."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import orjson
import pytest
from sqlalchemy import text

from models.destinations import DataDestination
from models.errors import Retryable
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.connectors import store as places
from runtime.connectors._contract import CURSOR_MOVED, CursorMove
from runtime.connectors.store import DestinationDraft, SourceDraft
from runtime.executions.cursors import cursor_document, cursor_move
from runtime.executions.state import ReadRange
from runtime.paging import Window
from tests.kit.database import Postgres
from tests.kit.definitions import pipeline, step, transform
from tests.kit.engine import Bench
from tests.kit.eventually import eventually
from tests.kit.identities import ENGINEER, RUNTIME


@dataclass
class Town:
    """A bench between two databases of the session's server: `app` is read, `warehouse` is written."""

    bench: Bench
    postgres: Postgres
    names: Mapping[str, str]

    @asynccontextmanager
    async def connect(self, place: str) -> AsyncIterator[asyncpg.Connection]:
        async with self.postgres.connect(self.names[place]) as connection:
            yield connection

    async def change(self, statement: str) -> None:
        async with self.connect("app") as connection:
            await connection.execute(statement)

    async def loaded(self, query: str = "SELECT id, total FROM bookings ORDER BY id") -> list[tuple[object, ...]]:
        async with self.connect("warehouse") as connection:
            return [tuple(row) for row in await connection.fetch(query)]


@pytest.fixture
async def town(bench: Bench, postgres: Postgres) -> AsyncIterator[Town]:
    names = {"app": await postgres.create(), "warehouse": await postgres.create()}
    made = Town(bench, postgres, names)
    await made.change(
        """CREATE TABLE bookings (
               id bigint PRIMARY KEY, total numeric(10, 2) NOT NULL, updated_at timestamptz NOT NULL);
           INSERT INTO bookings SELECT n, n * 10, timestamptz '2026-01-01' + n * interval '1 hour'
           FROM generate_series(1, 100) AS n"""
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


def reading(**config: object) -> JsonObject:
    return step("read", "extract", {"source_id": "app", "dataset": "bookings", **config})  # type: ignore[dict-item]


def loading(*inputs: str, mode: str = "upsert") -> JsonObject:
    keys: JsonObject = {"key_columns": ["id"]} if mode == "upsert" else {}
    config: JsonObject = {"destination_id": "warehouse", "table_name": "bookings", "write_mode": mode, **keys}
    return step("load", "load", config, *inputs)


INCREMENTAL = pipeline(reading(incremental={"cursor_column": "updated_at"}), loading("read"))


async def test_the_second_run_reads_only_what_changed(town: Town) -> None:
    saved, _ = await town.bench.pipeline(INCREMENTAL)
    _, first = await town.bench.again(saved)
    assert (first.totals["processed"], first.totals["inserted"]) == (100, 100)
    await town.change("UPDATE bookings SET total = 1, updated_at = now() WHERE id <= 3")
    await town.change("INSERT INTO bookings VALUES (101, 5, now())")
    _, second = await town.bench.again(saved)
    assert {key: second.totals[key] for key in ("processed", "inserted", "updated")} == {
        "processed": 4,
        "inserted": 1,
        "updated": 3,
    }
    assert len(await town.loaded()) == 101
    _, third = await town.bench.again(saved)
    assert third.totals["processed"] == 0


async def test_a_failed_run_does_not_move_the_cursor(town: Town) -> None:
    saved, _ = await town.bench.pipeline(INCREMENTAL)
    await town.bench.again(saved)
    async with town.connect("warehouse") as connection:
        await connection.execute("ALTER TABLE bookings ADD CONSTRAINT small CHECK (total < 5000)")
    await town.change("UPDATE bookings SET total = 9000, updated_at = now() WHERE id = 7")
    _, failed = await town.bench.again(saved)
    assert failed.state is ExecutionState.FAILED
    async with town.connect("warehouse") as connection:
        await connection.execute("ALTER TABLE bookings DROP CONSTRAINT small")
    _, again = await town.bench.again(saved)
    assert (again.totals["processed"], again.totals["updated"]) == (1, 1)


async def test_last_run_is_bound_into_the_query(town: Town) -> None:
    query = "SELECT id, total, updated_at FROM bookings WHERE updated_at > :last_run"
    read = step("read", "extract", {"source_id": "app", "query": query})
    saved, _ = await town.bench.pipeline(pipeline(read, loading("read")))
    _, first = await town.bench.again(saved)
    assert first.totals["inserted"] == 100
    _, second = await town.bench.again(saved)
    assert second.totals["processed"] == 0


async def test_a_dry_run_leaves_the_cursor_where_it_is(town: Town) -> None:
    saved, _ = await town.bench.pipeline(INCREMENTAL)
    await town.bench.again(saved, dry_run=True)
    _, real = await town.bench.again(saved)
    assert real.totals["inserted"] == 100


async def test_parameters_are_bound_and_never_pasted(town: Town) -> None:
    read = step("read", "extract", {"source_id": "app", "query": "SELECT id, total FROM bookings WHERE id::text = :id"})
    saved, _ = await town.bench.pipeline(pipeline(read, loading("read", mode="append")))
    for value, rows in (("7", 1), ("7' OR '1'='1", 0), ("7; DROP TABLE bookings", 0)):
        await town.bench.submit(saved, parameters={"id": value})
        ending = await town.bench.supervisor(await town.bench.take()).supervise()
        assert (ending.state, ending.totals["processed"]) == (ExecutionState.COMPLETED, rows)
    async with town.connect("app") as connection:
        assert await connection.fetchval("SELECT count(*) FROM bookings") == 100


async def test_an_execution_that_waits_to_try_again_backs_off(town: Town) -> None:
    async with town.bench.database.transaction(ENGINEER) as session:
        (place,) = (await places.page(session, DataDestination, Window())).rows
        reach: JsonObject = {"host": str(town.postgres.server.folder), "user": "postgres", "lock_timeout_seconds": 0.1}
        draft = DestinationDraft(connection={**reach, "database": town.names["warehouse"]})
        await places.update_destination(session, town.bench.sealer, place.id, draft)
    async with town.connect("warehouse") as connection:
        await connection.execute("CREATE TABLE bookings (id bigint PRIMARY KEY, total numeric, updated_at timestamptz)")
    policy: JsonObject = {"initial_seconds": 0.5, "max_seconds": 0.5, "max_attempts": 50}
    saved, _ = await town.bench.pipeline({**pipeline(reading(), loading("read")), "retry_policy": policy})
    execution = await town.bench.submit(saved)

    async def state(*wanted: str) -> bool:
        async with town.bench.database.transaction(RUNTIME) as session:
            found = text("SELECT state FROM pipeline_executions WHERE id = :id")
            return (await session.execute(found, {"id": execution})).scalar_one() in wanted

    async with town.connect("warehouse") as connection, connection.transaction():
        await connection.execute("LOCK TABLE bookings IN ACCESS EXCLUSIVE MODE")
        running = asyncio.create_task(town.bench.supervisor(await town.bench.take()).supervise())
        for wanted in ("backing_off", "running", "backing_off"):
            await eventually(partial(state, wanted), because=f"the execution is {wanted}")
    assert (await running).state is ExecutionState.COMPLETED


@pytest.mark.parametrize("count", [1, 4])
async def test_what_is_wrong_with_a_read_is_placed_in_the_definition(town: Town, count: int) -> None:
    read = reading(filters={"id": "seven"}, partition={"column": "id", "count": count})
    _, ending = await town.bench.run(pipeline(read, loading("read")))
    assert ending.error is not None
    assert (ending.error.path, ending.error.failed_step) == ("steps[0].config.filters.id", "read")


async def test_a_partitioned_read_loads_every_row_once_and_publishes_them_together(town: Town) -> None:
    partitioned = pipeline(
        reading(partition={"column": "id", "count": 4}),
        transform("kept", "filter", {"condition": "id % 2 = 0"}, "read"),
        loading("kept", mode="append"),
    )
    execution, ending = await town.bench.run(partitioned)
    assert (ending.totals["processed"], ending.totals["inserted"]) == (100, 50)
    assert [row[0] for row in await town.loaded()] == list(range(2, 101, 2))
    async with town.bench.database.transaction(RUNTIME) as session:
        query = text("SELECT * FROM step_executions WHERE pipeline_execution_id = :id")
        steps = {row.step_name: row for row in (await session.execute(query, {"id": execution})).all()}
    assert {name: (row.records_in, row.records_out) for name, row in steps.items()} == {
        "read": (100, 100),
        "kept": (100, 50),
        "load": (50, 50),
    }
    assert {name: row.transformation_stats for name, row in steps.items()} == {
        "read": {"rows_removed": 0, "rows_added": 0, "partitions": 4, "shared_time_with": ["kept", "load"]},
        "kept": {
            "transform": "filter",
            "rows_removed": 50,
            "rows_added": 0,
            "partitions": 4,
            "shared_time_with": ["read", "load"],
        },
        "load": {
            "rows_inserted": 50,
            "rows_updated": 0,
            "rows_deleted": 0,
            "rows_failed": 0,
            "partitions": 4,
            "shared_time_with": ["read", "kept"],
        },
    }


async def test_each_part_of_a_partitioned_read_sets_its_bad_rows_aside(town: Town) -> None:
    await town.change("UPDATE bookings SET total = 90000 WHERE id IN (1, 50, 100)")
    partitioned = pipeline(
        reading(partition={"column": "id", "count": 4}),
        transform("small", "cast", {"columns": {"total": "SMALLINT"}, "on_error": "reject"}, "read"),
        loading("small", mode="append"),
    )
    execution, ending = await town.bench.run(partitioned)
    assert (ending.totals["processed"], ending.totals["inserted"], ending.totals["failed"]) == (100, 97, 3)
    assert len(await town.loaded()) == 97
    async with town.bench.database.transaction(RUNTIME) as session:
        query = text("SELECT step_name, row FROM quarantined_rows WHERE pipeline_execution_id = :id")
        found = (await session.execute(query, {"id": execution})).all()
    assert sorted((name, row["id"], row["total"]) for name, row in found) == [
        ("small", number, "90000.00") for number in (1, 50, 100)
    ]


async def test_a_broken_part_of_a_partitioned_load_leaves_the_table_as_it_was(town: Town) -> None:
    await town.bench.run(pipeline(reading(), loading("read", mode="append"), name="before"))
    await town.change("UPDATE bookings SET total = 99999999.99 WHERE id = 90")
    narrow = pipeline(
        reading(partition={"column": "id", "count": 4}),
        transform("small", "cast", {"columns": {"total": "SMALLINT"}}, "read"),
        loading("small", mode="append"),
        name="narrow",
    )
    _, ending = await town.bench.run(narrow)
    assert ending.state is ExecutionState.FAILED
    assert len(await town.loaded()) == 100
    async with town.connect("warehouse") as connection:
        left = await connection.fetch("SELECT tablename FROM pg_tables WHERE tablename ~ 'staging'")
    assert left == []


WHOLE = reading(incremental={"cursor_column": "updated_at"})
DIVIDED = reading(incremental={"cursor_column": "updated_at"}, partition={"column": "id", "count": 4})
APART = transform("once", "deduplicate", {"keys": ["id"]}, "read")


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(pipeline(WHOLE, loading("read", mode="append")), id="whole"),
        pytest.param(pipeline(DIVIDED, loading("read", mode="append")), id="divided"),
        pytest.param(pipeline(WHOLE, APART, loading("once", mode="append")), id="read by another task"),
    ],
)
async def test_executions_that_overlap_load_each_row_once(town: Town, definition: JsonObject) -> None:
    saved, _ = await town.bench.pipeline(definition)
    async with town.connect("warehouse") as connection:
        await connection.execute(
            "CREATE TABLE bookings (id bigint, total numeric(10, 2), updated_at timestamptz NOT NULL)"
        )
    supervisors = []
    for _ in range(2):
        await town.bench.submit(saved)
        supervisors.append(town.bench.supervisor(await town.bench.take()))
    async with town.connect("warehouse") as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE bookings IN SHARE ROW EXCLUSIVE MODE")
        running = [asyncio.create_task(one.supervise()) for one in supervisors]

        async def both_have_read() -> bool:
            async with town.connect("warehouse") as other:
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'bookings'::regclass"
                return bool(await other.fetchval(waiting) == 2)

        await eventually(both_have_read, within=30, because="both wait for the table")
        await transaction.rollback()
    endings = await asyncio.gather(*running)
    assert [ending.state for ending in endings] == [ExecutionState.COMPLETED] * 2
    assert sorted(ending.totals["inserted"] for ending in endings) == [0, 100]
    assert [row[0] for row in await town.loaded()] == list(range(1, 101))


async def test_the_cursor_of_a_pipeline_never_moves_back(town: Town) -> None:
    saved, _ = await town.bench.pipeline(INCREMENTAL)

    async def cursor(statement: str = "SELECT cursor FROM pipeline_cursors") -> JsonObject:
        async with town.bench.database.transaction(RUNTIME) as session:
            found: JsonObject = (await session.execute(text(statement))).scalar_one()
            return found

    await town.bench.again(saved)
    first = await cursor()
    await town.bench.again(saved)
    assert await cursor() != first
    ahead = orjson.dumps(cursor_document("2030-01-01T00:00:00+00:00")).decode()
    await cursor(f"UPDATE pipeline_cursors SET cursor = '{ahead}' RETURNING cursor".replace(":", "\\:"))
    await town.bench.again(saved)
    assert (await cursor())["value"] == "2030-01-01T00:00:00+00:00"


def test_several_cursors_are_one_text_whose_order_does_not_matter() -> None:
    a, b = ReadRange(None, "1", {"load": None}), ReadRange("1", "2", {"load": None})
    assert cursor_move({"b": b, "a": a}, "load") == cursor_move({"a": a, "b": b}, "load")
    assert cursor_move({"a": a, "b": b}, "load") == CursorMove('{"a":"1","b":"2"}')
    assert cursor_move({}, "load") is None


def test_extracts_that_began_at_different_cursors_of_a_load_have_to_read_again() -> None:
    ranges = {"a": ReadRange(None, "1", {"load": None}), "b": ReadRange("1", "2", {"load": '{"a":"1","b":"1"}'})}
    with pytest.raises(Retryable) as raised:
        cursor_move(ranges, "load")
    assert raised.value.specific_code == CURSOR_MOVED


@pytest.mark.parametrize(
    ("kept", "read", "after"),
    [
        ("10", "9", "10"),
        ("9", "10", "10"),
        ("9", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T02:00:00+02:00", "2025-12-31T23:59:00+00:00", "2026-01-01T02:00:00+02:00"),
        ("b", "a", "b"),
        ("2026-01-01T00:00:00+00:00", "infinity", "infinity"),
    ],
)
def test_a_load_that_is_ahead_of_another_keeps_its_cursor(kept: str, read: str, after: str) -> None:
    move = cursor_move({"read": ReadRange("0", read, {"load": f'{{"read":"{kept}"}}'})}, "load")
    assert move == CursorMove(f'{{"read":"{after}"}}', f'{{"read":"{kept}"}}')


@pytest.mark.parametrize(("value", "rank"), [("7", 7), ("1.5", 1.5), ("1e30", 1e30), ("b", "b"), ("NaN", "NaN")])
def test_the_rank_of_a_kept_cursor_is_a_number_or_a_text(value: str, rank: object) -> None:
    assert cursor_document(value) == {"value": value, "rank": rank}
