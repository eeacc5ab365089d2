"""What happens to schedules and backfills at random, with PostgreSQL and with the simulated store."""

from datetime import timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

from models.executions import ExecutionType
from models.fields import JsonObject, jsonb_text
from models.schedules import CatchUp, Overlap
from runtime.backfills import control, requests
from runtime.database import Transactions
from runtime.executions import bulk
from runtime.schedules import store, watching
from runtime.schedules.decide import Decision, Due, decide
from runtime.schedules.due import jitter, next_fire
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.simulation.backfilling import request_of
from tests.kit.simulation.comparing import Both
from tests.kit.simulation.doings import cancelled, claimed, journaled, kept, lived, submitted, taken
from tests.kit.simulation.operators import scheduled

MOST_CHUNKS: Final = 4
LATER_SECONDS: Final = (1, 10, 30, 100)


async def schedule_all(both: Both) -> None:
    """Have the first two pipelines run by the clock, the third after the first, the fourth by files or messages."""
    first, second, third, fourth = both.pipelines
    await _schedule(both, first, {"type": "interval", "expression": "10s"}, None)
    await _schedule(both, second, {"type": "cron", "expression": "* * * * *", "jitter_seconds": 20}, None)
    await _schedule(both, third, {"type": "event", "expression": f"pipeline:{first}"}, f"pipeline:{first}")
    what = f"{both.chance.choice(sorted(watching.SEEN))}:{UUID(int=7)}/x"
    await _schedule(both, fourth, {"type": "event", "expression": what}, what)


async def _schedule(both: Both, pipeline: UUID, config: JsonObject, watches: str | None) -> None:
    chance = both.chance
    options: JsonObject = {
        "overlap": chance.choice(list(Overlap)).value,
        "catch_up": chance.choice(list(CatchUp)).value,
    }
    stored, identity = {**config, **options}, UUID(int=chance.getrandbits(128))
    known = store.config_read(stored)
    fire = next_fire(known, both.now)
    due = None if fire is None else fire + jitter(identity, fire, known)
    await both.owner.execute(_SCHEDULE, identity, pipeline, jsonb_text(stored), fire, due, watches)
    columns = {"id": identity, "pipeline_id": pipeline, "config": stored, "next_fire_at": fire, "due_at": due}
    more = {"is_paused": False, "last_fire_at": None, "watches": watches, "updated_at": both.world.server.now}
    both.put("schedules", identity, **columns, **more)


_SCHEDULE: Final = """
    INSERT INTO schedules (id, pipeline_id, config, next_fire_at, due_at, watches) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def decided(both: Both) -> None:
    """A scheduler decides upon what is due, once or, as one does who was stopped, once more."""
    both.now += timedelta(seconds=both.chance.choice(LATER_SECONDS))
    now, most, seed = both.now, both.chance.randint(1, 3), both.chance.random()
    times = both.chance.choice((1, 1, 2))

    async def work(transactions: Transactions) -> object:
        mint = Random(seed)
        async with transactions.statements(RUNTIME) as session:
            due, following = await store.due(session, now, most), await store.next_due(session)
        decisions = [decide(one, now) for one in due]
        told: list[object] = []
        for _ in range(times):
            told.append(await _performed(transactions, decisions, both, mint))
        return [_of(one) for one in due], following, told

    await both.same(work)
    _note_executions(both)


async def _performed(transactions: Transactions, decisions: list[Decision], both: Both, mint: Random) -> object:
    async with transactions.statements(RUNTIME) as session:
        done = await store.perform(session, decisions, both.now, lambda: UUID(int=mint.getrandbits(128)))
        released = await bulk.release(session)
    return done.decided, done.submitted, sorted(done.cancelled, key=str), released


def _of(due: Due) -> object:
    return due.id, due.pipeline_id, due.config, due.next_fire_at, due.arrivals, due.is_paused, due.is_busy


def _note_executions(both: Both) -> None:
    both.executions = [row["id"] for row in both.world.server.tables["pipeline_executions"].values()]


async def paused(both: Both) -> None:
    """Somebody pauses a schedule, or lets it go on from now."""
    pipeline, is_paused = both.chance.choice(both.pipelines), both.chance.random() < 0.5
    schedules = both.world.server.tables["schedules"].values()
    config = next(row["config"] for row in schedules if row["pipeline_id"] == pipeline)
    known = scheduled(pipeline, config)
    now = both.now

    async def work(transactions: Transactions) -> UUID:
        async with transactions.statements(RUNTIME) as session:
            return await store.set_paused(session, known, now, is_paused=is_paused)

    await both.same(work)


async def set_back(both: Both) -> None:
    """Somebody whose clock is behind moves a schedule to a moment that was decided."""
    fires: list[Any] = [*both.world.server.tables["schedule_fires"], (None, None)]
    schedule, at = both.chance.choice(fires)
    row = both.world.server.tables["schedules"].get(schedule)
    if row and row["next_fire_at"] is not None:
        await both.owner.execute("UPDATE schedules SET next_fire_at = $2, due_at = $2 WHERE id = $1", schedule, at)
        both.put("schedules", schedule, next_fire_at=at, due_at=at)


async def stopped(both: Both) -> None:
    """A pipeline is paused, or taken out of use; mostly it is not."""
    pipeline, chance = both.chance.choice(both.pipelines), both.chance
    is_paused, is_active = chance.random() < 0.2, chance.random() < 0.8
    most = chance.choice((None, 1, 2))
    await both.owner.execute(_STOP, pipeline, is_paused, is_active, most)
    both.put("data_pipelines", pipeline, is_paused=is_paused, is_active=is_active, max_active=most)


_STOP: Final = "UPDATE data_pipelines SET is_paused = $2, is_active = $3, max_active = $4 WHERE id = $1"


async def ordered(both: Both) -> None:
    """Some executions are asked for at once, under keys that may have been used."""
    chance, now = both.chance, both.now
    orders = [
        bulk.Order(
            pipeline_id=chance.choice(both.pipelines),
            execution_type=chance.choice((ExecutionType.SCHEDULED, ExecutionType.TRIGGERED)),
            idempotency_key=f"key {chance.randint(0, 20)}",
            held=chance.random() < 0.5,
            parameters={"n": chance.randint(0, 3)} if chance.random() < 0.5 else {},
            id=UUID(int=chance.getrandbits(128)),
        )
        for _ in range(chance.randint(0, 3))
    ]

    async def work(transactions: Transactions) -> set[UUID]:
        async with transactions.statements(RUNTIME) as session:
            return await bulk.submit(session, orders, now)

    await both.same(work)
    _note_executions(both)


async def replaced(both: Both) -> None:
    """What schedules started of some pipelines is stopped, held executions are let go, what is new is asked after."""
    pipelines = both.chance.sample(both.pipelines, both.chance.randint(0, 1))
    asks, kind = both.chance.random() < 0.3, both.chance.choice(sorted(watching.SEEN))

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            stopped = await bulk.cancel(session, pipelines)
            asked = await watching.ask(session, kind) if asks else 0
            return sorted(stopped, key=str), await bulk.release(session), asked

    await both.same(work)


async def forgot(both: Both) -> None:
    """Moments of long ago are forgotten; there are none."""

    async def work(transactions: Transactions) -> None:
        async with transactions.statements(RUNTIME) as session:
            await store.prune(session, both.now - timedelta(days=1_000))

    await both.same(work)


async def requested(both: Both) -> None:
    """Somebody asks for a backfill, some of whose chunks may have been asked for before."""
    chance = both.chance
    both.now += timedelta(seconds=1)
    first, count, identity = chance.randint(0, 5), chance.randint(1, MOST_CHUNKS), UUID(int=chance.getrandbits(128))
    pipeline, ids = chance.choice(both.pipelines), [UUID(int=chance.getrandbits(128)) for _ in range(count)]
    days = [f"2025-01-{day:02}" for day in range(first + 1, first + count + 2)]
    given = request_of(identity, pipeline, ids, days, chance.randint(1, 2))
    given |= {"now": both.now}

    async def work(transactions: Transactions) -> None:
        async with transactions.statements(ENGINEER) as session:
            await session.execute(requests._INSERT, given)

    await both.same(work)
    both.backfills.append(identity)
    _note_executions(both)


async def controlled(both: Both) -> None:
    """A backfill is paused, resumed or cancelled, and then its next chunks are let go."""
    identity = both.chance.choice([*both.backfills[-2:], UUID(int=0)])
    what = both.chance.choice(("pause", "pause", "resume", "resume", "cancel", "cancel", "keep", "keep"))

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            match what:
                case "pause":
                    await control.pause(session, identity)
                case "resume":
                    await control.resume(session, identity)
                case "cancel":
                    return sorted(await control.cancel(session, identity), key=str)
                case _:
                    return await control.keep(session)
            return None

    await both.same(work)


SCHEDULES: Final = (
    *(submitted, cancelled, claimed, claimed, claimed, kept, taken, taken, taken, journaled, journaled, lived),
    *(lived, decided, decided, decided, paused, set_back, stopped, ordered, replaced, replaced, forgot),
    *(requested, controlled, controlled, controlled),
)
