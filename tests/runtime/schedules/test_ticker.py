"""The ticker: it fires each moment once, whoever leads, and says what became of each."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from models.fields import Json
from runtime.bus import Bus
from runtime.database import Database
from runtime.queue import leases
from runtime.schedules.ticker import FOLLOW_SECONDS, LEASE, STANDING_BY_SECONDS, Ticker
from runtime.settings import Settings
from tests.kit.database import Postgres
from tests.kit.eventually import eventually
from tests.kit.factories.pipelines import places
from tests.kit.identities import RUNTIME
from tests.runtime.schedules.scheduling import Clock, finish, fires, hourly, scheduled, ticked, ticker_of

NOW = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
ELEVEN = datetime(2026, 3, 1, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


async def test_a_moment_that_comes_makes_one_execution_and_moves_the_schedule_on(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    ticker = ticker_of(settings, database, clock)
    await ticked(ticker)
    assert await fires(owner, pipeline.id) == []
    clock.move(30 * MINUTE)
    await ticked(ticker)
    await ticked(ticker)
    assert await fires(owner, pipeline.id) == [(ELEVEN, "submitted", None)]
    row = await owner.fetchrow("SELECT * FROM pipeline_executions")
    schedule = await owner.fetchrow("SELECT * FROM schedules")
    item = await owner.fetchrow("SELECT * FROM work_items")
    assert row is not None
    assert schedule is not None
    assert item is not None
    assert (row["execution_type"], row["triggered_by"], row["version"]) == ("scheduled", None, 1)
    assert row["idempotency_key"] == f"schedule:{schedule['id']}:{ELEVEN.isoformat()}"
    assert (schedule["next_fire_at"], schedule["last_fire_at"]) == (ELEVEN + HOUR, ELEVEN)
    assert (item["kind"], item["subject"], item["pipeline_id"]) == ("execution", row["id"], pipeline.id)
    assert await owner.fetchval("SELECT array_agg(kind) FROM execution_events") == ["execution_queued"]


async def test_a_moment_that_was_decided_starts_nothing_when_it_comes_again(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    ticker = ticker_of(settings, database, clock)
    clock.move(30 * MINUTE)
    await owner.execute("UPDATE schedules SET is_paused = true")
    await ticked(ticker)
    ((at, outcome, _),) = await fires(owner, pipeline.id)
    assert (at, outcome) == (ELEVEN, "skipped")
    await owner.execute("UPDATE schedules SET is_paused = false, next_fire_at = $1, due_at = $1", ELEVEN)
    await ticked(ticker)
    assert len(await fires(owner, pipeline.id)) == 1
    assert await owner.fetchval("SELECT count(*) FROM pipeline_executions") == 0
    assert await owner.fetchval("SELECT next_fire_at FROM schedules") == ELEVEN + HOUR


async def test_two_tickers_at_once_never_fire_twice(
    settings: Settings, database: Database, owner: asyncpg.Connection, postgres: Postgres, database_name: str
) -> None:
    """Both believe to lead, as after a lease lapsed unnoticed, and have missed a day of half an hour each."""
    await places(database)
    for number in range(5):
        await scheduled(
            database,
            NOW,
            f"p{number}",
            schedule={"type": "interval", "expression": "30m", "catch_up": "all", "overlap": "queue"},
        )
    clock = Clock(NOW + 24 * HOUR)
    other = Database(postgres.server.url(database_name), pool_size=2)
    tickers = [ticker_of(settings, database, clock), ticker_of(settings, other, clock)]
    for ticker in tickers:
        async with database.statements(RUNTIME) as session:
            await leases.drop(session, LEASE, tickers[0].name)
        await ticker.step()
    assert all(ticker.leads for ticker in tickers)
    await asyncio.gather(*(ticked(ticker) for ticker in tickers for _ in range(3)))
    await other.close()
    assert await owner.fetchval("SELECT count(*) FROM schedule_fires WHERE outcome = 'submitted'") == 5 * 48
    assert await owner.fetchval("SELECT count(*) FROM pipeline_executions") == 5 * 48
    assert await owner.fetchval("SELECT count(DISTINCT execution_id) FROM schedule_fires") == 5 * 48


async def test_a_leader_that_dies_is_replaced_and_one_that_leaves_at_once(
    settings: Settings, database: Database, owner: asyncpg.Connection
) -> None:
    first, second = Ticker(settings, database, Bus(None)), Ticker(settings, database, Bus(None))
    await first.step()
    await second.step()
    assert (first.leads, second.leads) == (True, False)
    began = datetime.now(UTC)
    running = asyncio.create_task(second.run())

    async def leads() -> bool:
        return second.leads

    await eventually(leads, within=15, because="the lease of the first lapses")
    assert datetime.now(UTC) - began > timedelta(seconds=1)
    second.close()
    await second.ended()
    await running
    assert await owner.fetchval("SELECT count(*) FROM leases WHERE name = $1", LEASE) == 0
    await first.step()
    assert first.leads


CATCHING_UP: list[tuple[dict[str, Json], list[str]]] = [
    ({"catch_up": "all"}, ["submitted"] * 4),
    ({"catch_up": "latest"}, ["missed", "missed", "missed", "submitted"]),
    ({"catch_up": "none"}, ["missed"] * 4),
    ({"catch_up": "all", "overlap": "cancel"}, ["skipped", "skipped", "skipped", "submitted"]),
]


@pytest.mark.parametrize(("options", "outcomes"), CATCHING_UP)
async def test_what_was_missed_is_made_up_for_as_the_schedule_says(
    options: dict[str, Json],
    outcomes: list[str],
    settings: Settings,
    database: Database,
    owner: asyncpg.Connection,
    clock: Clock,
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW, schedule=hourly(**options))
    clock.move(4 * HOUR)
    await ticked(ticker_of(settings, database, clock))
    assert [outcome for _, outcome, _ in await fires(owner, pipeline.id)] == outcomes


async def states(owner: asyncpg.Connection) -> list[tuple[str, bool]]:
    """Each execution in order: its state, and whether it is held back."""
    rows: list[Any] = await owner.fetch(
        """SELECT execution.state, item.run_after = 'infinity' AND item.state = 'queued' AS held
           FROM pipeline_executions AS execution JOIN work_items AS item ON item.subject = execution.id
           ORDER BY item.created_at"""
    )
    return [(row["state"], row["held"]) for row in rows]


async def fired_twice(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock, **options: Json
) -> tuple[Ticker, UUID]:
    """A schedule that came twice while the first run had not ended."""
    assert await owner.fetchval("SELECT count(*) FROM schedules") == 0
    await places(database)
    pipeline = await scheduled(database, NOW, schedule=hourly(**options))
    ticker = ticker_of(settings, database, clock)
    for _ in range(2):
        clock.move(HOUR)
        await ticked(ticker)
    return ticker, pipeline.id


async def test_a_moment_goes_by_while_the_run_before_has_not_ended(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    ticker, pipeline = await fired_twice(settings, database, owner, clock)
    found = await fires(owner, pipeline)
    assert [outcome for _, outcome, _ in found] == ["submitted", "skipped"]
    assert found[1][2] == "the run before had not ended"
    await finish(owner, pipeline)
    clock.move(HOUR)
    await ticked(ticker)
    assert (await fires(owner, pipeline))[-1][1] == "submitted"


async def test_a_queued_moment_starts_when_the_run_before_has_ended(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    ticker, _ = await fired_twice(settings, database, owner, clock, overlap="queue")
    clock.move(HOUR)
    await ticked(ticker)
    assert await states(owner) == [("queued", False), ("queued", True), ("queued", True)]
    await owner.execute(
        """UPDATE pipeline_executions SET state = 'completed', status = 'completed', completed_at = now()
           WHERE id = (SELECT subject FROM work_items ORDER BY created_at LIMIT 1)"""
    )
    await ticked(ticker)
    await ticked(ticker)
    assert await states(owner) == [("completed", False), ("queued", False), ("queued", True)]


async def test_the_run_before_is_cancelled_where_the_schedule_says_so(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await fired_twice(settings, database, owner, clock, overlap="cancel")
    assert await states(owner) == [("cancelled", False), ("queued", False)]
    kinds = await owner.fetchval("SELECT array_agg(kind ORDER BY execution_id, seq) FROM execution_events")
    assert sorted(kinds) == ["execution_cancelled", "execution_queued", "execution_queued"]


@pytest.mark.parametrize("table", ["schedules", "data_pipelines"])
async def test_moments_during_a_pause_are_skipped(
    table: str, settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    await owner.execute(f"UPDATE {table} SET is_paused = true")
    clock.move(HOUR)
    ticker = ticker_of(settings, database, clock)
    await ticked(ticker)
    await owner.execute(f"UPDATE {table} SET is_paused = false")
    clock.move(HOUR)
    await ticked(ticker)
    assert await fires(owner, pipeline.id) == [
        (ELEVEN, "skipped", "it was paused"),
        (ELEVEN + HOUR, "submitted", None),
    ]


async def test_a_jittered_moment_starts_late_and_keeps_its_time(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW, schedule=hourly(jitter_seconds=600))
    due = await owner.fetchval("SELECT due_at FROM schedules")
    assert ELEVEN < due < ELEVEN + 10 * MINUTE
    ticker = ticker_of(settings, database, clock)
    clock.move(due - NOW - timedelta(seconds=1))
    await ticked(ticker)
    assert await fires(owner, pipeline.id) == []
    clock.move(timedelta(seconds=2))
    await ticked(ticker)
    assert await fires(owner, pipeline.id) == [(ELEVEN, "submitted", None)]


async def test_a_schedule_that_has_ended_fires_no_more(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    ends = (ELEVEN + HOUR).isoformat()
    pipeline = await scheduled(database, NOW, schedule=hourly(ends_at=ends, catch_up="all"))
    clock.move(5 * HOUR)
    await ticked(ticker_of(settings, database, clock))
    assert [at for at, _, _ in await fires(owner, pipeline.id)] == [ELEVEN]
    assert await owner.fetchval("SELECT next_fire_at FROM schedules") is None


async def test_a_backlog_of_many_moments_is_worked_off_piece_by_piece(
    settings: Settings, database: Database, owner: asyncpg.Connection, clock: Clock
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW, schedule={"type": "interval", "expression": "1m"})
    clock.move(5 * HOUR)
    await ticked(ticker_of(settings, database, clock))
    outcomes = [outcome for _, outcome, _ in await fires(owner, pipeline.id)]
    assert outcomes == ["missed"] * 299 + ["submitted"]


async def test_one_that_stands_by_lets_others_lead_first(settings: Settings, database: Database, clock: Clock) -> None:
    standby = Ticker(settings, database, Bus(None), clock.now, clock.monotonic, stands_by=True)
    assert (await standby.step(), standby.leads) == (FOLLOW_SECONDS, False)
    clock.move(timedelta(seconds=STANDING_BY_SECONDS))
    await standby.step()
    assert standby.leads
