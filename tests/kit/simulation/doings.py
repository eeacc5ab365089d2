"""What happens to executions at random, with PostgreSQL and with the simulated store: asked for, claimed, journaled."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import UUID

from sqlalchemy import text

from models.errors import Conflict
from models.events import EventKind
from models.executions import ExecutionContext, ExecutionState, ExecutionType, Keeping, PerformanceMetrics, StepState
from models.fields import JsonObject
from runtime.bus import Bus
from runtime.database import Session, Transactions
from runtime.executions import records
from runtime.executions.assignments import Plans, Taken, hold_to_refuse, left_open, refuse_hopeless, take
from runtime.executions.checkpoints import Kept, Place
from runtime.executions.journal import Ending, Entry, Holding, Journal, StepRow
from runtime.executions.logs import LogFile
from runtime.executions.state import StepReport, TaskReport
from runtime.executions.submission import Submission, request_cancel, submit
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.queue.store import Claim
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.simulation.clients import cancel
from tests.kit.simulation.comparing import RESTS, Both
from tests.kit.simulation.store import Transaction
from tests.kit.simulation.submissions import accept
from tests.kit.simulation.world import NOWHERE

LONG, LAPSED = 1_000.0, -1.0
HOLDERS: Final = ("one", "two")
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
MOST_TRIES: Final = 20
STEPS: Final = ("read", "load")


async def submitted(both: Both) -> None:
    """Somebody has a pipeline executed, or an earlier execution taken up."""
    chance = both.chance
    pipeline, context, kind = chance.choice(both.pipelines), ExecutionContext(), ExecutionType.MANUAL
    if both.executions and chance.random() < 0.3:
        earlier = chance.choice(both.executions)
        pipeline = both.world.server.tables["pipeline_executions"][earlier]["pipeline_id"]
        context = ExecutionContext(retry_of=earlier, from_step=chance.choice((None, *STEPS)))
        kind = ExecutionType.RETRY
    known = both.world.server.tables["data_pipelines"][pipeline]
    if known["is_paused"] or not known["is_active"]:
        return
    async with both.database.transaction(ENGINEER) as session:
        identity = (await submit(session, Submission(pipeline, kind, context=context), ENGINEER)).id
        found = await session.execute(text("SELECT id FROM work_items WHERE subject = :id"), {"id": identity})
        item = found.scalar_one()
    told = context.model_dump(mode="json", exclude_none=True)

    async def accepted(transaction: Transaction) -> None:
        accept(transaction, identity, pipeline, item, execution_type=kind.value, execution_context=told)

    both.played(both.transact(accepted))
    both.executions.append(identity)


async def cancelled(both: Both) -> None:
    """Somebody has an execution stopped."""
    identity = both.chance.choice(both.executions)
    try:
        async with both.database.transaction(ENGINEER) as session:
            state = (await request_cancel(session, identity)).state.value
    except Conflict:
        return
    assert both.played(both.transact(lambda transaction: cancel(transaction, identity))) == state


async def claimed(both: Both) -> None:
    """A dispatcher claims."""
    holder, limit = both.chance.choice(HOLDERS), both.chance.randint(0, 2)
    seconds = both.chance.choice((LONG, LAPSED))

    async def work(transactions: Transactions) -> list[Claim]:
        async with transactions.statements(RUNTIME) as session:
            return await queue.claim(session, holder, executions=limit, others=1, lease_seconds=seconds)

    both.claims += [claim for claim in await both.same(work) if claim.kind == "execution"]


async def rests(session: Session) -> list[tuple[object, float]]:
    """How many seconds each execution rests, from the beginning of the transaction."""
    rows = (await session.execute(RESTS)).all()
    return [(row.subject, round(float(row.seconds), 3)) for row in rows]


async def held(both: Both) -> None:
    """Everything that a holder, or a former one, does with a claim."""
    if not both.claims:
        return
    claim, what = both.claim(), both.chance.randrange(4)
    item = both.world.server.tables["work_items"][claim.id]
    holder = both.chance.choice((*HOLDERS, str(item["holder"])))
    seconds = both.chance.choice((LONG, LAPSED))
    holding = holding_of(both, claim)

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            match what:
                case 0:
                    return await queue.renew(session, claim.id, claim.generation, seconds)
                case 1:
                    return await queue.release(session, claim, holder), await rests(session)
                case 2:
                    return await records.renew(session, holding, LONG)
                case _:
                    return await hold_to_refuse(session, claim)

    await both.same(work)


async def ended(both: Both) -> None:
    """An item is done with, or taken out of the queue."""
    if not both.claims:
        return
    claim, withdraws = both.claim(), both.chance.random() < 0.5
    items = both.world.server.tables["work_items"].values()
    waiting = [row["subject"] for row in items if row["state"] in ("held", "queued")]
    subject = both.chance.choice(waiting or both.executions)

    async def work(transactions: Transactions) -> bool:
        async with transactions.statements(RUNTIME) as session:
            if withdraws:
                return await queue.withdraw(session, subject)
            return await queue.settle(session, claim)

    await both.same(work)


async def left(both: Both, of: UUID | None = None) -> None:
    """Somebody looks at what supervisors have left running."""
    identity = of or both.chance.choice(both.executions)

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            return await left_open(session, identity)

    await both.same(work)


async def doubted(both: Both) -> None:
    """A dispatcher asks whether an execution is hopeless, after so many generations more."""
    if not both.claims:
        return
    claim = both.claim()
    later = replace(claim, generation=claim.generation + MOST_TRIES + both.chance.randint(-2, 2))

    async def work(transactions: Transactions) -> None:
        async with transactions.statements(RUNTIME) as session:
            await refuse_hopeless(session, later)

    await both.same(work)


async def kept(both: Both) -> None:
    """A dispatcher's housekeeping."""
    holder, seconds = both.chance.choice(HOLDERS), both.chance.choice((LONG, LAPSED))
    drops = both.chance.random() < 0.5

    async def work(transactions: Transactions) -> object:
        async with transactions.statements(RUNTIME) as session:
            generation = await leases.hold(session, "leader", holder, seconds)
            if drops:
                await leases.drop(session, "leader", holder)
            released = await queue.release_lapsed(session)
            return generation, released, (await queue.waiting(session, 3))[0], await rests(session)

    await both.same(work)


async def taken(both: Both) -> None:
    """A supervisor takes what it was given."""
    if both.claims:
        await take_up(both, both.claim())


async def take_up(both: Both, claim: Claim) -> None:
    """Take the execution of a claim."""

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
        found.context.revisions.keys(),
        found.context.commits,
        found.lower,
        [(link.id, link.generation, link.from_step, link.done, link.states) for link in found.links],
    )


async def journaled(both: Both) -> None:
    """What a supervisor writes on its way, and at its end, with the claim that it has or had."""
    if not both.claims:
        return
    chance, claim = both.chance, both.claim()
    if chance.random() < 0.6:
        await take_up(both, claim)
    entries = [_entry(chance) for _ in range(chance.randint(0, 3))]
    kept = [_kept(chance) for _ in range(chance.randint(0, 1))]
    await _tell(both, claim, entries, kept, _ending(chance) if chance.random() < 0.2 else None)


async def lived(both: Both) -> None:
    """A supervisor runs an execution to its end, and leaves a step running on the way."""
    if not both.holding:
        await claimed(both)
    if both.holding:
        claim, at = both.chance.choice(both.holding), NOW
        await take_up(both, claim)
        steps = [
            StepRow(name, StepState.RUNNING, 1, at + timedelta(seconds=number)) for number, name in enumerate(STEPS)
        ]
        begun = [Entry(EventKind.STEP_STARTED, at, {"attempt": 1}, step) for step in reversed(steps)]
        await _tell(both, claim, begun, [_kept(both.chance)], None)
        await left(both, claim.subject)
        await _tell(both, claim, [], [], replace(_ending(both.chance), state=ExecutionState.COMPLETED))


async def _tell(
    both: Both, claim: Claim, entries: Sequence[Entry], kept: Sequence[Kept], ending: Ending | None
) -> None:
    """Write this, and ask whether it is written."""
    chance, holding = both.chance, holding_of(both, claim)
    state = chance.choice((ExecutionState.RUNNING, ExecutionState.BACKING_OFF))
    keeping, forgetting = chance.choice(list(Keeping)), chance.random() < 0.8

    async def work(transactions: Transactions) -> None:
        journal = Journal(transactions, Bus(None), holding, LogFile(NOWHERE, holding.execution_id))
        journal.record(*entries)
        journal.keep(kept, keeping)
        journal.move(state)
        if ending is None:
            await journal.flush()
        else:
            await journal.finish(ending, Entry(EventKind.EXECUTION_COMPLETED, NOW), forgetting=forgetting)

    await both.same(work)
    await both.same(lambda transactions: _written(transactions, holding, entries))


async def _renewed(transactions: Transactions, holding: Holding) -> bool:
    async with transactions.statements(RUNTIME) as session:
        return await records.renew(session, holding, LONG)


async def _written(transactions: Transactions, holding: Holding, entries: Sequence[Entry]) -> bool:
    async with transactions.statements(RUNTIME) as session:
        return await records.is_written(session, holding, entries)


def holding_of(both: Both, claim: Claim) -> Holding:
    """What its supervisor holds with a claim."""
    assert claim.subject is not None
    execution = both.world.server.tables["pipeline_executions"][claim.subject]
    return Holding(claim.subject, execution["pipeline_id"], claim.id, claim.generation)


def _entry(chance: Random) -> Entry:
    at = NOW + timedelta(seconds=chance.randint(0, 2))
    step = StepRow(chance.choice(STEPS), chance.choice(list(StepState)), chance.randint(1, 3), at)
    return Entry(EventKind.STEP_PROGRESS, at, {"attempt": 1}, step)


def _kept(chance: Random) -> Kept:
    task, attempt = chance.choice(STEPS), chance.randint(1, 3)
    places = (Place(f"{task}-{attempt}", 1, 10),) if chance.random() < 0.5 else ()
    return Kept(task, attempt, TaskReport((StepReport(task, 10, 10),)), places)


def _ending(chance: Random) -> Ending:
    state = chance.choice((ExecutionState.COMPLETED, ExecutionState.COMPLETED, ExecutionState.FAILED))
    totals = dict.fromkeys(("processed", "inserted", "updated", "deleted", "failed"), 0)
    commits: list[JsonObject] = [{"step_name": "load", "partition": 0, "rows": 10}]
    rank = chance.randint(0, 3)
    cursors: dict[str, JsonObject] = {"read": {"value": f"row {rank}", "rank": rank}} if chance.random() < 0.5 else {}
    return Ending(state, NOW, totals, PerformanceMetrics(), cursors=cursors, commits=commits)


EXECUTIONS: Final = (
    *(submitted, submitted, submitted, submitted, submitted, cancelled, claimed, claimed, claimed),
    *(held, held, held, held, held, kept, kept, taken, taken, taken, journaled, journaled, journaled),
    *(ended, left, doubted, lived, lived, lived),
)
