"""Streams of events have no gap and no repeat: from a cursor, while they happen, and however transactions commit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Exhausted, Invalid, NotFound
from models.events import EventKind
from models.executions import ExecutionState, PipelineExecution
from runtime.bus import ALL_EVENTS, Bus, events_topic
from runtime.database import Database
from runtime.executions.events import Event, Span, of_all, of_some, settled
from runtime.executions.feeds import Pace
from runtime.executions.hub import Hub
from tests.kit.database import Postgres
from tests.kit.eventually import eventually
from tests.kit.factories.pipelines import execution, pipeline, places, saved, told
from tests.kit.identities import ANALYST, ENGINEER, RUNTIME
from tests.kit.statements import recorded

PROGRESS = EventKind.STEP_PROGRESS
DONE = EventKind.EXECUTION_COMPLETED
QUICK = Pace(poll_seconds=0.02, linger_seconds=0.1)
NEVER = Pace(poll_seconds=600)


@pytest.fixture
async def running(database: Database) -> PipelineExecution:
    """An execution that runs, without events yet."""
    await places(database)
    row = execution((await pipeline(database)).id, ExecutionState.RUNNING, ago=timedelta(0))
    await saved(database, row)
    return row


@pytest.fixture
async def hub(database: Database) -> AsyncIterator[Hub]:
    """A hub without a bus."""
    made = Hub(database, Bus(None), QUICK)
    yield made
    await made.close()


async def test_events_are_read_between_two_cursors(database: Database, running: PipelineExecution) -> None:
    await told(database, running, [PROGRESS] * 5)
    async with database.transaction(RUNTIME) as session:
        read = await of_some(session, [Span(running.id, running.started_at, 1, 4)])
        first = await of_some(session, [Span(running.id, running.started_at, 0)], most=2)
        last = await settled(session)
        everything = await of_all(session, 0, last)
    assert [event.seq for event in read] == [2, 3, 4]
    assert [event.seq for event in first] == [1, 2]
    assert [event.seq for event in everything] == [1, 2, 3, 4, 5]
    assert everything[0].payload == b'{"n": 1}'


async def test_a_position_is_settled_only_when_earlier_writers_are_gone(
    database: Database, running: PipelineExecution
) -> None:
    other = execution(running.pipeline_id, ExecutionState.RUNNING)
    await saved(database, other)
    async with AsyncExitStack() as late:
        session = await late.enter_async_context(database.transaction(RUNTIME))
        await written(session, running)
        await told(database, other, [PROGRESS])
        reading = asyncio.create_task(read_all(database))
        done, _ = await asyncio.wait([reading], timeout=0.2)
        assert not done
    assert [event.execution_id for event in await reading] == [running.id, other.id]


async def test_a_reader_does_not_wait_for_writers_that_came_after_it(
    database: Database, running: PipelineExecution
) -> None:
    await told(database, running, [PROGRESS])
    async with AsyncExitStack() as stack:
        early = await stack.enter_async_context(database.transaction(RUNTIME))
        await written(early, running)
        reading = asyncio.create_task(read_all(database))
        await asyncio.wait([reading], timeout=0.1)
        other = execution(running.pipeline_id, ExecutionState.RUNNING)
        await saved(database, other)
        async with database.transaction(RUNTIME) as later:
            await written(later, other)
            await early.commit()
            assert [event.seq for event in await asyncio.wait_for(reading, 5)] == [1, 2]


async def written(session: AsyncSession, row: PipelineExecution) -> None:
    """An event in a transaction that stays open."""
    await session.execute(
        text(
            "WITH one AS (UPDATE pipeline_executions SET last_event_seq = last_event_seq + 1 WHERE id = :id"
            " RETURNING id, last_event_seq) INSERT INTO execution_events (execution_id, seq, kind)"
            " SELECT id, last_event_seq, 'step_progress' FROM one"
        ),
        {"id": row.id},
    )


async def read_all(database: Database) -> list[Event]:
    async with database.transaction(RUNTIME) as session:
        return await of_all(session, 0, await settled(session))


async def test_a_stream_replays_follows_and_ends_with_the_last_event(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    await told(database, running, [PROGRESS] * 3)
    seen: list[int] = []
    async for event in hub.execution(ENGINEER, running.execution_id, 1):
        seen.append(event.seq)
        if event.seq == 3:
            await told(database, running, [PROGRESS, DONE])
    assert seen == [2, 3, 4, 5]


async def test_the_stream_of_an_execution_that_has_ended_replays_and_ends(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    await told(database, running, [PROGRESS, DONE])
    assert [event.seq async for event in hub.execution(ENGINEER, str(running.id), 0)] == [1, 2]
    assert [event.seq async for event in hub.execution(ENGINEER, str(running.id), 2)] == []


@pytest.mark.parametrize("ends", [True, False])
async def test_a_cursor_beyond_the_last_event_is_refused(
    database: Database, running: PipelineExecution, hub: Hub, ends: bool
) -> None:
    await told(database, running, [PROGRESS, DONE if ends else PROGRESS])
    with pytest.raises(Invalid, match="its last one is 2") as refused:
        await anext(hub.execution(ENGINEER, str(running.id), 3))
    assert (refused.value.path, bool(refused.value.hint)) == ("after", True)


async def test_many_who_join_at_different_moments_each_see_everything_once(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    async def watched() -> list[int]:
        return [event.seq async for event in hub.execution(ENGINEER, str(running.id), 0)]

    watching: list[asyncio.Task[list[int]]] = []
    for _ in range(12):
        watching.append(asyncio.create_task(watched()))
        await told(database, running, [PROGRESS] * 7)
    await told(database, running, [DONE])
    for seen in await asyncio.gather(*watching):
        assert seen == list(range(1, 12 * 7 + 2))


async def test_a_stream_longer_than_a_page_has_no_gap(database: Database, running: PipelineExecution, hub: Hub) -> None:
    await told(database, running, [PROGRESS] * 700)
    await told(database, running, [DONE])
    assert [event.seq async for event in hub.execution(ENGINEER, str(running.id), 0)] == list(range(1, 702))


async def test_one_who_takes_too_slowly_is_told_where_to_go_on_and_misses_nothing(
    database: Database, running: PipelineExecution
) -> None:
    hub = Hub(database, Bus(None), Pace(poll_seconds=0.02, backlog=5))
    await told(database, running, [PROGRESS])
    seen: list[int] = []

    async def behind() -> bool:
        return any(one._is_behind for feed in hub._executions._feeds.values() for one in feed.watchers)

    async def dawdle() -> None:
        async for event in hub.execution(ENGINEER, str(running.id), 0):
            seen.append(event.seq)
            if event.seq == 1:
                await told(database, running, [PROGRESS] * 20)
                await eventually(behind, because="the backlog is full")

    with pytest.raises(Exhausted) as refused:
        await dawdle()
    assert refused.value.specific_code == "too_slow"
    assert f"after: {seen[-1]}" in (refused.value.hint or "")
    await told(database, running, [DONE])
    seen.extend([event.seq async for event in hub.execution(ENGINEER, str(running.id), seen[-1])])
    assert seen == list(range(1, 23))
    await hub.close()


async def test_what_somebody_may_not_see_is_not_found_and_not_streamed(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    with pytest.raises(NotFound):
        await anext(hub.execution(ANALYST, str(running.id), 0))
    mine = execution(running.pipeline_id, ExecutionState.RUNNING, by=ANALYST)
    async with database.transaction(RUNTIME) as session:
        session.add(mine)
    await told(database, running, [PROGRESS], by=RUNTIME)
    await told(database, mine, [PROGRESS], by=RUNTIME)
    async with aclosing(hub.everything(ANALYST, 0)) as stream:
        assert (await anext(stream)).execution_id == mine.id
    async with aclosing(hub.everything(ENGINEER, 0)) as stream:
        assert [(await anext(stream)).execution_id for _ in range(2)] == [running.id, mine.id]


async def test_the_stream_of_all_executions_goes_on_from_a_cursor_and_filters_kinds(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    await told(database, running, [PROGRESS, PROGRESS])
    async with aclosing(hub.everything(ENGINEER, 0)) as stream:
        first = await anext(stream)
    async with aclosing(hub.everything(ENGINEER, first.position, [PROGRESS, DONE])) as stream:
        assert (await anext(stream)).seq == 2
        await told(database, running, [EventKind.STEP_COMPLETED, PROGRESS, DONE])
        assert [(await anext(stream)).seq for _ in range(2)] == [4, 5]


async def test_without_a_cursor_all_executions_are_followed_from_now(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    await told(database, running, [PROGRESS])
    async with aclosing(hub.everything(ENGINEER, None)) as stream:
        coming = asyncio.ensure_future(anext(stream))

        async def followed() -> bool:
            return hub._everything.cursor(None) is not None

        await eventually(followed, because="the stream is followed")
        await told(database, running, [PROGRESS])
        assert (await coming).seq == 2


async def test_events_committed_in_reverse_order_are_streamed_in_the_order_of_positions(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    others = [execution(running.pipeline_id, ExecutionState.RUNNING) for _ in range(3)]
    await saved(database, *others)
    async with aclosing(hub.everything(ENGINEER, 0)) as stream:
        coming = asyncio.ensure_future(anext(stream))
        stacks = []
        for row in (running, *others):
            stack = AsyncExitStack()
            await written(await stack.enter_async_context(database.transaction(RUNTIME)), row)
            stacks.append(stack)
        for stack in reversed(stacks):
            await stack.aclose()
        seen = [await coming, *[await anext(stream) for _ in others]]
    assert [event.execution_id for event in seen] == [running.id, *(row.id for row in others)]
    assert [event.position for event in seen] == sorted(event.position for event in seen)


async def test_a_wake_up_is_enough(database: Database, running: PipelineExecution, bus: Bus, redis_url: str) -> None:
    hub = Hub(database, Bus(redis_url), NEVER)
    await told(database, running, [PROGRESS])
    async with (
        aclosing(hub.execution(ENGINEER, str(running.id), 0)) as mine,
        aclosing(hub.everything(ENGINEER, 0)) as all_,
    ):
        assert (await anext(mine)).seq == (await anext(all_)).seq == 1
        coming = [asyncio.ensure_future(anext(mine)), asyncio.ensure_future(anext(all_))]
        await told(database, running, [PROGRESS])

        async def woken() -> bool:
            await bus.publish(events_topic(running.id), ALL_EVENTS)
            return all(one.done() for one in coming)

        await eventually(woken, because="both streams were woken")
    await hub.close()


async def test_the_loop_ends_a_while_after_the_last_watcher_and_begins_again(
    database: Database, running: PipelineExecution, hub: Hub
) -> None:
    await told(database, running, [PROGRESS])
    for _ in range(2):
        async with aclosing(hub.execution(ENGINEER, str(running.id), 0)) as stream:
            await anext(stream)

        async def idle() -> bool:
            return not hub._executions._tasks

        await eventually(idle, because="nobody watches any more")


async def test_any_number_of_executions_is_read_in_one_statement(
    database: Database, running: PipelineExecution
) -> None:
    rows = [execution(running.pipeline_id, ExecutionState.RUNNING) for _ in range(10)]
    await saved(database, *rows)
    async with database.transaction(RUNTIME) as session:
        for row in rows:
            await written(session, row)
    async with database.transaction(RUNTIME) as session:
        with recorded(database) as statements:
            events = await of_some(session, [Span(row.id, row.started_at, 0) for row in rows])
    assert {event.execution_id for event in events} == {row.id for row in rows}
    assert len(statements) == 1


async def test_a_database_that_is_away_for_a_while_breaks_no_stream(
    database: Database, running: PipelineExecution, hub: Hub, postgres: Postgres, database_name: str
) -> None:
    await told(database, running, [PROGRESS])
    async with aclosing(hub.execution(ENGINEER, str(running.id), 0)) as stream:
        assert (await anext(stream)).seq == 1
        async with postgres.connect("postgres") as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database_name
            )
        await told(database, running, [PROGRESS])
        assert (await asyncio.wait_for(anext(stream), 10)).seq == 2
