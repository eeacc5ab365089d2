"""Takes ended executions up again: a retry from failure, a re-run from a step, and what either would run."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Conflict, NotFound
from models.executions import ExecutionState, ExecutionType, PipelineExecution
from models.parsing import as_uuid, parse
from runtime.database import Identity
from runtime.executions import store
from runtime.executions.checkpoints import Shelf
from runtime.executions.recovery import Link, StepFate, affected, chain, fates, lost_step
from runtime.executions.submission import Submission, submit, with_key
from runtime.pipelines.plan import Plan

RERUN_HINT: Final = "run it again from a step with `wedsync rerun`, or execute the pipeline again"


@dataclass(frozen=True, slots=True)
class Preview:
    """What taking an execution up would do with each step, in the plan's order."""

    execution: PipelineExecution
    steps: Sequence[StepFate]


async def retry(
    session: AsyncSession,
    artifacts: Path,
    reference: UUID | str,
    by: Identity,
    *,
    from_step: str | None = None,
    key: str | None = None,
) -> PipelineExecution:
    """Accept an execution that takes an ended one up, of the same version and with the same parameters.

    Without `from_step` it runs what did not finish; with it that step, what depends on it, and what did not finish.
    The rest is restored. A chunk of a backfill hands its place there on to it. Publish `runtime.bus.WORK` after the
    commit. Raises `NotFound`, `Invalid` for a step that there is not, and `Conflict` for an execution that runs,
    completed (without `from_step`), or was taken up already, and where a checkpoint that it needs is gone or damaged
    (`checkpoint_gone`): a step that read its source anew would leave loads that do not run again behind.
    """
    earlier = await store.find(session, reference)
    await session.refresh(earlier, with_for_update=True)
    submission = _submission(earlier, from_step, key)
    if key is not None and (known := await with_key(session, submission, earlier.pipeline_id)) is not None:
        return known
    plan = await _refuse(session, earlier, from_step)
    await _fates(session, artifacts, plan, earlier, from_step)
    accepted = await submit(session, submission, by)
    if earlier.backfill_id is not None:
        place = {"backfill": earlier.backfill_id, "earlier": earlier.id, "later": accepted.id}
        await session.execute(_TAKE_PLACE, {**place, "since": earlier.started_at})
        accepted.backfill_id = earlier.backfill_id
    return accepted


async def retry_of(
    session: AsyncSession,
    artifacts: Path,
    pipeline: UUID | str,
    execution: UUID | str | None,
    by: Identity,
    *,
    key: str | None = None,
) -> PipelineExecution:
    """Retry an execution of a pipeline, or the one that failed last; raises as `retry` does.

    `NotFound` where none has failed, or the execution is another pipeline's.
    """
    row = (await session.execute(_LAST_FAILED, {"id": as_uuid(pipeline), "name": str(pipeline)})).first()
    if row is None:
        hint = "see the pipelines there are, by id or name"
        raise NotFound(f"there is no pipeline {str(pipeline)!r}", hint=hint, path="pipeline_id")
    given = Submission(row.id, ExecutionType.RETRY, idempotency_key=key)
    if key is not None and (known := await with_key(session, given, row.id)) is not None:
        return known
    if execution is not None:
        named = await store.find(session, execution)
        if named.pipeline_id != row.id:
            raise NotFound(f"{row.pipeline_name!r} has no execution {str(execution)!r}", path="retry_of")
        return await retry(session, artifacts, named.id, by, key=key)
    if row.failed is None:
        hint = "execute it without `retry`"
        raise NotFound(f"no execution of {row.pipeline_name!r} has failed", hint=hint, code="nothing_failed")
    return await retry(session, artifacts, row.failed, by, key=key)


async def preview(
    session: AsyncSession, artifacts: Path, reference: UUID | str, from_step: str | None = None
) -> Preview:
    """What `retry` would do with each step, and why, as far as that can be told now; raises as it does."""
    earlier = await store.find(session, reference)
    plan = await _refuse(session, earlier, from_step)
    return Preview(earlier, await _fates(session, artifacts, plan, earlier, from_step))


async def _fates(
    session: AsyncSession, artifacts: Path, plan: Plan, earlier: PipelineExecution, from_step: str | None
) -> list[StepFate]:
    """What becomes of each step; raises `Conflict` where one would run again only as its checkpoint is gone."""
    links = [Link(UUID(int=0), "", 0, from_step), *await chain(session, plan, earlier.id)]
    shelf = Shelf(artifacts, earlier.id)
    lost = await asyncio.to_thread(lost_step, plan, links, shelf.whole)
    if lost is not None:
        hint = (
            f"run it again from there, and all that depends on it: `wedsync rerun {earlier.execution_id} --from {lost}`"
        )
        raise Conflict(f"the checkpoint of {lost!r} is gone or damaged", hint=hint, path="id", code="checkpoint_gone")
    return await asyncio.to_thread(fates, plan, links, shelf.whole)


_LAST_FAILED: Final = text("""
    SELECT pipeline.id, pipeline.pipeline_name, (
        SELECT execution.id FROM pipeline_executions AS execution
        WHERE execution.pipeline_id = pipeline.id AND execution.status = 'failed'
        ORDER BY execution.started_at DESC LIMIT 1
    ) AS failed
    FROM data_pipelines AS pipeline
    WHERE pipeline.archived_at IS NULL
        AND CASE WHEN CAST(:id AS uuid) IS NULL THEN pipeline.pipeline_name = :name ELSE pipeline.id = :id END
""")

_TAKEN_UP: Final = text("""
    SELECT execution_id, state FROM pipeline_executions
    WHERE pipeline_id = :pipeline_id AND started_at >= :since AND execution_type = 'retry'
        AND execution_context ->> 'retry_of' = CAST(:id AS text)
    ORDER BY started_at DESC LIMIT 1
""")

# It goes before the chunks that still wait, with no more at once than the backfill allows; one that has ended goes on
# until it has, too. A cancelled backfill stays so, and only counts what is retried of it.
_TAKE_PLACE: Final = text("""
WITH backfill AS (
    UPDATE backfills SET state = CASE WHEN state IN ('completed', 'failed') THEN 'running' ELSE state END,
        finished_at = CASE WHEN state = 'cancelled' THEN finished_at END
    WHERE id = :backfill
    RETURNING id, state, priority, most_at_once
), chunk AS (
    UPDATE pipeline_executions
    SET backfill_id = CASE WHEN pipeline_executions.id = :later THEN backfill.id END
    FROM backfill WHERE pipeline_executions.id IN (:earlier, :later)
)
UPDATE work_items SET backfill_id = backfill.id, priority = backfill.priority, created_at = :since,
    state = CASE WHEN backfill.state = 'running' AND backfill.most_at_once > (
        SELECT count(*) FROM work_items AS going
        WHERE going.backfill_id = backfill.id AND going.state IN ('queued', 'claimed')) THEN 'queued' ELSE 'held' END
FROM backfill WHERE work_items.subject = :later AND backfill.state <> 'cancelled'
""")

_PLAN: Final = text("SELECT plan FROM pipeline_versions WHERE pipeline_id = :pipeline_id AND version = :version")


def _submission(earlier: PipelineExecution, from_step: str | None, key: str | None) -> Submission:
    context = earlier.execution_context.model_copy(update={"retry_of": earlier.id, "from_step": from_step})
    return Submission(
        pipeline=earlier.pipeline_id,
        execution_type=ExecutionType.RETRY,
        dry_run=earlier.dry_run,
        idempotency_key=key,
        context=context,
        version=earlier.version,
    )


async def _refuse(session: AsyncSession, earlier: PipelineExecution, from_step: str | None) -> Plan:
    """Raise why an execution cannot be taken up; answers its plan."""
    if not earlier.state.is_terminal:
        hint = "wait for its end, or cancel it first"
        raise Conflict(f"the execution is {earlier.state.value}", hint=hint, path="id", code="still_running")
    if from_step is None and earlier.state is ExecutionState.COMPLETED:
        raise Conflict("the execution completed: nothing is left to do", hint=RERUN_HINT, path="id", code="completed")
    plan = await _plan(session, earlier)
    if from_step is not None:
        affected(plan, from_step)
    wanted = {"pipeline_id": earlier.pipeline_id, "since": earlier.started_at, "id": str(earlier.id)}
    taken_up = (await session.execute(_TAKEN_UP, wanted)).first()
    if taken_up is not None and (from_step is None or not ExecutionState(taken_up.state).is_terminal):
        raise _taken_up(taken_up)
    return plan


def _taken_up(later: Any) -> Conflict:
    state = ExecutionState(later.state)
    hint = f"retry {later.execution_id}: it knows what is done since"
    if not state.is_terminal:
        hint = "wait for its end, or cancel it first"
    elif state is ExecutionState.COMPLETED:
        hint = RERUN_HINT
    message = f"the execution was taken up by {later.execution_id}, which is {state.value}"
    return Conflict(message, hint=hint, path="id", code="already_retried")


async def _plan(session: AsyncSession, execution: PipelineExecution) -> Plan:
    wanted = {"pipeline_id": execution.pipeline_id, "version": execution.version}
    row = (await session.execute(_PLAN, wanted)).first()
    if row is None or row.plan is None:
        hint = "save the pipeline and execute it again"
        raise Conflict("the version that it ran has no plan", hint=hint, path="id", code="no_plan")
    return parse(Plan, row.plan)
