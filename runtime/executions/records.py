"""What the journal of an execution holds, and the statements that write it, compare-and-set on its generation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from models.errors import Conflict
from models.events import EventKind
from models.executions import ErrorDetails, ExecutionState, Keeping, PerformanceMetrics, StepState, StepStatus
from models.fields import JsonObject, jsonb_text
from runtime.database import Session
from runtime.executions.checkpoints import Kept


class Fenced(Conflict):
    """Another supervisor has taken the execution over; whatever this one writes comes too late."""

    code = "fenced"


@dataclass(frozen=True, slots=True)
class StepRow:
    """The columns of `step_executions` as one transition leaves them; None keeps what is there."""

    step_name: str
    state: StepState
    attempt: int
    started_at: datetime
    completed_at: datetime | None = None
    values: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened: its event, and the step row that it changes."""

    kind: EventKind
    at: datetime
    payload: JsonObject = field(default_factory=dict)
    step: StepRow | None = None
    step_name: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended: its state, totals of rows, metrics, error, advanced cursors, and rows set aside."""

    state: ExecutionState
    at: datetime
    totals: Mapping[str, int]
    metrics: PerformanceMetrics
    error: ErrorDetails | None = None
    cursors: Mapping[str, JsonObject] = field(default_factory=dict)
    commits: Sequence[JsonObject] = ()
    set_aside: Sequence[JsonObject] = ()


@dataclass(frozen=True, slots=True)
class Holding:
    """The execution in our hands: its work item and the generation that fences others."""

    execution_id: UUID
    pipeline_id: UUID
    work_id: UUID
    generation: int


_HAPPENED = """steps AS (
    INSERT INTO step_executions AS old (
        pipeline_execution_id, step_id, step_name, step_execution_id, started_at, completed_at, status, state,
        attempt, generation, records_in, records_out, processing_time_ms, memory_usage_mb, cpu_usage_percent,
        input_data_sample, output_data_sample, transformation_stats, error_message, error_stack, retry_count)
    SELECT execution.id, known.id, row.step_name, execution.id::text || ':' || row.step_name, row.started_at,
        row.completed_at, row.status, row.state, row.attempt, execution.generation, coalesce(row.records_in, 0),
        coalesce(row.records_out, 0), row.processing_time_ms, row.memory_usage_mb, row.cpu_usage_percent,
        row.input_data_sample, row.output_data_sample, coalesce(row.transformation_stats, '{}'),
        row.error_message, row.error_stack, greatest(row.attempt - 1, 0)
    FROM execution
    CROSS JOIN jsonb_to_recordset(CAST(:steps AS jsonb)) AS row(
        step_name text, started_at timestamptz, completed_at timestamptz, status text, state text, attempt int,
        records_in bigint, records_out bigint, processing_time_ms int, memory_usage_mb int,
        cpu_usage_percent numeric, input_data_sample jsonb, output_data_sample jsonb, transformation_stats jsonb,
        error_message text, error_stack text)
    LEFT JOIN pipeline_steps AS known ON known.pipeline_id = :pipeline_id AND known.step_name = row.step_name
    ON CONFLICT (pipeline_execution_id, step_execution_id) DO UPDATE SET
        completed_at = excluded.completed_at, status = excluded.status, state = excluded.state,
        attempt = excluded.attempt, generation = excluded.generation, records_in = excluded.records_in,
        records_out = excluded.records_out, processing_time_ms = excluded.processing_time_ms,
        memory_usage_mb = excluded.memory_usage_mb, cpu_usage_percent = excluded.cpu_usage_percent,
        input_data_sample = excluded.input_data_sample, output_data_sample = excluded.output_data_sample,
        transformation_stats = excluded.transformation_stats, error_message = excluded.error_message,
        error_stack = excluded.error_stack, retry_count = excluded.retry_count
), events AS (
    INSERT INTO execution_events (execution_id, seq, recorded_at, kind, step_name, payload)
    SELECT execution.id, execution.last_event_seq - :count + event.ordinal, event.at, event.kind, event.step_name,
        event.payload
    FROM execution
    CROSS JOIN jsonb_to_recordset(CAST(:events AS jsonb)) AS event(
        ordinal bigint, at timestamptz, kind text, step_name text, payload jsonb)
)"""

_WRITE = text(f"""
WITH execution AS (
    UPDATE pipeline_executions
    SET last_event_seq = last_event_seq + :count,
        state = CASE WHEN state = 'cancelling' THEN state ELSE coalesce(CAST(:state AS text), state) END
    WHERE id = :id AND generation = :generation AND state NOT IN ('completed', 'failed', 'cancelled')
    RETURNING id, last_event_seq, generation
), {_HAPPENED}
SELECT last_event_seq FROM execution
""")

_END = text(f"""
WITH execution AS (
    UPDATE pipeline_executions
    SET last_event_seq = last_event_seq + :count, state = CAST(:state AS text), status = CAST(:state AS text),
        completed_at = :at, records_processed = :processed, records_inserted = :inserted, records_updated = :updated,
        records_deleted = :deleted, records_failed = :failed, performance_metrics = CAST(:metrics AS jsonb),
        error_details = CAST(:error AS jsonb), logs_location = :logs
    WHERE id = :id AND generation = :generation AND state NOT IN ('completed', 'failed', 'cancelled')
    RETURNING id, last_event_seq, generation
), {_HAPPENED}, cursors AS (
    INSERT INTO pipeline_cursors AS known (pipeline_id, step_name, cursor, execution_id)
    SELECT :pipeline_id, cursor.key, cursor.value, execution.id
    FROM execution CROSS JOIN jsonb_each(CAST(:cursors AS jsonb)) AS cursor
    ON CONFLICT (pipeline_id, step_name) DO UPDATE
        SET cursor = excluded.cursor, execution_id = excluded.execution_id, updated_at = now()
        WHERE jsonb_typeof(known.cursor -> 'rank') IS DISTINCT FROM jsonb_typeof(excluded.cursor -> 'rank')
            OR known.cursor -> 'rank' <= excluded.cursor -> 'rank'
), ledger AS (
    INSERT INTO commit_ledger (execution_id, step_name, partition, rows)
    SELECT execution.id, landed.step_name, landed.partition, landed.rows
    FROM execution CROSS JOIN jsonb_to_recordset(CAST(:commits AS jsonb)) AS landed(
        step_name text, partition int, rows bigint)
    ON CONFLICT DO NOTHING
), quarantine AS (
    INSERT INTO quarantined_rows (pipeline_execution_id, step_name, row, reason)
    SELECT execution.id, aside.step_name, aside.row, aside.reason
    FROM execution CROSS JOIN jsonb_to_recordset(CAST(:set_aside AS jsonb)) AS aside(
        step_name text, row jsonb, reason text)
)
UPDATE work_items SET state = 'done', finished_at = now(), lease_expires_at = NULL
FROM execution WHERE work_items.id = :work_id AND work_items.generation = :generation
RETURNING work_items.id
""")


_WRITTEN = text("""
SELECT seq FROM execution_events
WHERE execution_id = :id AND recorded_at = :at AND kind = :kind
    AND step_name IS NOT DISTINCT FROM CAST(:step_name AS text)
""")

_KEEP = text("""
INSERT INTO checkpoints AS known (execution_id, task_name, generation, attempt, blocks, report, kept)
SELECT :id, row.task, :generation, row.attempt, row.places, row.report, :keeping
FROM jsonb_to_recordset(CAST(:kept AS jsonb)) AS row(task text, attempt int, places jsonb, report jsonb)
ON CONFLICT (execution_id, task_name) DO UPDATE
    SET generation = excluded.generation, attempt = excluded.attempt, blocks = excluded.blocks,
        report = excluded.report, created_at = now()
""")

_FORGET = text("DELETE FROM checkpoints WHERE execution_id = :id")

_BEAT = text("""
UPDATE work_items SET lease_expires_at = now() + make_interval(secs => :lease_seconds)
WHERE id = :work_id AND generation = :generation AND state = 'claimed'
RETURNING (SELECT cancel_requested_at IS NOT NULL FROM pipeline_executions WHERE id = :id) AS cancelling
""")


async def append(session: Session, holding: Holding, entries: Sequence[Entry], state: ExecutionState | None) -> None:
    """Write entries and the state that the execution moved to; raises `Fenced`."""
    parameters = {**_happened(holding, entries), "state": None if state is None else state.value}
    if (await session.execute(_WRITE, parameters)).first() is None:
        raise _fenced()


async def end(session: Session, holding: Holding, entries: Sequence[Entry], ending: Ending, logs: str) -> None:
    """Write the last entries, the ending, cursors and ledger, and settle the work item; raises `Fenced`."""
    parameters = {**_happened(holding, entries), **_ending(holding, ending, logs)}
    if (await session.execute(_END, parameters)).first() is None:
        raise _fenced()


async def is_written(session: Session, holding: Holding, entries: Sequence[Entry]) -> bool:
    """Whether a transaction whose answer was lost has committed: its last event tells."""
    if not entries:
        return False
    last = entries[-1]
    parameters = {"id": holding.execution_id, "at": last.at, "kind": last.kind.value, "step_name": step_of(last)}
    return (await session.execute(_WRITTEN, parameters)).first() is not None


async def keep(session: Session, holding: Holding, kept: Sequence[Kept], keeping: Keeping) -> None:
    """Write what is kept of finished tasks."""
    if kept:
        rows = jsonb_text([asdict(one) for one in kept])
        await session.execute(_KEEP, {**_ours(holding), "kept": rows, "keeping": keeping.value})


async def forget(session: Session, holding: Holding) -> None:
    """Remove the checkpoints of the execution."""
    await session.execute(_FORGET, {"id": holding.execution_id})


async def renew(session: Session, holding: Holding, lease_seconds: float) -> bool:
    """Renew the lease; whether the execution is to stop. Raises `Fenced` when it is no longer ours."""
    row = (await session.execute(_BEAT, {**_ours(holding), "lease_seconds": lease_seconds})).first()
    if row is None:
        raise _fenced()
    return bool(row.cancelling)


def _fenced() -> Fenced:
    return Fenced("the execution was taken over, or has ended", hint="this supervisor stops; nothing to do")


def _ours(holding: Holding) -> dict[str, object]:
    return {"id": holding.execution_id, "work_id": holding.work_id, "generation": holding.generation}


def _happened(holding: Holding, entries: Sequence[Entry]) -> dict[str, object]:
    events = [_event(ordinal, entry) for ordinal, entry in enumerate(entries, 1)]
    steps = {entry.step.step_name: _columns(entry.step) for entry in entries if entry.step is not None}
    return {
        "id": holding.execution_id,
        "pipeline_id": holding.pipeline_id,
        "generation": holding.generation,
        "count": len(events),
        "steps": jsonb_text(list(steps.values())),
        "events": jsonb_text(events),
    }


def _ending(holding: Holding, ending: Ending, logs: str) -> dict[str, object]:
    return {
        "work_id": holding.work_id,
        "state": ending.state.value,
        "at": ending.at,
        **ending.totals,
        "metrics": ending.metrics.model_dump_json(),
        "error": None if ending.error is None else jsonb_text(ending.error.model_dump(exclude_none=True)),
        "logs": logs,
        "cursors": jsonb_text(dict(ending.cursors)),
        "commits": jsonb_text(list(ending.commits)),
        "set_aside": jsonb_text(list(ending.set_aside)),
    }


def step_of(entry: Entry) -> str | None:
    """The step that an entry is about, if any."""
    return entry.step.step_name if entry.step is not None else entry.step_name


def _event(ordinal: int, entry: Entry) -> dict[str, object]:
    return {
        "ordinal": ordinal,
        "at": entry.at,
        "kind": entry.kind,
        "step_name": step_of(entry),
        "payload": entry.payload,
    }


def _columns(row: StepRow) -> dict[str, object]:
    return {
        "step_name": row.step_name,
        "state": row.state,
        "status": _status(row.state),
        "attempt": row.attempt,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
        **row.values,
    }


_STATUSES = frozenset(status.value for status in StepStatus)


def _status(state: StepState) -> StepStatus:
    """The state in WS-269's words: what still may run is running, what was stopped was skipped."""
    if state is StepState.CANCELLED:
        return StepStatus.SKIPPED
    return StepStatus(state.value) if state.value in _STATUSES else StepStatus.RUNNING
