"""Chunks are let go a few at a time, whoever keeps house; a backfill can be paused, resumed, cancelled, and ends."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import text

from models.backfills import BackfillState
from models.errors import Conflict, NotFound
from models.executions import ExecutionState
from runtime.backfills import control
from runtime.backfills.store import BackfillProgress
from runtime.executions.submission import request_cancel
from runtime.pipelines import store as pipelines
from runtime.pipelines.store import Edit
from runtime.queue import store as queue
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.statements import recorded
from tests.runtime.backfills.conftest import Yard


async def test_at_most_so_many_can_be_claimed_until_one_ends(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-11", most_at_once=3)
    first = await yard.claim()
    assert (len(first), await yard.claim()) == (3, [])
    assert await yard.keep() == control.Kept(open=1, released=0)
    await yard.end(first[0], first[1])
    assert await yard.keep() == control.Kept(open=1, released=2)
    following = await yard.claim()
    assert await yard.ranges(following) == [("2026-01-04", "2026-01-05"), ("2026-01-05", "2026-01-06")]


async def test_a_backfill_ends_with_its_last_chunk(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-11", most_at_once=3)
    await yard.through()
    ended = await yard.backfill(found.id)
    assert (ended.state, ended.finished_at is not None) == (BackfillState.COMPLETED, True)
    assert await yard.progress(found.id) == BackfillProgress(completed=10)
    assert await yard.keep() == control.Kept(open=0, released=0)


async def test_a_backfill_with_a_failed_chunk_has_failed_and_runs_the_others(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-05")
    (first,) = await yard.claim()
    await yard.end(first, state=ExecutionState.FAILED)
    await yard.keep()
    await yard.through()
    assert (await yard.backfill(found.id)).state is BackfillState.FAILED
    assert await yard.progress(found.id) == BackfillProgress(completed=3, failed=1)


async def test_several_that_keep_house_at_once_let_no_more_go(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-07-01", most_at_once=5)
    running = await yard.claim()
    for _ in range(10):
        await yard.end(*running[:2])
        await asyncio.gather(*(yard.keep() for _ in range(4)))
        running = [*running[2:], *await yard.claim()]
        assert len(running) == 5
    assert (await yard.progress(found.id)).completed == 20


async def test_keeping_house_is_one_statement(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-11")
    with recorded(yard.database) as statements:
        await yard.keep()
    assert len(statements) == 1


async def test_a_paused_one_lets_nothing_go_and_goes_on_when_it_is_resumed(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-11", most_at_once=2)
    (running,) = await yard.claim(1)
    async with yard.database.statements(ENGINEER) as session:
        await control.pause(session, found.id)
        await control.pause(session, found.id)
    assert (await yard.backfill(found.id)).state is BackfillState.PAUSED
    assert await yard.claim() == []
    await yard.end(running)
    assert (await yard.keep()).released == 0
    async with yard.database.statements(ENGINEER) as session:
        await control.resume(session, found.id)
    assert (await yard.keep()).released == 2
    await yard.through()
    assert (await yard.backfill(found.id)).state is BackfillState.COMPLETED


_BEGIN = text("UPDATE pipeline_executions SET state = 'running', generation = 1 WHERE id = :id")
_UNDO = text("UPDATE work_items SET state = 'queued', attempts = 0, generation = 0, holder = NULL WHERE subject = :id")


@pytest.mark.parametrize("claim_is_undone", [False, True])
async def test_what_has_begun_is_taken_over_although_the_backfill_is_paused(yard: Yard, claim_is_undone: bool) -> None:
    found = await yard.request("2026-01-01", "2026-01-11")
    (running,) = await yard.claim()
    async with yard.database.statements(RUNTIME) as session:
        await session.execute(_BEGIN, {"id": running.subject})
        # Claims are not waited for to be on disk: PostgreSQL may come back from a crash without one.
        if claim_is_undone:
            await session.execute(_UNDO, {"id": running.subject})
        else:
            await queue.release(session, running, "yard")
    async with yard.database.statements(ENGINEER) as session:
        await control.pause(session, found.id)
    assert [claim.subject for claim in await yard.claim()] == [running.subject]


async def test_what_was_claimed_and_has_not_begun_waits_while_the_backfill_is_paused(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-11")
    (claimed,) = await yard.claim()
    async with yard.database.statements(RUNTIME) as session:
        await queue.release(session, claimed, "yard")
    async with yard.database.statements(ENGINEER) as session:
        await control.pause(session, found.id)
    assert await yard.claim() == []


async def test_a_paused_pipeline_lets_nothing_of_its_backfills_go(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-11")
    await yard.end(*await yard.claim())
    for is_paused, released in ((True, 0), (False, 1)):
        async with yard.database.transaction(ENGINEER) as session:
            await pipelines.update(session, yard.pipeline.id, Edit(is_paused=is_paused), ENGINEER)
        assert (await yard.keep()).released == released


async def test_cancelled_what_waits_is_withdrawn_and_what_runs_is_stopped(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-11", most_at_once=3)
    done, running = await yard.claim(2)
    await yard.end(done)
    async with yard.database.statements(ENGINEER) as session:
        assert await control.cancel(session, found.id) == [running.subject]
        assert await control.cancel(session, found.id) == []
    assert await yard.claim() == []
    assert await yard.progress(found.id) == BackfillProgress(running=1, completed=1, cancelled=8)
    await yard.keep()
    assert (await yard.backfill(found.id)).finished_at is None
    await yard.end(running, state=ExecutionState.CANCELLED)
    await yard.keep()
    ended = await yard.backfill(found.id)
    assert (ended.state, ended.finished_at is not None) == (BackfillState.CANCELLED, True)
    await _events_are_gapless(yard)


async def test_one_chunk_can_be_cancelled_while_it_is_held(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-04")
    async with yard.database.transaction(ENGINEER) as session:
        query = text("SELECT subject FROM work_items WHERE state = 'held' ORDER BY created_at LIMIT 1")
        held = (await session.execute(query)).scalar_one()
        assert (await request_cancel(session, held)).state is ExecutionState.CANCELLED
    await yard.through()
    assert await yard.progress(found.id) == BackfillProgress(completed=2, cancelled=1)
    assert (await yard.backfill(found.id)).state is BackfillState.FAILED


@pytest.mark.parametrize("change", [control.pause, control.resume, control.cancel])
async def test_what_has_ended_cannot_be_changed_and_says_what_to_do(yard: Yard, change: object) -> None:
    found = await yard.request("2026-01-01", "2026-01-02")
    await yard.through()
    with pytest.raises(Conflict, match="the backfill is completed") as caught:
        async with yard.database.statements(ENGINEER) as session:
            await change(session, found.id)  # type: ignore[operator]
    assert "request the range again" in (caught.value.hint or "")
    with pytest.raises(NotFound):
        async with yard.database.statements(ENGINEER) as session:
            await change(session, uuid4())  # type: ignore[operator]


async def _events_are_gapless(yard: Yard) -> None:
    async with yard.database.transaction(ENGINEER) as session:
        query = text("""
            SELECT count(*) FROM pipeline_executions AS execution
            WHERE last_event_seq <> (SELECT count(*) FROM execution_events WHERE execution_id = execution.id)
                AND state <> 'completed'
        """)
        # What the yard ended itself has no event of its end: it cannot be told from its number either.
        assert (await session.execute(query)).scalar_one() == 0
