"""Whichever dispatcher runs lets backfills go on and end, and tells who is late or stands still."""

import asyncio

import asyncpg
from sqlalchemy import text

from models.events import EventKind
from models.executions import ExecutionState
from runtime.bus import Bus
from runtime.database import Database
from runtime.executions.deadlines import tell_late, tell_stalled
from runtime.queue import store as queue
from tests.kit.eventually import eventually
from tests.kit.factories import pipelines as make
from tests.kit.identities import RUNTIME
from tests.runtime.backfills.conftest import Yard, ranged
from tests.runtime.cluster.test_dispatcher import office


async def test_each_chunk_that_ends_lets_the_next_go_until_the_backfill_has_finished(
    database: Database, bus: Bus
) -> None:
    await make.places(database)
    yard = Yard(database, await make.pipeline(database, ranged()))
    made = await yard.request("2026-01-01", "2026-01-21", most_at_once=1)
    async with office(database, bus, supervisors=3) as first:
        await first.until_seen(1)
    seen = len(first.seen)
    async with office(database, bus, supervisors=3) as second:
        second.gate.set()

        async def finished() -> bool:
            return (await yard.backfill(made.id)).finished_at is not None

        await eventually(finished, within=30, because="another dispatcher goes on from the rows")
    handed = [*(claim.subject for claim in first.seen), *(claim.subject for claim in second.seen)]
    assert (seen, len(set(handed))) == (1, 20)


async def test_a_dispatcher_tells_who_is_late(database: Database, bus: Bus, owner: asyncpg.Connection) -> None:
    await make.places(database)
    row = make.execution((await make.pipeline(database, {**ranged(), "deadline_minutes": 5})).id, ExecutionState.QUEUED)
    await make.saved(database, row)
    async with office(database, bus):

        async def told() -> bool:
            query = "SELECT late_at IS NOT NULL FROM pipeline_executions WHERE id = $1"
            return bool(await owner.fetchval(query, row.id))

        await eventually(told, because="it waits for an hour and has five minutes")


async def test_numbers_stay_gapless_while_a_supervisor_writes(database: Database) -> None:
    await make.places(database)
    row = make.execution(
        (await make.pipeline(database, {**ranged(), "deadline_minutes": 5})).id, ExecutionState.RUNNING
    )
    await make.submitted(database, row)
    async with database.statements(RUNTIME) as statements:
        await queue.claim(statements, "a supervisor", executions=1, lease_seconds=60)

    async def supervise() -> None:
        for _ in range(30):
            await make.told(database, row, [EventKind.STEP_PROGRESS] * 2, by=RUNTIME)

    async def look() -> None:
        for _ in range(30):
            async with database.statements(RUNTIME) as session:
                await tell_late(session)
                await tell_stalled(session, 0.0)

    await asyncio.gather(supervise(), look(), look())
    async with database.transaction(RUNTIME) as session:
        query = text("SELECT seq, kind FROM execution_events WHERE execution_id = :id ORDER BY seq")
        events = (await session.execute(query, {"id": row.id})).all()
    assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind in events]
    assert (kinds.count("execution_late"), "execution_stalled" in kinds) == (1, True)
