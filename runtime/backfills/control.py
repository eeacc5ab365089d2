"""Pauses, resumes and cancels backfills, lets their next chunks go, and finishes those whose last chunk has ended.

All of it is read from rows and written to rows, so that it goes on with whichever dispatcher comes next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from models.backfills import BackfillState
from models.errors import Conflict, NotFound
from runtime.database import Session


@dataclass(frozen=True, slots=True)
class Kept:
    """What keeping the backfills did: how many are unfinished, and how many chunks it let go."""

    open: int
    released: int


# Whoever has a backfill's row decides for it alone; another dispatcher passes over it. The items are tested again when
# they are changed, as they may have been let go since this statement began.
_KEEP: Final = text("""
WITH open AS MATERIALIZED (
    SELECT backfill.id, backfill.state, backfill.most_at_once,
        pipeline.is_active AND NOT pipeline.is_paused AND pipeline.archived_at IS NULL AS may_start
    FROM backfills AS backfill JOIN data_pipelines AS pipeline ON pipeline.id = backfill.pipeline_id
    WHERE backfill.finished_at IS NULL
    FOR UPDATE OF backfill SKIP LOCKED
), next AS MATERIALIZED (
    SELECT item.id
    FROM open CROSS JOIN LATERAL (
        SELECT held.id FROM work_items AS held
        WHERE held.backfill_id = open.id AND held.state = 'held'
        ORDER BY held.created_at
        LIMIT greatest(0, open.most_at_once - (
            SELECT count(*) FROM work_items AS going
            WHERE going.backfill_id = open.id AND going.state IN ('queued', 'claimed')))
    ) AS item
    WHERE open.state = 'running' AND open.may_start
), released AS (
    UPDATE work_items SET state = 'queued', run_after = now()
    FROM next WHERE work_items.id = next.id AND work_items.state = 'held'
    RETURNING work_items.id
), finished AS (
    UPDATE backfills SET finished_at = now(), state = CASE
        WHEN backfills.state = 'cancelled' THEN 'cancelled'
        WHEN EXISTS (
            SELECT FROM pipeline_executions AS execution
            WHERE execution.backfill_id = backfills.id AND execution.state <> 'completed') THEN 'failed'
        ELSE 'completed' END
    FROM open
    WHERE backfills.id = open.id AND NOT EXISTS (
        SELECT FROM work_items AS item
        WHERE item.backfill_id = open.id AND item.state IN ('held', 'queued', 'claimed'))
    RETURNING backfills.id
)
SELECT (SELECT count(*) FROM open) - (SELECT count(*) FROM finished) AS open,
    (SELECT count(*) FROM released) AS released
""")


async def keep(session: Session) -> Kept:
    """Let the next chunks of running backfills go, and finish those that have none left; cheap when there are none.

    A backfill whose pipeline is paused, inactive or archived lets nothing go.
    """
    row = (await session.execute(_KEEP)).one()
    return Kept(row.open, row.released)


_STATE: Final = text("SELECT state, finished_at FROM backfills WHERE id = :id FOR UPDATE")
_MOVE: Final = text("UPDATE backfills SET state = :state WHERE id = :id")
# An item may be queued while its execution runs: its claim was undone by a crash, or it is to be taken over.
_HOLD: Final = text("""
WITH waiting AS MATERIALIZED (
    SELECT id FROM pipeline_executions WHERE backfill_id = :id AND state = 'queued' ORDER BY id FOR UPDATE
)
UPDATE work_items SET state = 'held'
FROM waiting
WHERE work_items.subject = waiting.id AND work_items.state = 'queued'
""")


async def pause(session: Session, identity: UUID) -> None:
    """Start no more chunks; those that run go on. Raises `NotFound`, and `Conflict` when it has ended."""
    if await _standing(session, identity, "paused") is BackfillState.RUNNING:
        await session.execute(_MOVE, {"id": identity, "state": BackfillState.PAUSED.value})
        await session.execute(_HOLD, {"id": identity})


async def resume(session: Session, identity: UUID) -> None:
    """Go on with a paused one; publish `runtime.bus.WORK` after the commit. Raises as `pause` does."""
    if await _standing(session, identity, "resumed") is BackfillState.PAUSED:
        await session.execute(_MOVE, {"id": identity, "state": BackfillState.RUNNING.value})


# Executions are locked before their items, as those who end one do. What was withdrawn is grouped, not joined: of rows
# made on the way the planner expects few, and would compare each with each.
_CANCEL: Final = text("""
WITH wanted AS MATERIALIZED (
    SELECT id, state FROM pipeline_executions
    WHERE backfill_id = :id AND cancel_requested_at IS NULL AND state NOT IN ('completed', 'failed', 'cancelled')
    ORDER BY id FOR UPDATE
), withdrawn AS (
    UPDATE work_items SET state = 'cancelled', finished_at = now()
    FROM wanted
    WHERE work_items.subject = wanted.id AND wanted.state = 'queued' AND work_items.state IN ('held', 'queued')
    RETURNING work_items.subject
), fate AS (
    SELECT id, bool_or(is_withdrawn) AS is_withdrawn
    FROM (SELECT id, false AS is_withdrawn FROM wanted UNION ALL SELECT subject, true FROM withdrawn) AS both_kinds
    GROUP BY id
), changed AS (
    UPDATE pipeline_executions AS execution
    SET cancel_requested_at = now(), last_event_seq = last_event_seq + 1,
        state = CASE WHEN is_withdrawn THEN 'cancelled' ELSE 'cancelling' END,
        status = CASE WHEN is_withdrawn THEN 'cancelled' ELSE execution.status END,
        completed_at = CASE WHEN is_withdrawn THEN now() END
    FROM fate
    WHERE execution.id = fate.id
    RETURNING execution.id, execution.last_event_seq, execution.state
), told AS (
    INSERT INTO execution_events (execution_id, seq, kind, payload)
    SELECT id, last_event_seq, 'execution_' || state, '{}' FROM changed
)
SELECT id FROM changed WHERE state = 'cancelling'
""")


async def cancel(session: Session, identity: UUID) -> Sequence[UUID]:
    """Withdraw the chunks that wait and stop those that run; answers the executions that are told to stop.

    Publish their `runtime.bus.control_topic` after the commit. Raises as `pause` does; cancelling twice is nothing.
    """
    if await _standing(session, identity, "cancelled") is BackfillState.CANCELLED:
        return []
    await session.execute(_MOVE, {"id": identity, "state": BackfillState.CANCELLED.value})
    return list((await session.scalars(_CANCEL, {"id": identity})).all())


async def _standing(session: Session, identity: UUID, wanted: str) -> BackfillState:
    """The state of an unfinished backfill, whose row is ours from now on."""
    row = (await session.execute(_STATE, {"id": identity})).first()
    if row is None:
        raise no_backfill(identity)
    state = BackfillState(row.state)
    if row.finished_at is not None or (state is BackfillState.CANCELLED and wanted != "cancelled"):
        hint = "request the range again: only what is missing, failed or was cancelled is run"
        raise Conflict(f"the backfill is {state.value}, and cannot be {wanted}", hint=hint, code="already_ended")
    return state


def no_backfill(reference: object) -> NotFound:
    """What one is told who names a backfill that is not there, or not for them."""
    return NotFound(f"there is no backfill {str(reference)!r}", hint="see the `backfills` of a pipeline", path="id")
