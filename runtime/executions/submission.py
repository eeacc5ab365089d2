"""Accepts executions and requests to stop them: the row, its first event and its work item in one transaction."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Conflict, NotFound
from models.events import EventKind, ExecutionEvent
from models.executions import (
    ErrorDetails,
    ExecutionContext,
    ExecutionState,
    ExecutionStatus,
    ExecutionType,
    PerformanceMetrics,
    PipelineExecution,
)
from models.fields import Json, JsonObject
from models.parsing import as_uuid, parse
from runtime.database import Identity, Session
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be executed, by its id or name, and how. `parameters` are bound to the `:names` in its queries.

    A retry has a `context` and a `version`, those of the execution that it takes up, in place of its own parameters and
    the newest version. Without a `priority`
    it has its pipeline's.
    """

    pipeline: UUID | str
    execution_type: ExecutionType = ExecutionType.MANUAL
    parameters: Mapping[str, Json] = field(default_factory=dict)
    dry_run: bool = False
    idempotency_key: str | None = None
    priority: int | None = None
    context: ExecutionContext | None = None
    version: int | None = None


_PIPELINE: Final = text("""
    SELECT id, pipeline_name, version, is_paused, is_active, pool, priority FROM data_pipelines
    WHERE archived_at IS NULL AND CASE WHEN CAST(:id AS uuid) IS NULL THEN pipeline_name = :name ELSE id = :id END
""")


async def submit(session: Session, submission: Submission, by: Identity) -> PipelineExecution:
    """Accept an execution of the pipeline's newest version; publish `runtime.bus.WORK` after the commit.

    The same idempotency key for the same pipeline gives the execution it gave first. Raises `NotFound`, `Conflict`
    for a paused, inactive or archived pipeline, and for a key that was used for something else.
    """
    identity = as_uuid(submission.pipeline)
    wanted = {"id": identity, "name": str(submission.pipeline)}
    pipeline = (await session.execute(_PIPELINE, wanted)).first()
    if pipeline is None:
        hint = "see the pipelines there are, by id or name"
        raise NotFound(f"there is no pipeline {str(submission.pipeline)!r}", hint=hint, path="pipeline_id")
    if submission.idempotency_key is not None:
        earlier = await with_key(session, submission, pipeline.id)
        if earlier is not None:
            return earlier
    refuse_stopped(pipeline)
    accepted = _accepted(submission, pipeline, by)
    if (await session.execute(_INSERT, _values(accepted, pipeline, submission.priority))).first() is not None:
        return accepted
    earlier = await with_key(session, submission, pipeline.id)
    if earlier is None:
        raise Conflict("the same key was submitted at the same moment", hint="submit it again")
    return earlier


def refuse_stopped(pipeline: Any) -> None:
    """Raise `Conflict` for the row of a pipeline that is paused or not active."""
    if pipeline.is_paused:
        raise Conflict(f"pipeline {pipeline.pipeline_name!r} is paused", hint="resume it first", code="paused")
    if not pipeline.is_active:
        raise Conflict(f"pipeline {pipeline.pipeline_name!r} is not active", hint="activate it first", code="inactive")


_WITH_KEY: Final = text("""
    SELECT id, execution_id, execution_type, started_at, completed_at, status, state, records_processed,
        records_inserted, records_updated, records_deleted, records_failed, data_quality_score, execution_context,
        performance_metrics, error_details, logs_location, triggered_by, version, dry_run, cancel_requested_at,
        last_event_seq
    FROM pipeline_executions WHERE pipeline_id = :pipeline_id AND idempotency_key = :key
""")


async def with_key(session: Session, submission: Submission, pipeline_id: UUID) -> PipelineExecution | None:
    """The execution that was submitted with the same key before; raises `Conflict` where it was for something else."""
    parameters = {"pipeline_id": pipeline_id, "key": submission.idempotency_key}
    row = (await session.execute(_WITH_KEY, parameters)).first()
    if row is None:
        return None
    if not _asks_for(submission, row):
        raise Conflict(
            "this idempotency key was used with another execution type, other parameters, or for a dry run or none",
            hint="use a new key for a new execution",
            path="idempotency_key",
            code="idempotency_mismatch",
        )
    error = row.error_details
    return PipelineExecution(
        id=row.id,
        pipeline_id=pipeline_id,
        execution_id=row.execution_id,
        execution_type=ExecutionType(row.execution_type),
        started_at=row.started_at,
        completed_at=row.completed_at,
        status=ExecutionStatus(row.status),
        state=ExecutionState(row.state),
        records_processed=row.records_processed,
        records_inserted=row.records_inserted,
        records_updated=row.records_updated,
        records_deleted=row.records_deleted,
        records_failed=row.records_failed,
        data_quality_score=row.data_quality_score,
        execution_context=parse(ExecutionContext, row.execution_context),
        performance_metrics=parse(PerformanceMetrics, row.performance_metrics),
        error_details=None if error is None else parse(ErrorDetails, error),
        logs_location=row.logs_location,
        triggered_by=row.triggered_by,
        version=row.version,
        dry_run=row.dry_run,
        idempotency_key=submission.idempotency_key,
        cancel_requested_at=row.cancel_requested_at,
        last_event_seq=row.last_event_seq,
    )


def _asks_for(submission: Submission, row: Any) -> bool:
    """Whether a submission asks for what an execution was accepted for; a retry that names no execution, for any."""
    if row.execution_type != submission.execution_type.value:
        return False
    known: JsonObject = row.execution_context
    if submission.execution_type is not ExecutionType.RETRY:
        return (known.get("parameters", {}), row.dry_run) == (dict(submission.parameters), submission.dry_run)
    wanted = submission.context
    if wanted is None:
        return known.get("from_step") is None
    return (known.get("retry_of"), known.get("from_step")) == (str(wanted.retry_of), wanted.from_step)


_INSERT: Final = text("""
WITH execution AS (
    INSERT INTO pipeline_executions (
        id, pipeline_id, execution_id, execution_type, started_at, execution_context, triggered_by, version, dry_run,
        idempotency_key, last_event_seq)
    VALUES (
        :id, :pipeline_id, :execution_id, :execution_type, :started_at, CAST(:context AS jsonb), :triggered_by,
        :version, :dry_run, :idempotency_key, 1)
    ON CONFLICT (pipeline_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
), item AS (
    INSERT INTO work_items (id, kind, subject, pipeline_id, pool, priority, requested_by)
    SELECT gen_random_uuid(), :work, execution.id, :pipeline_id, :pool, CAST(:priority AS int),
        CAST(:requested_by AS uuid)
    FROM execution
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT execution.id, 1, :kind, '{}' FROM execution
RETURNING execution_id
""")


def _accepted(submission: Submission, pipeline: Any, by: Identity) -> PipelineExecution:
    now = datetime.now(UTC)
    return PipelineExecution(
        id=uuid4(),
        pipeline_id=pipeline.id,
        execution_id=f"exec-{now:%Y%m%d%H%M%S}-{secrets.token_hex(5)}",
        execution_type=submission.execution_type,
        started_at=now,
        execution_context=submission.context or ExecutionContext(parameters=dict(submission.parameters)),
        triggered_by=by.user_id,
        version=submission.version or pipeline.version,
        dry_run=submission.dry_run,
        idempotency_key=submission.idempotency_key,
        last_event_seq=1,
    )


def _values(accepted: PipelineExecution, pipeline: Any, priority: int | None) -> dict[str, object]:
    return {
        "id": accepted.id,
        "pipeline_id": accepted.pipeline_id,
        "execution_id": accepted.execution_id,
        "execution_type": accepted.execution_type.value,
        "started_at": accepted.started_at,
        "context": accepted.execution_context.model_dump_json(exclude_none=True),
        "triggered_by": accepted.triggered_by,
        "version": accepted.version,
        "dry_run": accepted.dry_run,
        "idempotency_key": accepted.idempotency_key,
        "kind": EventKind.EXECUTION_QUEUED.value,
        "work": WorkKind.EXECUTION.value,
        "pool": pipeline.pool,
        "priority": pipeline.priority if priority is None else priority,
        "requested_by": accepted.triggered_by,
    }


async def request_cancel(session: AsyncSession, execution_id: UUID) -> PipelineExecution:
    """Ask an execution to stop: a queued one is cancelled at once, a running one by its supervisor.

    Publish `runtime.bus.control_topic(execution_id)` after the commit. Raises `NotFound`, and `Conflict` when it
    has ended.
    """
    execution = await session.get(PipelineExecution, execution_id, with_for_update=True)
    if execution is None:
        hint = "see the executions there are"
        raise NotFound(f"there is no execution {execution_id}", hint=hint, path="execution_id")
    if execution.state.is_terminal:
        hint = "nothing to do: what has ended cannot be stopped; execute the pipeline again for another run"
        raise Conflict(f"the execution is {execution.state.value} already", hint=hint, code="already_ended")
    if execution.cancel_requested_at is not None:
        return execution
    now = datetime.now(UTC)
    execution.cancel_requested_at = now
    if execution.state is ExecutionState.QUEUED and await queue.withdraw(session, execution.id):
        execution.state, execution.status = ExecutionState.CANCELLED, ExecutionStatus.CANCELLED
        execution.completed_at = now
        kind = EventKind.EXECUTION_CANCELLED
    else:
        execution.state = ExecutionState.CANCELLING
        kind = EventKind.EXECUTION_CANCELLING
    execution.last_event_seq += 1
    session.add(ExecutionEvent(execution_id=execution.id, seq=execution.last_event_seq, kind=kind))
    await session.flush()
    return execution
