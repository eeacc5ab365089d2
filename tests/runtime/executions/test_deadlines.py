"""What is expected comes from history; who is late or stands still is told once, gaplessly, beside whoever runs it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from models.events import EventKind
from models.executions import ExecutionState, PipelineExecution
from models.pipelines import DataPipeline
from runtime.database import Database
from runtime.executions.deadlines import estimates, tell_late, tell_stalled
from runtime.queue import store as queue
from tests.kit.factories import pipelines as make
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.statements import recorded

MINUTE = timedelta(minutes=1)
STALL_MINUTES = 15.0


async def history(database: Database, pipeline: DataPipeline, *minutes: int) -> None:
    """Executions that took so many minutes, the last of them the newest."""
    rows = [
        make.execution(pipeline.id, ago=timedelta(days=2) - number * MINUTE, took=took * MINUTE)
        for number, took in enumerate(minutes)
    ]
    await make.saved(database, *rows)


async def running(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline, since: timedelta, *, claimed: bool = True
) -> PipelineExecution:
    """An execution that a supervisor has had since then, in which nothing has happened."""
    row = make.execution(pipeline.id, ExecutionState.RUNNING if claimed else ExecutionState.QUEUED, ago=since)
    await make.submitted(database, row)
    await make.told(database, row, [EventKind.EXECUTION_QUEUED])
    if claimed:
        async with database.statements(RUNTIME) as session:
            await queue.claim(session, "test", executions=1, lease_seconds=60)
    await owner.execute("UPDATE work_items SET run_after = now() - $1::interval WHERE subject = $2", since, row.id)
    await owner.execute("UPDATE execution_events SET recorded_at = now() - $1::interval", since)
    return row


async def late(database: Database) -> list[UUID]:
    async with database.statements(RUNTIME) as session:
        return await tell_late(session)


async def stalled(database: Database) -> list[UUID]:
    async with database.statements(RUNTIME) as session:
        return await tell_stalled(session, STALL_MINUTES)


async def events(database: Database, row: PipelineExecution) -> list[tuple[int, str, dict[str, Any]]]:
    async with database.transaction(RUNTIME) as session:
        query = text("SELECT seq, kind, payload FROM execution_events WHERE execution_id = :id ORDER BY seq")
        return [tuple(found) for found in await session.execute(query, {"id": row.id})]


@pytest.fixture
async def pipeline(database: Database) -> DataPipeline:
    await make.places(database)
    return await make.pipeline(database)


async def test_an_estimate_is_the_median_of_the_last_that_completed(database: Database, pipeline: DataPipeline) -> None:
    await history(database, pipeline, *[500] * 5, *range(1, 21))
    failed = make.execution(pipeline.id, ExecutionState.FAILED, took=timedelta(days=1))
    tried = make.dry(make.execution(pipeline.id, took=timedelta(days=1)))
    await make.saved(database, failed, tried)
    other = await make.pipeline(database, make.simple("other"))
    with recorded(database) as statements:
        async with database.statements(ENGINEER) as session:
            assert await estimates(session, [other.id, pipeline.id]) == [None, 10.5]
    assert len(statements) == 1


@pytest.mark.parametrize(("minutes", "is_late"), [(29, False), (31, True)])
async def test_one_past_its_deadline_is_late_once(
    database: Database, owner: asyncpg.Connection, minutes: int, is_late: bool
) -> None:
    await make.places(database)
    pipeline = await make.pipeline(database, {**make.simple(), "deadline_minutes": 30})
    row = await running(database, owner, pipeline, minutes * MINUTE)
    assert await late(database) == ([row.id] if is_late else [])
    assert await late(database) == []
    told = [(seq, kind) for seq, kind, _ in await events(database, row)]
    assert told == [(1, "execution_queued"), *([(2, "execution_late")] if is_late else [])]


async def test_that_one_waits_does_not_excuse_it_of_its_deadline(database: Database, owner: asyncpg.Connection) -> None:
    await make.places(database)
    pipeline = await make.pipeline(database, {**make.simple(), "deadline_minutes": 30})
    row = await running(database, owner, pipeline, 31 * MINUTE, claimed=False)
    assert await late(database) == [row.id]
    _, (_, _, payload) = await events(database, row)
    assert (payload["deadline_minutes"], payload["minutes"]) == (30, 31.0)


@pytest.mark.parametrize(
    ("took", "minutes", "is_late"),
    [((2, 2, 2), 9, False), ((2, 2, 2), 11, True), ((60, 60), 179, False), ((60, 60), 181, True), ((), 900, False)],
)
async def test_without_a_deadline_history_tells_who_is_late(
    database: Database,
    owner: asyncpg.Connection,
    pipeline: DataPipeline,
    took: tuple[int, ...],
    minutes: int,
    is_late: bool,
) -> None:
    await history(database, pipeline, *took)
    row = await running(database, owner, pipeline, minutes * MINUTE)
    assert await late(database) == ([row.id] if is_late else [])


async def test_one_that_waits_without_a_deadline_is_not_late(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline
) -> None:
    await history(database, pipeline, 1)
    await running(database, owner, pipeline, 500 * MINUTE, claimed=False)
    assert await late(database) == []


async def test_one_in_which_nothing_happens_is_told_to_stall_once(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline
) -> None:
    row = await running(database, owner, pipeline, 16 * MINUTE)
    assert await stalled(database) == [row.id]
    assert await stalled(database) == []
    _, (seq, kind, payload) = await events(database, row)
    assert (seq, kind, payload["minutes"], payload["steps"]) == (2, "execution_stalled", 16.0, [])


async def test_something_that_happens_ends_a_stall_and_another_may_follow(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline
) -> None:
    row = await running(database, owner, pipeline, 16 * MINUTE)
    await stalled(database)
    await make.told(database, row, [EventKind.STEP_PROGRESS])
    assert await stalled(database) == []
    await owner.execute("UPDATE execution_events SET recorded_at = recorded_at - interval '16 minutes'")
    assert await stalled(database) == [row.id]
    assert [kind for _, kind, _ in await events(database, row)][1:] == [
        "execution_stalled",
        "step_progress",
        "execution_stalled",
    ]


async def test_being_late_does_not_end_a_stall(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline
) -> None:
    await history(database, pipeline, 1)
    row = await running(database, owner, pipeline, 16 * MINUTE)
    assert (await stalled(database), await late(database)) == ([row.id], [row.id])
    await owner.execute("UPDATE execution_events SET recorded_at = recorded_at - interval '16 minutes'")
    assert await stalled(database) == []


@pytest.mark.parametrize("state", [ExecutionState.BACKING_OFF, ExecutionState.COMPLETED])
async def test_one_that_backs_off_or_has_ended_does_not_stall(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline, state: ExecutionState
) -> None:
    row = await running(database, owner, pipeline, 16 * MINUTE)
    await owner.execute("UPDATE pipeline_executions SET state = $1 WHERE id = $2", state.value, row.id)
    assert await stalled(database) == []


async def test_a_row_that_its_supervisor_writes_to_is_passed_over(
    database: Database, owner: asyncpg.Connection, pipeline: DataPipeline
) -> None:
    await history(database, pipeline, 1)
    row = await running(database, owner, pipeline, 16 * MINUTE)
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("UPDATE pipeline_executions SET last_event_seq = last_event_seq WHERE id = $1", row.id)
    assert (await stalled(database), await late(database)) == ([], [])
    await transaction.commit()
    assert (await stalled(database), await late(database)) == ([row.id], [row.id])
    assert [seq for seq, _, _ in await events(database, row)] == [1, 2, 3]
