"""A retry of a chunk takes its place in the backfill, which then ends as its chunks did."""

from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from models.backfills import BackfillState
from models.executions import ExecutionState, PipelineExecution
from runtime.backfills import control
from runtime.backfills.store import BackfillProgress
from runtime.executions import retries
from runtime.executions import store as executions
from runtime.queue.store import Claim
from tests.kit.identities import ENGINEER
from tests.runtime.backfills.conftest import Yard

NOWHERE = Path("/dev/null/artifacts")


async def retried(yard: Yard, chunk: Claim, key: str | None = None, step: str | None = None) -> PipelineExecution:
    assert chunk.subject is not None
    async with yard.database.transaction(ENGINEER) as session:
        return await retries.retry(session, NOWHERE, chunk.subject, ENGINEER, key=key, from_step=step)


async def started(yard: Yard) -> list[UUID | None]:
    """What the dispatcher lets go next, and a supervisor takes."""
    await yard.keep()
    return [claim.subject for claim in await yard.claim()]


async def failed(yard: Yard) -> Claim:
    """The next chunk, which fails."""
    (chunk,) = await yard.claim()
    await yard.end(chunk, state=ExecutionState.FAILED)
    await yard.keep()
    return chunk


async def test_the_retry_of_a_failed_chunk_completes_its_backfill(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-05")
    chunk = await failed(yard)
    await yard.through()
    assert (await yard.backfill(found.id)).state is BackfillState.FAILED
    taken = await retried(yard, chunk, key="mended")
    assert (await retried(yard, chunk, key="mended")).id == taken.id
    assert (taken.backfill_id, taken.execution_context.date_range is not None) == (found.id, True)
    running = await yard.backfill(found.id)
    assert (running.state, running.finished_at) == (BackfillState.RUNNING, None)
    assert await yard.progress(found.id) == BackfillProgress(waiting=1, completed=3)
    (claim,) = await yard.claim()
    assert (claim.subject, await yard.ranges([claim])) == (taken.id, [("2026-01-01", "2026-01-02")])
    await yard.end(claim)
    await yard.keep()
    assert (await yard.backfill(found.id)).state is BackfillState.COMPLETED
    assert await yard.progress(found.id) == BackfillProgress(completed=4)


async def test_it_goes_before_what_waits_and_no_more_run_at_once(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-05")
    chunk = await failed(yard)
    (running,) = await yard.claim()
    taken = await retried(yard, chunk)
    assert await yard.claim() == []
    await yard.end(running)
    assert await started(yard) == [taken.id]


async def test_it_waits_while_its_backfill_is_paused(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-03")
    chunk = await failed(yard)
    async with yard.database.statements(ENGINEER) as session:
        await control.pause(session, found.id)
    taken = await retried(yard, chunk)
    await yard.keep()
    assert await yard.claim() == []
    async with yard.database.statements(ENGINEER) as session:
        await control.resume(session, found.id)
    assert await started(yard) == [taken.id]


async def test_a_chunk_of_a_cancelled_backfill_is_retried_alone(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-03")
    chunk = await failed(yard)
    async with yard.database.statements(ENGINEER) as session:
        await control.cancel(session, found.id)
    await yard.keep()
    taken = await retried(yard, chunk)
    (claim,) = await yard.claim()
    assert claim.subject == taken.id
    await yard.end(claim)
    assert (await yard.backfill(found.id)).state is BackfillState.CANCELLED
    assert await yard.progress(found.id) == BackfillProgress(completed=1, cancelled=1)


async def test_what_a_retry_has_completed_is_not_run_again_by_the_same_request(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-03")
    chunk = await failed(yard)
    await yard.through()
    await retried(yard, chunk)
    (claim,) = await yard.claim()
    await yard.end(claim, state=ExecutionState.FAILED)
    await yard.keep()
    await retried(yard, claim)
    await yard.through()
    assert (await yard.request("2026-01-01", "2026-01-03")).id == found.id
    assert await yard.claim() == []


async def test_a_completed_backfill_that_is_rerun_from_a_step_completes_again(yard: Yard) -> None:
    found = await yard.request("2026-01-01", "2026-01-02")
    (chunk,) = await yard.claim()
    await yard.end(chunk)
    await yard.keep()
    async with yard.database.statements(ENGINEER) as session:
        plan = (
            await session.execute(text("SELECT plan -> 'steps' -> 0 ->> 'name' AS name FROM pipeline_versions"))
        ).one()
    await retried(yard, chunk, step=plan.name)
    assert (await yard.backfill(found.id)).state is BackfillState.RUNNING
    await yard.through()
    assert (await yard.backfill(found.id)).state is BackfillState.COMPLETED
    async with yard.database.transaction(ENGINEER) as session:
        assert chunk.subject is not None
        assert (await executions.find(session, chunk.subject)).backfill_id is None
