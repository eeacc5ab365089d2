"""What an execution is expected to take, and who is told when one is late or stands still: set by set, from rows.

Supervisors write beside this: events get their `seq` from the execution's row here as there, and a row that somebody
else has at the moment is passed over until the next look.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text

from runtime.database import Session

HISTORY: Final = 20
"""How many of a pipeline's executions that completed last tell what the next one takes."""

LATE_FACTOR: Final = 3
"""Without a deadline, an execution is late after this multiple of what is expected of it."""

LATE_FLOOR_MINUTES: Final = 10
"""Without a deadline, none is late before this: what takes seconds may well take a minute once."""

# From acceptance to the end, as everywhere; a backfill's executions wait for their turn, so they tell nothing.
_EXPECTED: Final = """
    SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY recent.took)) / 60 AS minutes
    FROM (
        SELECT completed_at - started_at AS took FROM pipeline_executions
        WHERE pipeline_id = wanted.pipeline_id AND status = 'completed' AND NOT dry_run AND backfill_id IS NULL
            AND {asked}
        ORDER BY started_at DESC LIMIT {most}
    ) AS recent
"""

_ESTIMATES: Final = text(f"""
    SELECT expected.minutes
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS wanted (pipeline_id, place)
    CROSS JOIN LATERAL ({_EXPECTED.format(asked="true", most=HISTORY)}) AS expected
    ORDER BY wanted.place
""")


async def estimates(session: Session, ids: Sequence[UUID]) -> list[float | None]:
    """What an execution of each pipeline is expected to take, in minutes, in the order of the pipelines' ids.

    The median of the last that completed, dry runs and backfills aside, of those that one may see; None without any.
    """
    rows = (await session.execute(_ESTIMATES, {"ids": list(ids)})).all()
    return [None if row.minutes is None else round(float(row.minutes), 4) for row in rows]


_PAST_FLOOR: Final = (
    f"pipeline.deadline_minutes IS NULL AND since.began < now() - interval '{LATE_FLOOR_MINUTES} minutes'"
)

# Whoever runs, and whoever has a deadline and waits. What is expected is only looked up of those past the floor.
_LATE: Final = text(f"""
WITH since AS MATERIALIZED (
    SELECT id, min(began) AS began
    FROM (
        SELECT subject AS id, run_after AS began FROM work_items WHERE state = 'claimed' AND kind = 'execution'
        UNION ALL
        SELECT execution.id, execution.started_at
        FROM data_pipelines AS pipeline JOIN pipeline_executions AS execution ON execution.pipeline_id = pipeline.id
        WHERE pipeline.deadline_minutes IS NOT NULL AND execution.status = 'running' AND execution.late_at IS NULL
            AND execution.backfill_id IS NULL
            AND execution.started_at < now() - make_interval(mins => pipeline.deadline_minutes)
    ) AS both_kinds
    GROUP BY id
), measured AS MATERIALIZED (
    SELECT wanted.id, since.began, pipeline.deadline_minutes, expected.minutes AS expected_minutes,
        extract(epoch FROM now() - since.began) / 60 AS minutes
    FROM since
    JOIN pipeline_executions AS wanted ON wanted.id = since.id
    JOIN data_pipelines AS pipeline ON pipeline.id = wanted.pipeline_id
    CROSS JOIN LATERAL ({_EXPECTED.format(asked=_PAST_FLOOR, most=HISTORY)}) AS expected
    WHERE wanted.status = 'running' AND wanted.late_at IS NULL
), late AS MATERIALIZED (
    SELECT execution.id, measured.deadline_minutes, measured.expected_minutes, measured.minutes
    FROM measured JOIN pipeline_executions AS execution ON execution.id = measured.id
    WHERE measured.minutes > coalesce(
        measured.deadline_minutes, greatest({LATE_FLOOR_MINUTES}, {LATE_FACTOR} * measured.expected_minutes))
        AND coalesce(measured.deadline_minutes, measured.expected_minutes) IS NOT NULL
    FOR UPDATE OF execution SKIP LOCKED
), told AS (
    UPDATE pipeline_executions AS execution SET late_at = now(), last_event_seq = last_event_seq + 1
    FROM late
    WHERE execution.id = late.id AND execution.late_at IS NULL AND execution.status = 'running'
    RETURNING execution.id, execution.last_event_seq, late.deadline_minutes, late.expected_minutes, late.minutes
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT id, last_event_seq, 'execution_late', jsonb_strip_nulls(jsonb_build_object(
    'minutes', round(minutes, 1), 'deadline_minutes', deadline_minutes, 'expected_minutes', round(expected_minutes, 4)))
FROM told
RETURNING execution_id
""")


async def tell_late(session: Session) -> list[UUID]:
    """Write `execution_late` once into each execution that takes longer than its pipeline's `deadline_minutes`.

    Without a deadline: longer than `LATE_FACTOR` times what is expected of it, and than `LATE_FLOOR_MINUTES`. Time
    counts from when it might start; that it waits does not excuse one with a deadline, but chunks of a backfill that
    wait for their turn. Answers the executions.
    """
    return list((await session.scalars(_LATE)).all())


# Progress that does not move is not told, so the last event is the last thing that happened. Written only if nothing
# was meanwhile: `last_event_seq` is compared.
_STALLED: Final = text("""
WITH still AS MATERIALIZED (
    SELECT execution.id, execution.last_event_seq, last.recorded_at
    FROM work_items AS item
    JOIN pipeline_executions AS execution ON execution.id = item.subject
    CROSS JOIN LATERAL (
        SELECT event.seq, event.recorded_at FROM execution_events AS event
        WHERE event.execution_id = execution.id AND event.recorded_at > execution.started_at - interval '1 hour'
            AND event.kind NOT IN ('execution_late', 'execution_stalled')
        ORDER BY event.seq DESC LIMIT 1
    ) AS last
    WHERE item.state = 'claimed' AND item.kind = 'execution'
        AND execution.state IN ('starting', 'running', 'cancelling')
        AND last.recorded_at < now() - make_interval(secs => :seconds)
        AND NOT EXISTS (
            SELECT FROM execution_events AS event
            WHERE event.execution_id = execution.id AND event.seq > last.seq AND event.kind = 'execution_stalled'
                AND event.recorded_at > last.recorded_at)
), mine AS MATERIALIZED (
    SELECT execution.id FROM still JOIN pipeline_executions AS execution ON execution.id = still.id
    FOR UPDATE OF execution SKIP LOCKED
), told AS (
    UPDATE pipeline_executions AS execution SET last_event_seq = execution.last_event_seq + 1
    FROM still JOIN mine USING (id)
    WHERE execution.id = still.id AND execution.last_event_seq = still.last_event_seq
        AND execution.state IN ('starting', 'running', 'cancelling')
    RETURNING execution.id, execution.last_event_seq, still.recorded_at
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT told.id, told.last_event_seq, 'execution_stalled', jsonb_build_object(
    'since', told.recorded_at,
    'minutes', round(extract(epoch FROM now() - told.recorded_at) / 60, 1),
    'steps', coalesce((
        SELECT jsonb_agg(step.step_name ORDER BY step.started_at) FROM step_executions AS step
        WHERE step.pipeline_execution_id = told.id AND step.state = 'running'), '[]'))
FROM told
RETURNING execution_id
""")


async def tell_stalled(session: Session, minutes: float) -> list[UUID]:
    """Write `execution_stalled` once into each running execution in which nothing has happened for so long.

    A step that starts, ends or moves rows is something that happens; a heartbeat is not, and one that backs off is
    expected to do nothing. After something has happened it may stall once more. Answers the executions.
    """
    return list((await session.scalars(_STALLED, {"seconds": minutes * 60})).all())
