"""Writes what happens in an execution: transitions and events, batched, compare-and-set on its generation."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from models.errors import Conflict
from models.events import EventKind
from models.executions import ErrorDetails, ExecutionState, PerformanceMetrics, StepState, StepStatus
from models.fields import JsonObject, jsonb_text
from runtime.access.principal import Principal
from runtime.bus import ALL_EVENTS, Bus, events_topic
from runtime.database import Transactions
from runtime.executions.logs import LogFile

RUNTIME = Principal.runtime()
GATHER_SECONDS = 0.1


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


class Journal:
    """One execution's journal: `record` buffers, a single writer flushes in order, `finish` writes the last of it."""

    def __init__(self, database: Transactions, bus: Bus, holding: Holding, log: LogFile) -> None:
        self._database = database
        self._bus = bus
        self._holding = holding
        self._log = log
        self._buffer: list[Entry] = []
        self._state: ExecutionState | None = ExecutionState.RUNNING
        self._told = ExecutionState.RUNNING
        self._closed = asyncio.Event()
        self._news = asyncio.Event()

    def record(self, *entries: Entry) -> None:
        """Note what happened; `flush` writes it."""
        self._buffer.extend(entries)
        self._news.set()

    def move(self, state: ExecutionState) -> None:
        """Note whether the execution runs or backs off; `flush` writes it where it has changed."""
        if state is not self._told:
            self._state = self._told = state
            self._news.set()

    def close(self) -> None:
        """Let `wait` end: what is still buffered goes with `finish`."""
        self._closed.set()
        self._news.set()

    async def wait(self) -> bool:
        """Wait until there is something to flush, and a while for what comes with it; False once closed.

        So a short execution writes once, at its end, and a long one is never further behind than that while.
        """
        await self._news.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_SECONDS):
                await self._closed.wait()
        self._news.clear()
        return not self._closed.is_set()

    async def flush(self) -> None:
        """Write what is buffered, the first time that the execution runs, and what it moved to; raises `Fenced`."""
        entries, self._buffer = self._buffer, []
        state, self._state = self._state, None
        if not entries and state is None:
            return
        async with self._database.statements(RUNTIME) as session:
            parameters = {**self._happened(entries), "state": None if state is None else state.value}
            if (await session.execute(_WRITE, parameters)).first() is None:
                raise Fenced("the execution was taken over, or has ended", hint="this supervisor stops; nothing to do")
        await self._tell(entries)

    async def finish(self, ending: Ending, last: Entry) -> None:
        """Write the rest and the ending, with cursors, ledger and work item, in one transaction; raises `Fenced`."""
        entries, self._buffer = [*self._buffer, last], []
        async with self._database.statements(RUNTIME) as session:
            parameters = {**self._happened(entries), **self._ending(ending)}
            if (await session.execute(_END, parameters)).first() is None:
                raise Fenced("the execution was taken over while it ended", hint="this supervisor stops")
        await self._tell(entries)

    def _happened(self, entries: Sequence[Entry]) -> dict[str, object]:
        events = [_event(ordinal, entry) for ordinal, entry in enumerate(entries, 1)]
        steps = {entry.step.step_name: _columns(entry.step) for entry in entries if entry.step is not None}
        return {
            "id": self._holding.execution_id,
            "pipeline_id": self._holding.pipeline_id,
            "generation": self._holding.generation,
            "count": len(events),
            "steps": jsonb_text(list(steps.values())),
            "events": jsonb_text(events),
        }

    def _ending(self, ending: Ending) -> dict[str, object]:
        holding = self._holding
        return {
            "work_id": holding.work_id,
            "state": ending.state.value,
            "at": ending.at,
            **ending.totals,
            "metrics": ending.metrics.model_dump_json(),
            "error": None if ending.error is None else jsonb_text(ending.error.model_dump(exclude_none=True)),
            "logs": self._log.location,
            "cursors": jsonb_text(dict(ending.cursors)),
            "commits": jsonb_text(list(ending.commits)),
            "set_aside": jsonb_text(list(ending.set_aside)),
        }

    async def _tell(self, entries: Sequence[Entry]) -> None:
        """Wake whoever watches and append to the log; neither may fail the execution."""
        await self._bus.publish(events_topic(self._holding.execution_id), ALL_EVENTS)
        self._log.write([{"at": e.at, "kind": e.kind, "step": _step_name(e), **e.payload} for e in entries])


def _step_name(entry: Entry) -> str | None:
    return entry.step.step_name if entry.step is not None else entry.step_name


def _event(ordinal: int, entry: Entry) -> dict[str, object]:
    return {
        "ordinal": ordinal,
        "at": entry.at,
        "kind": entry.kind,
        "step_name": _step_name(entry),
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
