"""The queue of work: what wants doing is a row, claimed under a lease that lapses when its holder dies."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import DomainError, NotFound, Terminal, Unavailable
from models.fields import Json, JsonObject, jsonb_text
from models.work import WorkItem, WorkState
from runtime.bus import Bus, outcome_topic
from runtime.database import Database, Identity, Session
from runtime.queue.failures import failure_from, failure_to
from runtime.queue.kinds import WorkKind

POLL_SECONDS = 0.5
MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class Claim:
    """A work item in our hands until its lease ends; `generation` fences everyone who held it before."""

    id: UUID
    kind: WorkKind
    subject: UUID | None
    payload: JsonObject
    generation: int
    requested_by: UUID | None
    attempts: int = 1


async def enqueue(
    session: AsyncSession,
    kind: WorkKind,
    *,
    by: UUID | None,
    subject: UUID | None = None,
    payload: JsonObject | None = None,
    priority: int = 0,
) -> UUID:
    """Add one work item in the caller's transaction; publish `runtime.bus.WORK` after it commits.

    Executions are added by `runtime.executions.submission`.
    """
    item = WorkItem(
        kind=kind,
        subject=subject,
        payload=payload or {},
        priority=priority,
        requested_by=by,
    )
    session.add(item)
    await session.flush()
    return item.id


_CLAIM = text("""
    SELECT id, kind, subject, payload, generation, requested_by, attempts, priority, created_at
    FROM wedsync.claim_work(:holder, :executions, :others, :lease_seconds)
""")


async def claim(
    session: Session, holder: str, *, executions: int = 0, others: int = 0, lease_seconds: float
) -> list[Claim]:
    """Take at most so many waiting executions, and so much other work.

    Of executions the most urgent go first; then those of the pipeline that runs least, then of the one whose last turn
    was longest ago; then the oldest. A pipeline or a pool at its limit holds up nobody else, and no two who claim at
    once exceed it. Of other work the most urgent goes first, then the oldest.
    """
    wanted = {"holder": holder, "executions": executions, "others": others, "lease_seconds": lease_seconds}
    rows = (await session.execute(_CLAIM, wanted)).all()
    ordered = sorted(rows, key=lambda row: (-row.priority, row.created_at))
    return [
        Claim(row.id, WorkKind(row.kind), row.subject, row.payload, row.generation, row.requested_by, row.attempts)
        for row in ordered
    ]


_WAITING = text("""
    SELECT count(*) AS waiting, coalesce(extract(epoch FROM now() - min(first.since)), 0) AS waited
    FROM wedsync.waiting_executions(:most) AS first (since)
""")


async def waiting(session: Session, most: int) -> tuple[int, float]:
    """How many executions only wait for a supervisor, and the seconds the oldest has, looking at no more than `most`.

    What a limit holds back does not count: more supervisors would not run it.
    """
    row = (await session.execute(_WAITING, {"most": most})).one()
    return int(row.waiting), float(row.waited)


_BACK = """
    UPDATE work_items SET state = 'queued', holder = NULL, lease_expires_at = NULL,
        run_after = CASE WHEN kind = 'execution' THEN wedsync.rested(subject, generation, run_after) ELSE run_after END
"""

_RELEASE_LAPSED = text(f"""{_BACK}
    WHERE id IN (
        SELECT id FROM work_items WHERE state = 'claimed' AND lease_expires_at < now() FOR UPDATE SKIP LOCKED
    )
    RETURNING id
""")


async def release_lapsed(session: Session) -> int:
    """Put items whose holder stopped renewing back into the queue, as `release` does."""
    return len((await session.execute(_RELEASE_LAPSED)).all())


def given_up(claimed: Claim) -> Terminal | None:
    """Why an item is not to be tried again: its workers were lost with it too often; None while it may be."""
    if claimed.attempts <= MOST_TRIES:
        return None
    return Terminal(
        f"{MOST_TRIES} workers died or were lost with this work",
        hint="see the runtime's log; ask again once the cause is gone",
        code="gave_up",
    )


_RELEASE = text(f"""{_BACK}
    WHERE id = :id AND generation = :generation AND state = 'claimed' AND holder = :holder
    RETURNING id
""")


async def release(session: Session, claimed: Claim, holder: str) -> bool:
    """Put a claimed item back at once; False when it is no longer ours. The next claim fences this one off.

    An execution whose supervisors die one after the other, with no step finished, rests before the next.
    A claim need not last: one that a crash undid is made again with its generation, so that the holder tells, too.
    """
    parameters = {"id": claimed.id, "generation": claimed.generation, "holder": holder}
    return (await session.execute(_RELEASE, parameters)).first() is not None


_WITHDRAW = text("""
    UPDATE work_items SET state = 'cancelled', finished_at = now()
    WHERE subject = :subject AND state IN ('held', 'queued')
    RETURNING id
""")


async def withdraw(session: Session, subject: UUID) -> bool:
    """Take a waiting item out of the queue; False when it has been claimed already."""
    return (await session.execute(_WITHDRAW, {"subject": subject})).first() is not None


_RENEW = text("""
    UPDATE work_items SET lease_expires_at = now() + make_interval(secs => :lease_seconds)
    WHERE id = :id AND generation = :generation AND state = 'claimed'
    RETURNING id
""")


async def renew(session: Session, item: UUID, generation: int, lease_seconds: float) -> bool:
    """Push the lease's end out; False when the item is no longer ours."""
    parameters = {"id": item, "generation": generation, "lease_seconds": lease_seconds}
    return (await session.execute(_RENEW, parameters)).first() is not None


_SETTLE = text("""
    UPDATE work_items
    SET state = :state, result = CAST(:result AS jsonb), error = CAST(:error AS jsonb), finished_at = now(),
        lease_expires_at = NULL
    WHERE id = :id AND generation = :generation AND state = 'claimed'
    RETURNING id
""")


async def settle(session: Session, claimed: Claim, result: Json = None, error: DomainError | None = None) -> bool:
    """Record how a claimed item ended; False when it is no longer ours."""
    parameters = {
        "id": claimed.id,
        "generation": claimed.generation,
        "state": (WorkState.FAILED if error else WorkState.DONE).value,
        "result": jsonb_text(result),
        "error": None if error is None else jsonb_text(failure_to(error)),
    }
    return (await session.execute(_SETTLE, parameters)).first() is not None


_PRUNE = text("""
    DELETE FROM work_items WHERE id IN (
        SELECT id FROM work_items WHERE finished_at < now() - make_interval(days => :days)
        LIMIT :most FOR UPDATE SKIP LOCKED
    )
    RETURNING id
""")


async def prune(session: Session, days: int, most: int) -> int:
    """Remove at most `most` items that ended more than `days` ago; answers how many."""
    return len((await session.execute(_PRUNE, {"days": days, "most": most})).all())


async def outcome(database: Database, bus: Bus, identity: Identity, item: UUID, seconds: float) -> Json:
    """Wait at most `seconds` for an item's end: its result, or its typed error raised.

    Raises `Unavailable` when it has not ended by then; the item goes on and can be asked for again.
    """
    try:
        async with asyncio.timeout(seconds):
            async for _ in bus.wakeups(outcome_topic(item), every=POLL_SECONDS):
                found = await _finished(database, identity, item)
                if found is not None:
                    return _unwrapped(found)
    except TimeoutError:
        pass
    raise Unavailable(
        f"no answer within {seconds:g} s",
        hint="is the runtime up? see GET /readyz/runtime; the work stays queued and runs when it is",
        code="runtime_unavailable",
    )


async def _finished(database: Database, identity: Identity, item: UUID) -> WorkItem | None:
    async with database.transaction(identity) as session:
        found = await session.get(WorkItem, item)
        if found is None:
            raise NotFound(f"there is no work item {item}", hint="ask again for what you wanted")
        return found if found.finished_at is not None else None


def _unwrapped(item: WorkItem) -> Json:
    if item.error is not None:
        raise failure_from(item.error)
    return item.result
