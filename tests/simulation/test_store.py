"""The simulated store answers what PostgreSQL answers, to the statements that the runtime really sends."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from uuid import UUID

import asyncpg
import pytest

from models.events import EventKind
from models.executions import StepState
from runtime.backfills import control, requests
from runtime.bus import Bus
from runtime.database import Database, Session, Transactions
from runtime.executions import assignments, bulk, deadlines, records, recovery, retention
from runtime.executions.deadlines import tell_late, tell_stalled
from runtime.executions.journal import Entry, Holding, Journal, StepRow
from runtime.executions.logs import LogFile
from runtime.executions.retention import keep_partitions, prune_checkpoints
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.queue.store import Claim
from runtime.schedules import store as schedules
from runtime.schedules import watching
from tests.kit.identities import RUNTIME
from tests.kit.simulation.comparing import Both, Doing
from tests.kit.simulation.doings import EXECUTIONS, LAPSED, LONG, NOW, holding_of, rests, submitted, take_up
from tests.kit.simulation.planning import SCHEDULES, schedule_all
from tests.kit.simulation.statements import counterparts, named
from tests.kit.simulation.world import NOWHERE

OPERATIONS = 150
MOST_OPERATIONS = 1_000
OF_EXECUTIONS = (queue, leases, assignments, recovery, records, retention, deadlines)
OF_SCHEDULES = (schedules, bulk, watching, control, requests)


async def tended(both: Both) -> None:
    """What finds nothing until days have passed."""

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            await keep_partitions(session, 30)
            told = [*await tell_late(session), *await tell_stalled(session, 15)]
            pruned = await queue.prune(session, 1, 10)
        await prune_checkpoints(transactions, Path("nowhere"), 1)
        return told, pruned

    await both.same(work)


@dataclass(frozen=True)
class Course:
    """What is done at random, over so many pipelines with schedules or without, and the statements of these modules."""

    pipelines: int
    has_schedules: bool
    doings: Sequence[Doing]
    modules: Sequence[ModuleType]


COURSES = {
    "executions": Course(2, False, EXECUTIONS, OF_EXECUTIONS),
    "schedules": Course(4, True, SCHEDULES, OF_SCHEDULES),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", COURSES)
async def test_the_simulated_store_answers_and_holds_what_postgresql_does(
    database: Database, owner: asyncpg.Connection, name: str, seed: int
) -> None:
    both, course = Both(database, owner, Random(seed)), COURSES[name]
    await both.prepare(course.pipelines)
    if course.has_schedules:
        await schedule_all(both)
    await submitted(both)
    await tended(both)
    await _go_through(both, course.doings, course.modules)


def test_no_counterpart_is_left_uncompared() -> None:
    compared = [one for module in (*OF_EXECUTIONS, *OF_SCHEDULES) for one in named(module).values()]
    assert dict(compared) == counterparts()


async def _go_through(both: Both, doings: Sequence[Doing], modules: Sequence[ModuleType]) -> None:
    """Do so much at random, and more until each statement of the modules has found or written something."""
    done = 0
    while done < OPERATIONS or (_left_out(both, modules) and done < MOST_OPERATIONS):
        await both.chance.choice(doings)(both)
        await both.compare()
        done += 1
    assert _left_out(both, modules) == []
    both.world.loop.close()


def _left_out(both: Both, modules: Sequence[ModuleType]) -> list[str]:
    """The statements of modules that found and wrote nothing."""
    known = ((f"{module.__name__}.{name}", one) for module in modules for name, (one, _) in named(module).items())
    return [name for name, statement in known if statement not in both.did]


async def test_an_execution_rests_as_long_in_the_simulated_store_as_in_postgresql(
    database: Database, owner: asyncpg.Connection
) -> None:
    both = Both(database, owner, Random(0))
    await both.prepare(1)
    await submitted(both)
    told = [seconds for generation in range(1, 14) for _, seconds in await _lost(both, generation)]
    assert told == [0.5, 1, 2, 4, 8, 16, 30, 0.5]
    both.world.loop.close()


async def _lost(both: Both, generation: int) -> list[tuple[object, float]]:
    """Claim the execution and lose it; the tenth who has it finishes a step first. How long it rests after that."""
    (claim,) = await both.same(lambda transactions: _claimed(transactions, LAPSED))
    if generation == 10:
        await take_up(both, claim)
        await both.same(lambda transactions: _finished(transactions, holding_of(both, claim)))

    async def work(transactions: Transactions) -> list[tuple[object, float]]:
        async with transactions.statements(RUNTIME) as session:
            if generation % 2:
                assert await queue.release(session, claim, "one")
            else:
                assert await queue.release_lapsed(session) == 1
            return await rests(session)

    rested = await both.same(work)
    await both.compare()
    return rested


async def _claimed(transactions: Transactions, seconds: float) -> list[Claim]:
    async with transactions.statements(RUNTIME) as session:
        return await _claim(session, "one", seconds)


async def _finished(transactions: Transactions, holding: Holding) -> None:
    journal = Journal(transactions, Bus(None), holding, LogFile(NOWHERE, holding.execution_id))
    step = StepRow("read", StepState.COMPLETED, 1, NOW, NOW)
    journal.record(Entry(EventKind.STEP_COMPLETED, NOW, {}, step))
    await journal.flush()


async def test_who_wants_a_locked_row_skips_it_or_waits_and_looks_again(
    database: Database, owner: asyncpg.Connection
) -> None:
    both = Both(database, owner, Random(0))
    await both.prepare(1)
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
