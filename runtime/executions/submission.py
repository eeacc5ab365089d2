"""Accepts executions and requests to stop them: the row, its first event and its work item in one transaction."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Conflict, NotFound
from models.events import EventKind, ExecutionEvent
from models.executions import ExecutionContext, ExecutionState, ExecutionStatus, ExecutionType, PipelineExecution
from models.fields import Json
from models.pipelines import DataPipeline
from runtime.database import Identity
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be executed, and how. `parameters` are bound to the `:names` in the pipeline's queries."""

    pipeline_id: UUID
    execution_type: ExecutionType = ExecutionType.MANUAL
    parameters: Mapping[str, Json] = field(default_factory=dict)
    dry_run: bool = False
    idempotency_key: str | None = None
    priority: int = 0


async def submit(session: AsyncSession, submission: Submission, by: Identity) -> PipelineExecution:
    """Accept an execution of the pipeline's newest version; publish `runtime.bus.WORK` after the commit.

    The same idempotency key for the same pipeline gives the execution it gave first. Raises `NotFound`, `Conflict`
    for a paused, inactive or archived pipeline, and for a key that was used with other parameters.
    """
    pipeline = await session.get(DataPipeline, submission.pipeline_id)
    if pipeline is None or pipeline.archived_at is not None:
        raise NotFound(f"there is no pipeline {submission.pipeline_id}", path="pipeline_id")
    if submission.idempotency_key is not None:
        earlier = await _with_key(session, submission)
        if earlier is not None:
            return earlier
    _refuse_stopped(pipeline)
    execution = await _insert(session, submission, pipeline, by)
    if execution is None:
        earlier = await _with_key(session, submission)
        if earlier is None:
            raise Conflict("the same key was submitted at the same moment", hint="submit it again")
        return earlier
    await queue.enqueue(session, WorkKind.EXECUTION, by=by.user_id, subject=execution.id, priority=submission.priority)
    return execution


def _refuse_stopped(pipeline: DataPipeline) -> None:
    if pipeline.is_paused:
        raise Conflict(f"pipeline {pipeline.pipeline_name!r} is paused", hint="resume it first", code="paused")
    if not pipeline.is_active:
        raise Conflict(f"pipeline {pipeline.pipeline_name!r} is not active", hint="activate it first", code="inactive")


async def _with_key(session: AsyncSession, submission: Submission) -> PipelineExecution | None:
    same_key = {"pipeline_id": submission.pipeline_id, "idempotency_key": submission.idempotency_key}
    found = (await session.scalars(select(PipelineExecution).filter_by(**same_key))).first()
    same = found is None or (
        found.execution_context.parameters == dict(submission.parameters) and found.dry_run == submission.dry_run
    )
    if not same:
        raise Conflict(
            "this idempotency key was used with other parameters",
            hint="use a new key for a new execution",
            path="idempotency_key",
            code="idempotency_mismatch",
        )
    return found


_INSERT = text("""
WITH execution AS (
    INSERT INTO pipeline_executions (
        id, pipeline_id, execution_id, execution_type, started_at, execution_context, triggered_by, version, dry_run,
        idempotency_key, last_event_seq)
    VALUES (
        :id, :pipeline_id, :execution_id, :execution_type, :started_at, CAST(:context AS jsonb), :triggered_by,
        :version, :dry_run, :idempotency_key, 1)
    ON CONFLICT (pipeline_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT execution.id, 1, :kind, CAST(:payload AS jsonb) FROM execution
RETURNING execution_id
""")


async def _insert(
    session: AsyncSession, submission: Submission, pipeline: DataPipeline, by: Identity
) -> PipelineExecution | None:
    now, identity = datetime.now(UTC), uuid4()
    context = ExecutionContext(parameters=dict(submission.parameters))
    row = (
        await session.execute(
            _INSERT,
            {
                "id": identity,
                "pipeline_id": pipeline.id,
                "execution_id": f"exec-{now:%Y%m%d%H%M%S}-{secrets.token_hex(5)}",
                "execution_type": submission.execution_type.value,
                "started_at": now,
                "context": context.model_dump_json(exclude_none=True),
                "triggered_by": by.user_id,
                "version": pipeline.version,
                "dry_run": submission.dry_run,
                "idempotency_key": submission.idempotency_key,
                "kind": EventKind.EXECUTION_QUEUED.value,
                "payload": "{}",
            },
        )
    ).first()
    return None if row is None else await session.get_one(PipelineExecution, identity)


async def request_cancel(session: AsyncSession, execution_id: UUID) -> PipelineExecution:
    """Ask an execution to stop: a queued one is cancelled at once, a running one by its supervisor.

    Publish `runtime.bus.control_topic(execution_id)` after the commit. Raises `NotFound`, and `Conflict` when it
    has ended.
    """
    execution = await session.get(PipelineExecution, execution_id, with_for_update=True)
    if execution is None:
        raise NotFound(f"there is no execution {execution_id}", path="execution_id")
    if execution.state.is_terminal:
        raise Conflict(f"the execution has {execution.state.value} already", code="already_ended")
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
