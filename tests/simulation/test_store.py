"""The simulated store answers what PostgreSQL answers, to the statements that the runtime really sends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from models.errors import Conflict
from models.events import EventKind
from models.executions import ExecutionState, Keeping, PerformanceMetrics, StepState
from models.fields import JsonObject
from runtime.bus import Bus
from runtime.database import Database, Session, Transactions
from runtime.executions import records
from runtime.executions.assignments import Plans, Taken, hold_to_refuse, take
from runtime.executions.checkpoints import Kept, Place
from runtime.executions.journal import Ending, Entry, Holding, Journal, StepRow
from runtime.executions.logs import LogFile
from runtime.executions.state import StepReport, TaskReport
from runtime.executions.submission import Submission, request_cancel, submit
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.queue.store import Claim
from tests.kit.engine import save_plan
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.simulation.clients import cancel
from tests.kit.simulation.loop import Process
from tests.kit.simulation.pipelines import PLANS
from tests.kit.simulation.store import Row, SimulatedDatabase, Transaction, Weather
from tests.kit.simulation.submissions import accept
from tests.kit.simulation.world import World

T = TypeVar("T")
Work: TypeAlias = Callable[[Transactions], Coroutine[Any, Any, T]]

OPERATIONS = 150
LONG, LAPSED = 1_000.0, -1.0
HOLDERS = ("one", "two")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {
    "work_items": ("id", "state", "holder", "generation", "attempts", "lease_expires_at", "finished_at"),
    "pipeline_executions": ("id", "state", "status", "generation", "last_event_seq", "cancel_requested_at"),
    "step_executions": ("pipeline_execution_id", "step_name", "state", "status", "attempt", "generation"),
    "execution_events": ("execution_id", "seq", "kind", "step_name"),
    "leases": ("name", "holder", "generation"),
    "checkpoints": ("execution_id", "task_name", "generation", "attempt", "kept"),
    "pipeline_turns": ("pipeline_id", "taken_at"),
    "commit_ledger": ("execution_id", "step_name", "partition", "rows"),
}


class Both:
    """The same work done with PostgreSQL and with the simulated store, whose answers must be the same."""

    def __init__(self, database: Database, owner: asyncpg.Connection, chance: Random) -> None:
        self.database = database
        self.owner = owner
        self.chance = chance
        self.world = World(0)
        self.world.server.weather = Weather(Random(0))
        self.process = Process("client")
        self.simulated = SimulatedDatabase(self.world.server, self.process)
        self.pipeline = next(iter(self.world.clients.plans))
        self.executions: list[UUID] = []
        self.claims: list[Claim] = []

    async def same(self, work: Work[T]) -> T:
        real: T = await _outcome(work(self.database))
        assert real == self.played(_outcome(work(self.simulated)))
        return real

    def played(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.world.loop.spawn(self.process, work)
        self.world.loop.run(task.done, float("inf"))
        return task.result()

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        transaction = await self.world.server.begin(self.process, lasting=True)
        answer = await work(transaction)
        await self.world.server.commit(transaction)
        return answer

    async def compare(self) -> None:
        tables = self.world.server.tables
        for table, columns in COLUMNS.items():
            real = {tuple(_told(row[name]) for name in columns) for row in await self.owner.fetch(f"TABLE {table}")}
            assert real == {_played(columns, key, row) for key, row in tables[table].items()}, table


async def _outcome(work: Coroutine[Any, Any, T]) -> Any:
    try:
        return await work
    except Conflict as error:
        return error.specific_code


def _told(value: object) -> object:
    """A moment only counts as there or not: the clocks differ."""
    return "a moment" if isinstance(value, datetime) else value


def _played(columns: tuple[str, ...], key: object, row: Row) -> tuple[object, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(_told(row[name] if name in row else parts[place]) for place, name in enumerate(columns))


async def submitted(both: Both) -> None:
    async with both.database.transaction(ENGINEER) as session:
        identity = (await submit(session, Submission(both.pipeline), ENGINEER)).id
        found = await session.execute(text("SELECT id FROM work_items WHERE subject = :id"), {"id": identity})
        item = found.scalar_one()

    async def accepted(transaction: Transaction) -> None:
        accept(transaction, identity, both.pipeline, item)

    both.played(both.transact(accepted))
    both.executions.append(identity)


async def cancelled(both: Both) -> None:
    identity = both.chance.choice(both.executions)
    try:
        async with both.database.transaction(ENGINEER) as session:
            state = (await request_cancel(session, identity)).state.value
    except Conflict:
        return
    assert both.played(both.transact(lambda transaction: cancel(transaction, identity))) == state


async def claimed(both: Both) -> None:
    holder, limit = both.chance.choice(HOLDERS), both.chance.randint(0, 2)
    seconds = both.chance.choice((LONG, LAPSED))

    async def work(transactions: Transactions) -> list[Claim]:
        async with transactions.statements(RUNTIME) as session:
            return await queue.claim(session, holder, executions=limit, others=1, lease_seconds=seconds)

    both.claims += await both.same(work)


async def held(both: Both) -> None:
    """Everything that a holder, or a former one, does with a claim."""
    if not both.claims:
        return
    claim, what = both.chance.choice(both.claims), both.chance.randrange(4)
    holder, seconds = both.chance.choice(HOLDERS), both.chance.choice((LONG, LAPSED))
    assert claim.subject is not None
    holding = Holding(claim.subject, both.pipeline, claim.id, claim.generation)

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            match what:
                case 0:
                    return await queue.renew(session, claim.id, claim.generation, seconds)
                case 1:
                    return await queue.release(session, claim, holder)
                case 2:
                    return await records.renew(session, holding, LONG)
                case _:
                    return await hold_to_refuse(session, claim)

    await both.same(work)


async def kept(both: Both) -> None:
    """A dispatcher's housekeeping."""
    holder, seconds = both.chance.choice(HOLDERS), both.chance.choice((LONG, LAPSED))
    drops = both.chance.random() < 0.2

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            generation = await leases.hold(session, "leader", holder, seconds)
            if drops:
                await leases.drop(session, "leader", holder)
            released = await queue.release_lapsed(session)
            return generation, released, (await queue.waiting(session, 3))[0]

    await both.same(work)


async def taken(both: Both) -> None:
    if not both.claims:
        return
    claim = both.chance.choice(both.claims)

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            found = await take(session, claim, Plans(), 1024)
            return None if found is None else _of(found)

    await both.same(work)


def _of(found: Taken) -> object:
    return (
        found.holding,
        found.cancelling,
        found.plan.fingerprint,
        found.context.parameters,
        found.lower,
        [(link.id, link.generation, link.done, link.states) for link in found.links],
    )


async def journaled(both: Both) -> None:
    """What a supervisor writes on its way, and at its end, with the claim that it has or had."""
    if not both.claims:
        return
    claim = both.chance.choice(both.claims)
    assert claim.subject is not None
    holding = Holding(claim.subject, both.pipeline, claim.id, claim.generation)
    entries = [_entry(both.chance) for _ in range(both.chance.randint(0, 3))]
    state = both.chance.choice((ExecutionState.RUNNING, ExecutionState.BACKING_OFF))
    ending = _ending(both.chance) if both.chance.random() < 0.3 else None
    kept = [_kept(both.chance) for _ in range(both.chance.randint(0, 1))]
    keeping, forgetting = both.chance.choice(list(Keeping)), both.chance.random() < 0.5

    async def work(transactions: Transactions) -> None:
        journal = Journal(transactions, Bus(None), holding, LogFile(Path("/dev/null/artifacts"), holding.execution_id))
        journal.record(*entries)
        journal.keep(kept, keeping)
        journal.move(state)
        if ending is None:
            await journal.flush()
        else:
            await journal.finish(ending, Entry(EventKind.EXECUTION_COMPLETED, NOW), forgetting=forgetting)

    await both.same(work)


def _entry(chance: Random) -> Entry:
    step = StepRow(chance.choice(("read", "load")), chance.choice(list(StepState)), chance.randint(1, 3), NOW)
    return Entry(EventKind.STEP_PROGRESS, NOW, {"attempt": 1}, step)


def _kept(chance: Random) -> Kept:
    task, attempt = chance.choice(("read", "load")), chance.randint(1, 3)
    places = (Place(f"{task}-{attempt}", 1, 10),) if chance.random() < 0.5 else ()
    return Kept(task, attempt, TaskReport((StepReport(task, 10, 10),)), places)


def _ending(chance: Random) -> Ending:
    state = chance.choice((ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED))
    totals = dict.fromkeys(("processed", "inserted", "updated", "deleted", "failed"), 0)
    commits: list[JsonObject] = [{"step_name": "load", "partition": 0, "rows": 10}]
    return Ending(state, NOW, totals, PerformanceMetrics(), commits=commits)


DOINGS = (submitted, cancelled, claimed, claimed, held, held, kept, taken, taken, journaled, journaled)


@pytest.mark.parametrize("seed", range(3))
async def test_the_simulated_store_answers_and_holds_what_postgresql_does(
    database: Database, owner: asyncpg.Connection, seed: int
) -> None:
    both = Both(database, owner, Random(seed))
    async with database.transaction(ENGINEER) as session:
        await save_plan(session, both.pipeline, "chain", PLANS[0])
    await submitted(both)
    for _ in range(OPERATIONS):
        await both.chance.choice(DOINGS)(both)
        await both.compare()
    both.world.loop.close()


async def test_who_wants_a_locked_row_skips_it_or_waits_and_looks_again(
    database: Database, owner: asyncpg.Connection
) -> None:
    both = Both(database, owner, Random(0))
    async with database.transaction(ENGINEER) as session:
        await save_plan(session, both.pipeline, "chain", PLANS[0])
    await submitted(both)

    async def renewed(transactions: Transactions, item: UUID, generation: int) -> bool:
        async with transactions.statements(RUNTIME) as session:
            return await queue.renew(session, item, generation, LONG)

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as first:
            (claim,) = await _claim(first, "one", LAPSED)
            async with transactions.statements(RUNTIME) as second:
                skipped = await _claim(second, "two", LONG)
            early = await renewed(transactions, claim.id, claim.generation)
        async with transactions.statements(RUNTIME) as third:
            await queue.release_lapsed(third)
            (again,) = await _claim(third, "two", LONG)
            waiting = asyncio.create_task(renewed(transactions, claim.id, claim.generation))
            await queue.waiting(third, 1)
        late, last = await waiting, await renewed(transactions, again.id, again.generation)
        return skipped, early, late, last, again.generation

    assert await both.same(work) == ([], False, False, True, 2)
    await both.compare()
    both.world.loop.close()


async def _claim(session: Session, holder: str, seconds: float) -> list[Claim]:
    return await queue.claim(session, holder, executions=1, lease_seconds=seconds)
