"""Event schedules: what they wait for is found when they are saved, and starts them once."""

import os
from datetime import UTC, datetime, timedelta
from json import loads
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from models.errors import Invalid, NotFound, Unauthenticated
from models.executions import ExecutionState
from models.fields import JsonObject
from models.schedules import EventKind
from runtime.access.sealing import sealer_of
from runtime.connectors.csv_files import CsvConfig, CsvSource
from runtime.database import Database
from runtime.pipelines import store as pipelines
from runtime.schedules import listing, store, watching, webhooks
from runtime.schedules.webhooks import Delivery, signature_of
from runtime.settings import Settings
from tests.kit.factories.pipelines import execution, pipeline, places, saved, simple
from tests.kit.identities import ENGINEER, RUNTIME
from tests.runtime.schedules.scheduling import Clock, fires, scheduled, ticked, ticker_of


def event(expression: str) -> JsonObject:
    return {"type": "event", "expression": expression}


async def completed(owner: asyncpg.Connection, database: Database, pipeline_id: Any) -> None:
    """An execution of a pipeline that runs, and completes."""
    await saved(database, execution(pipeline_id, ExecutionState.RUNNING))
    await owner.execute(
        """UPDATE pipeline_executions SET state = 'completed', status = 'completed', completed_at = now()
           WHERE pipeline_id = $1""",
        pipeline_id,
    )


@pytest.mark.parametrize("expression", ["pipeline:bookings", "dataset:analytics-warehouse/fact_bookings"])
async def test_what_a_pipeline_completes_or_loads_starts_another_once(
    expression: str, settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    first = await pipeline(database, simple("bookings"))
    second = await scheduled(database, datetime.now(UTC), "report", event(expression))
    await completed(owner, database, first.id)
    ticker = ticker_of(settings, database, Clock(datetime.now(UTC) + timedelta(seconds=1)))
    await ticked(ticker)
    await ticked(ticker)
    found = await owner.fetch("SELECT execution_type FROM pipeline_executions WHERE pipeline_id = $1", second.id)
    assert [row["execution_type"] for row in found] == ["triggered"]
    assert [outcome for _, outcome, _ in await fires(owner, second.id)] == ["submitted"]


async def test_a_failure_and_a_dry_run_start_nothing(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    first = await pipeline(database, simple("bookings"))
    await scheduled(database, datetime.now(UTC), "report", event("pipeline:bookings"))
    await saved(database, execution(first.id, ExecutionState.RUNNING), execution(first.id, ExecutionState.RUNNING))
    await owner.execute("UPDATE pipeline_executions SET state = 'failed', status = 'failed'")
    await owner.execute("UPDATE pipeline_executions SET dry_run = true, status = 'completed'")
    assert await owner.fetchval("SELECT count(*) FROM schedule_arrivals") == 0


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("pipeline:bookngs", "no pipeline 'bookngs'.*did you mean 'bookings'"),
        ("dataset:nowhere/t", "no destination 'nowhere'"),
        ("file:lost/*.csv", "no source 'lost'"),
        ("file:wedding-api-db/*.csv", "of the type database.*name a source of the type file"),
        ("stream:clicks/answers", "no source 'clicks'"),
        ("stream:wedding-api-db/answers", "of the type database.*name a source of the type stream"),
        ("stream:clicks", "should be stream:SOURCE/STREAM"),
        ("bookings", "names no event: write pipeline:NAME"),
        ("webhook:Not A Name", "small letters"),
        ("dataset:warehouse", "should be dataset:DESTINATION/TABLE"),
    ],
)
async def test_an_event_of_nothing_is_refused_with_the_remedy(expression: str, said: str, database: Database) -> None:
    await places(database)
    await pipeline(database, simple("bookings"))
    with pytest.raises(Invalid, match=said) as refused:
        await scheduled(database, datetime.now(UTC), "report", event(expression))
    assert refused.value.path == "schedule_config.expression"


async def test_pipelines_that_would_start_each_other_for_ever_are_refused(database: Database) -> None:
    await places(database)
    now = datetime.now(UTC)
    await scheduled(database, now, "a")
    await scheduled(database, now, "b", event("pipeline:a"))
    with pytest.raises(Invalid, match="over and over, by way of 'b'"):
        await edit_schedule(database, "a", "pipeline:b")
    with pytest.raises(Invalid, match="over and over, by way of 'a'"):
        await edit_schedule(database, "a", "pipeline:a")


async def loading(database: Database, name: str, table: str, expression: str | None = None) -> None:
    """A pipeline that loads a table, saved with its schedule."""
    write: JsonObject = {"destination_id": "analytics-warehouse", "table_name": table, "write_mode": "append"}
    schedule: JsonObject = event(expression) if expression else {"type": "interval", "expression": "1h"}
    async with database.transaction(ENGINEER) as session:
        document = simple(name, destination_config=write, schedule_config=schedule)
        row = await pipelines.create(session, document, ENGINEER)
        await store.follow(session, row, datetime.now(UTC))


async def test_pipelines_that_would_start_each_other_by_what_they_load_are_refused(database: Database) -> None:
    await places(database)
    await loading(database, "a", "t1")
    await loading(database, "b", "t2", "dataset:analytics-warehouse/t1")
    await loading(database, "c", "t3", "pipeline:b")
    await edit_schedule(database, "a", "dataset:analytics-warehouse/t9")
    for expression in ("dataset:analytics-warehouse/t2", "dataset:analytics-warehouse/t3", "pipeline:c"):
        with pytest.raises(Invalid, match="over and over, by way of") as refused:
            await edit_schedule(database, "a", expression)
        assert "by cron, by an interval" in (refused.value.hint or "")
    await loading(database, "d", "t9")
    with pytest.raises(Invalid, match="over and over, by way of 'analytics-warehouse/t1'"):
        await loading(database, "e", "t9", "dataset:analytics-warehouse/t1")


async def test_a_pipeline_may_wait_for_others_that_load_the_table_it_loads(database: Database) -> None:
    await places(database)
    await loading(database, "a", "t1")
    await loading(database, "b", "t1", "dataset:analytics-warehouse/t1")


async def edit_schedule(database: Database, name: str, expression: str) -> None:
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.find(session, name)
        edit = pipelines.Edit(changes={"schedule_config": event(expression)})
        row = await pipelines.update(session, row.id, edit, ENGINEER)
        await store.follow(session, row, datetime.now(UTC))


async def test_a_signed_request_starts_its_pipeline_once(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    row = await scheduled(database, datetime.now(UTC), "hooked", event("webhook:vendor-sync"))
    sealer, now = sealer_of(settings), datetime.now(UTC)
    async with database.transaction(ENGINEER) as session:
        issued = await webhooks.issue(session, sealer, row)
    assert issued.path == "/api/webhooks/vendor-sync"
    stamp = str(int(now.timestamp()))
    good = Delivery("vendor-sync", stamp, signature_of(issued.secret, stamp, b"{}"), b"{}")
    old = str(int(now.timestamp()) - 301)
    bad = [
        Delivery("vendor-sync", stamp, good.signature, b"{ }"),
        Delivery("vendor-sync", None, None, b""),
        Delivery("vendor-sync", old, signature_of(issued.secret, old, b""), b""),
        Delivery("vendor-sync", stamp, signature_of("whsec_guess", stamp, b"{}"), b"{}"),
    ]
    async with database.statements(RUNTIME) as session:
        assert [await webhooks.arrive(session, sealer, good, now) for _ in range(2)] == [True, False]
        for delivery in bad:
            with pytest.raises(Unauthenticated):
                await webhooks.arrive(session, sealer, delivery, now)
    await ticked(ticker_of(settings, database, Clock(datetime.now(UTC) + timedelta(seconds=1))))
    assert await owner.fetchval("SELECT count(*) FROM pipeline_executions") == 1


async def test_a_webhooks_body_gives_the_parameters_that_its_pipeline_declares(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    each: JsonObject = {**event("webhook:vendor-sync"), "catch_up": "all", "overlap": "queue"}
    document = simple("hooked", schedule_config=each, parameters={"vendor": None, "since": "x"})
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.create(session, document, ENGINEER)
        await store.follow(session, row, datetime.now(UTC))
        secret = (await webhooks.issue(session, sealer_of(settings), row)).secret

    async def arrived(body: bytes) -> bool:
        now = datetime.now(UTC)
        stamp = str(int(now.timestamp()))
        delivery = Delivery("vendor-sync", stamp, signature_of(secret, stamp, body), body)
        async with database.statements(RUNTIME) as session:
            return await webhooks.arrive(session, sealer_of(settings), delivery, now)

    assert await arrived(b'{"vendor": "v-7\\u0000", "kind": "updated"}')
    for body, said in (
        (b"vendor=v-7", "the body is not JSON"),
        (b"[1]", "the body is no object"),
        (b'{"vendor": "' + b"x" * 65_536 + b'"}', "65,550 bytes"),
    ):
        with pytest.raises(Invalid, match=said) as refused:
            await arrived(body)
        assert (refused.value.path, "since, vendor" in (refused.value.hint or "")) == ("body", True)
    assert await arrived(b"")
    await ticked(ticker_of(settings, database, Clock(datetime.now(UTC) + timedelta(seconds=1))))
    found = await owner.fetch("SELECT execution_context FROM pipeline_executions ORDER BY started_at")
    contexts = [loads(row["execution_context"]) for row in found]
    assert contexts == [{"parameters": {"vendor": "v-7\N{REPLACEMENT CHARACTER}"}}, {}]


@pytest.mark.parametrize(("kind", "other"), [(EventKind.FILE, EventKind.STREAM), (EventKind.STREAM, EventKind.FILE)])
async def test_files_and_messages_that_come_are_one_arrival_a_look(
    kind: EventKind, other: EventKind, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    source = await saved_source(owner, kind)
    await scheduled(database, datetime.now(UTC), "watching", event(f"{kind.value}:drop/in/*.csv"))
    schedule = await owner.fetchval("SELECT id FROM schedules")
    async with database.statements(RUNTIME) as session:
        assert await watching.ask(session, other) == 0
        assert [await watching.ask(session, kind) for _ in range(2)] == [1, 0]
        watch = await watching.watch_of(session, schedule)
        assert watch == watching.Watch(schedule, kind, source, "in/*.csv")
        looks: list[dict[str, str]] = [{"a": "1"}, {"a": "1"}, {"a": "2", "b": "1", "c": "1"}, {"b": "1", "c": "1"}]
        changed = [await watching.saw(session, watch, look) for look in looks]
    assert changed == [[], [], ["a", "b", "c"], []]
    assert await owner.fetchval("SELECT count(*) FROM schedule_arrivals") == 1


async def test_a_look_is_forgotten_with_the_next_and_what_failed_is_told_until_it_does_not(
    database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    source = await saved_source(owner, EventKind.FILE)
    row = await scheduled(database, datetime.now(UTC), "watching", event("file:drop/*.csv"))
    watch = watching.Watch(await owner.fetchval("SELECT id FROM schedules"), EventKind.FILE, source, "*.csv")
    problems: list[str | None] = []
    async with database.statements(RUNTIME) as session:
        for error in (None, NotFound("no such folder", hint="make it"), None):
            await watching.ask(session, EventKind.FILE)
            await session.execute(text("UPDATE work_items SET state = 'done'"))
            if error is None:
                await watching.saw(session, watch, {})
            else:
                await watching.failed(session, watch, error)
            problems.extend(one.problem for one in await listing.of_pipelines(session, [row.id]) if one is not None)
    assert problems == [None, "no such folder (make it)", None]
    assert await owner.fetchval("SELECT count(*) FROM work_items") == 1


async def saved_source(owner: asyncpg.Connection, kind: EventKind) -> Any:
    """The id of a source named `drop`."""
    return await owner.fetchval(
        """INSERT INTO data_sources (source_name, source_type, kind, connection_config)
           VALUES ('drop', $1, 'any', '{}') RETURNING id""",
        kind.value,
    )


async def test_only_what_is_looked_for_is_watched(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    await pipeline(database, simple("bookings"))
    await scheduled(database, datetime.now(UTC), "report", event("pipeline:bookings"))
    schedule = await owner.fetchval("SELECT id FROM schedules")
    async with database.statements(RUNTIME) as session:
        assert await watching.watch_of(session, schedule) is None


def test_files_are_told_once_they_rest(tmp_path: Path) -> None:
    for name, age in (("old.csv", 60.0), ("new.csv", 0.0), ("other.txt", 60.0)):
        (tmp_path / name).write_text("a\n1\n")
        stamp = datetime.now(UTC).timestamp() - age
        os.utime(tmp_path / name, (stamp, stamp))
    source = CsvSource(CsvConfig(root=str(tmp_path)))
    assert list(source.marks("*.csv", 10)) == ["old.csv"]
    assert source.marks("nothing/here", 10) == {}
    with pytest.raises(Invalid, match="means 2 files, more than 1"):
        source.marks("*.csv", 1)
