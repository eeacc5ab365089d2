"""How a supervisor has tasks run: the executor's contract, and the order in which a partitioned task's parts go."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from models.errors import DomainError
from runtime.executions.program import Outcome, Phase, Progress, TaskRequest
from runtime.executions.reports import merged
from runtime.executions.state import TaskReport

Refs = Sequence[object]
OnProgress = Callable[[Progress], None]


class WorkerLost(Exception):
    """The worker died while it ran the task: killed, or out of memory."""


@dataclass(frozen=True, slots=True)
class Ran:
    """One phase, run: its outcome (its inline block already among `blocks`) and references to its output's blocks."""

    outcome: Outcome
    blocks: Refs = ()


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A whole task, run: its report, references to the blocks of its output, and how many bytes those are."""

    report: TaskReport
    blocks: Refs = ()
    output_bytes: int = 0

    @classmethod
    def of(cls, ran: Ran) -> "TaskResult":
        """The result of a task that ran in one phase."""
        return cls(ran.outcome.report, ran.blocks, ran.outcome.output_bytes)


class Executor(Protocol):
    """Runs one phase of a task somewhere. Cancelling the awaiting asyncio task stops the work for good."""

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's typed error, or `WorkerLost`."""


async def run_program(
    executor: Executor, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress, *, parallel: int
) -> TaskResult:
    """Run a task: at once, or divided, `parallel` parts at a time, with one commit; a broken one is cleared up after.

    Not so one whose only worker was lost: its next attempt goes on with what is there, and where none comes the crew
    clears up.
    """
    is_divided = request.program.partitions > 1 and not request.context.dry_run
    try:
        if is_divided:
            return await _run_divided(executor, request, inputs, on_progress, parallel)
        return TaskResult.of(await executor.run(request, inputs, on_progress))
    except asyncio.CancelledError:
        await clear(executor, request)
        raise
    except WorkerLost:
        if is_divided:
            await clear(executor, request)
        raise


async def _run_divided(
    executor: Executor, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress, parallel: int
) -> TaskResult:
    cut = (await executor.run(replace(request, phase=Phase.SPLIT), {}, on_progress)).outcome
    shared = replace(request, range=cut.range)
    if len(cut.splits) == 1:
        return TaskResult.of(await executor.run(replace(shared, split=cut.splits[0]), inputs, on_progress))
    gate, total = asyncio.Semaphore(parallel), _Total(on_progress)

    async def part(index: int) -> Ran:
        async with gate:
            wanted = replace(shared, phase=Phase.PARTITION, split=cut.splits[index])
            return await executor.run(wanted, inputs, total.of(index))

    try:
        async with asyncio.TaskGroup() as group:
            parts = [group.create_task(part(index)) for index in range(len(cut.splits))]
    except BaseExceptionGroup as failures:
        failure = _first(failures)
        if not isinstance(failure, WorkerLost):
            await clear(executor, request)
        raise failure from failures
    return await _commit(executor, shared, [part.result() for part in parts])


async def _commit(executor: Executor, request: TaskRequest, parts: Sequence[Ran]) -> TaskResult:
    reports = [part.outcome.report for part in parts]
    blocks = [block for part in parts for block in part.blocks]
    if request.program.load is None:
        return TaskResult(merged(reports), blocks, sum(part.outcome.output_bytes for part in parts))
    receipts = tuple(part.outcome.receipt for part in parts if part.outcome.receipt is not None)
    final = replace(request, phase=Phase.COMMIT, receipts=receipts)
    try:
        committed = await executor.run(final, {}, lambda _: None)
    except DomainError:
        await clear(executor, request)
        raise
    return TaskResult(merged(reports, committed.outcome.report))


async def clear(executor: Executor, request: TaskRequest) -> None:
    """Clear what a broken load may have left in staging; that it fails too changes nothing in the target."""
    if request.program.load is None or request.context.dry_run:
        return
    try:
        await executor.run(replace(request, phase=Phase.ABORT), {}, lambda _: None)
    except (DomainError, WorkerLost):
        return


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group that says something: a typed one before any other."""
    flat = list(_flatten(failures))
    return next((error for error in flat if isinstance(error, DomainError)), flat[0])


def _flatten(failures: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    flat: list[BaseException] = []
    for error in failures.exceptions:
        flat.extend(_flatten(error) if isinstance(error, BaseExceptionGroup) else [error])
    return flat


class _Total:
    """Adds the progress of parallel parts."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._parts: dict[int, Progress] = {}
        self._on_progress = on_progress

    def of(self, index: int) -> OnProgress:
        """The callback of one part."""

        def note(progress: Progress) -> None:
            self._parts[index] = progress
            parts = self._parts.values()
            self._on_progress(Progress(sum(p.records_in for p in parts), sum(p.records_out for p in parts)))

        return note
