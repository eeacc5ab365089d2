"""Accepts and stops many executions that nobody asked for by hand, in one statement however many there are."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import text

from models.executions import ExecutionType
from models.fields import Json, jsonb_text
from runtime.database import Session

OF_SCHEDULES: Final = """execution.status = 'running' AND NOT execution.dry_run AND execution.backfill_id IS NULL
    AND execution.execution_type IN ('scheduled', 'triggered')"""
"""The condition of an `execution` that a schedule started and that has not ended."""


@dataclass(frozen=True, slots=True)
class Order:
    """An execution to accept. One that is `held` starts when `release` finds that those before it have ended."""

    pipeline_id: UUID
    execution_type: ExecutionType
    idempotency_key: str
    held: bool = False
    parameters: Mapping[str, Json] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)


_SUBMIT: Final = text("""
WITH given AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:pipelines AS uuid[]), CAST(:names AS text[]), CAST(:types AS text[]),
        CAST(:keys AS text[]), CAST(:held AS boolean[]), CAST(:contexts AS text[])
    ) WITH ORDINALITY AS given (id, pipeline_id, execution_id, execution_type, idempotency_key, held, context, place)
), execution AS (
    INSERT INTO pipeline_executions (
        id, pipeline_id, execution_id, execution_type, started_at, version, idempotency_key, last_event_seq,
        execution_context)
    SELECT given.id, pipeline.id, given.execution_id, given.execution_type, :at, pipeline.version,
        given.idempotency_key, 1, CAST(given.context AS jsonb)
    FROM given JOIN data_pipelines AS pipeline ON pipeline.id = given.pipeline_id
    WHERE pipeline.archived_at IS NULL AND pipeline.is_active
    ORDER BY given.place
    ON CONFLICT (pipeline_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), item AS (
    INSERT INTO work_items (kind, subject, pipeline_id, pool, priority, run_after, created_at)
    SELECT 'execution', given.id, given.pipeline_id, pipeline.pool, pipeline.priority,
        CASE WHEN given.held THEN 'infinity' ELSE now() END, now() + given.place * interval '1 microsecond'
    FROM given JOIN execution USING (id) JOIN data_pipelines AS pipeline ON pipeline.id = given.pipeline_id
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT execution.id, 1, 'execution_queued', '{}' FROM execution
RETURNING execution_id
""")


async def submit(session: Session, orders: Sequence[Order], now: datetime) -> set[UUID]:
    """Accept executions of the newest versions, in their order; answers the ids of those that were.

    Not accepted are those of a pipeline that is archived or not active, and those whose key was used before. Publish
    `runtime.bus.WORK` after the commit.
    """
    if not orders:
        return set()
    parameters = {
        "ids": [order.id for order in orders],
        "pipelines": [order.pipeline_id for order in orders],
        "names": [f"exec-{now:%Y%m%d%H%M%S}-{secrets.token_hex(5)}" for _ in orders],
        "types": [order.execution_type.value for order in orders],
        "keys": [order.idempotency_key for order in orders],
        "held": [order.held for order in orders],
        "contexts": [jsonb_text({"parameters": order.parameters} if order.parameters else {}) for order in orders],
        "at": now,
    }
    return {row.execution_id for row in (await session.execute(_SUBMIT, parameters)).all()}


_RELEASE: Final = text(f"""
UPDATE work_items SET run_after = now()
WHERE state = 'queued' AND id IN (
    SELECT DISTINCT ON (item.pipeline_id) item.id FROM work_items AS item
    WHERE item.state = 'queued' AND item.run_after = 'infinity' AND NOT EXISTS (
        SELECT FROM pipeline_executions AS execution
        WHERE execution.pipeline_id = item.pipeline_id AND {OF_SCHEDULES} AND execution.id <> item.subject
            AND NOT EXISTS (
                SELECT FROM work_items AS other
                WHERE other.subject = execution.id AND other.state = 'queued' AND other.run_after = 'infinity'))
    ORDER BY item.pipeline_id, item.created_at
)
RETURNING id
""")


async def release(session: Session) -> int:
    """Let those held executions start whose pipelines have none of a schedule running; answers how many."""
    return len((await session.execute(_RELEASE)).all())


_CANCEL: Final = text(f"""
WITH wanted AS (
    SELECT id, state FROM pipeline_executions AS execution
    WHERE pipeline_id = ANY(CAST(:pipelines AS uuid[])) AND {OF_SCHEDULES} AND cancel_requested_at IS NULL
    FOR UPDATE
), withdrawn AS (
    UPDATE work_items SET state = 'cancelled', finished_at = now()
    WHERE state = 'queued' AND subject IN (SELECT id FROM wanted WHERE state = 'queued')
    RETURNING subject
), changed AS (
    UPDATE pipeline_executions AS execution SET cancel_requested_at = now(), last_event_seq = last_event_seq + 1,
        state = CASE WHEN withdrawn.subject IS NULL THEN 'cancelling' ELSE 'cancelled' END,
        status = CASE WHEN withdrawn.subject IS NULL THEN execution.status ELSE 'cancelled' END,
        completed_at = CASE WHEN withdrawn.subject IS NULL THEN NULL ELSE now() END
    FROM wanted LEFT JOIN withdrawn ON withdrawn.subject = wanted.id
    WHERE execution.id = wanted.id
    RETURNING execution.id, execution.last_event_seq, execution.state
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT id, last_event_seq, 'execution_' || state, '{{}}' FROM changed
RETURNING execution_id
""")


async def cancel(session: Session, pipelines: Sequence[UUID]) -> list[UUID]:
    """Ask all that schedules started of these pipelines to stop; those that wait are cancelled at once.

    Publish `runtime.bus.control_topic` of each id that it answers after the commit.
    """
    if not pipelines:
        return []
    return [row.execution_id for row in (await session.execute(_CANCEL, {"pipelines": list(pipelines)})).all()]
