"""Supervises one execution: performs what `decide` decides, through an executor, and journals what happens.

A plain class: `runtime.cluster` makes it an actor at the edge; tests step it with the executor in `local.py`.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

from models.events import EventKind
from models.executions import ExecutionState, StepState
from models.fields import JsonObject
from models.pipelines import RetryClass
from runtime.connectors._contract import CURSOR_MOVED
from runtime.executions import decide as decisions
from runtime.executions.crew import Crew
from runtime.executions.decide import Decision, activity, after_failure, decide, upstream
from runtime.executions.endings import ending_of, error_details, without_effects
from runtime.executions.entries import ENDINGS, disabled_entries, entries_of, failure_of, summary_of
from runtime.executions.executor import Executor, TaskResult
from runtime.executions.journal import Ending, Entry, Journal, StepRow
from runtime.executions.program import Progress, RunContext, TaskProgram, TaskRequest
from runtime.executions.state import (
    BackingOff,
    Failure,
    ReadRange,
    Running,
    Skipped,
    Stopped,
    Succeeded,
    TaskState,
    Waiting,
)
from runtime.pipelines.plan import Plan

TICK_SECONDS = 1.0

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def _told(limit: timedelta) -> str:
    seconds = round(limit.total_seconds())
    return f"{seconds} seconds" if seconds % 60 else f"{seconds // 60} minutes"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One execution to supervise: its plan, its tasks' programs, what they share, and where extracts ended last."""

    plan: Plan
    programs: Mapping[str, TaskProgram]
    context: RunContext
    accepted_at: datetime
    lower: Mapping[str, str]


class Supervisor:
    """Runs one execution to its end. `cancel` may be called at any time; it is idempotent."""

    def __init__(self, assignment: Assignment, executor: Executor, journal: Journal, clock: Clock = utc_now) -> None:
        self.assignment = assignment
        self.crew = Crew(executor, self._arrived, self._progress)
        self.journal = journal
        self.clock = clock
        self.states: dict[str, TaskState] = {task.name: Waiting() for task in assignment.plan.tasks}
        self._news = asyncio.Event()
        self._cancelling = False
        self._chance = random.Random(assignment.context.execution_id.int)

    def cancel(self) -> None:
        """Ask the execution to stop."""
        self._cancelling = True
        self._news.set()

    async def supervise(self) -> Ending:
        """Run to the end; raises `journal.Fenced` when another supervisor has taken over."""
        assignment, now = self.assignment, self.clock()
        self.journal.record(Entry(EventKind.EXECUTION_STARTED, now), *disabled_entries(assignment.plan, now))
        writer = asyncio.create_task(self._write())
        try:
            while True:
                due = decide(assignment.plan, self.states, self.clock(), cancelling=self._cancelling)
                ending = next(filter(None, [self._perform(decision) for decision in due]), None)
                if ending is not None:
                    return await self._finish(*ending, writer)
                if all(isinstance(decision, decisions.Wake) for decision in due):
                    self.journal.move(activity(self.states.values()))
                    await self._wait(due, writer)
        finally:
            writer.cancel()
            await self.crew.abandon()

    def _perform(self, decision: Decision) -> "tuple[ExecutionState, Failure | None, int] | None":
        match decision:
            case decisions.Start(task=task, attempt=attempt):
                self._start(task, attempt)
            case decisions.Skip(task=task, reason=reason):
                self._settle(task, Skipped(reason))
            case decisions.Stop(task=task):
                self.crew.stop(task)
                self._settle(task, Stopped(self._attempt(task)))
            case decisions.TimeOut(task=task, limit=limit):
                self._time_out(task, limit)
            case decisions.Wake():
                pass
            case decisions.Complete():
                return ExecutionState.COMPLETED, None, 0
            case decisions.Fail(failure=failure, attempts=attempts):
                return ExecutionState.FAILED, failure, attempts
            case decisions.Cancel():
                return ExecutionState.CANCELLED, None, 0
            case _:
                assert_never(decision)
        return None

    def _start(self, name: str, attempt: int) -> None:
        assignment = self.assignment
        program, now = assignment.programs[name], self.clock()
        request = TaskRequest(
            program=program,
            context=assignment.context,
            lower=assignment.lower.get(program.extract_step or ""),
            ranges=self._ranges(name),
        )
        self.states[name] = Running(attempt, now)
        for member in program.members:
            row = StepRow(member.name, StepState.RUNNING, attempt, now)
            self.journal.record(Entry(EventKind.STEP_STARTED, now, {"attempt": attempt}, row))
        self.crew.start(request, attempt)

    def _arrived(self, name: str, attempt: int, result: TaskResult | BaseException) -> None:
        self._news.set()
        if isinstance(result, BaseException):
            self._failed(name, attempt, failure_of(result, self.assignment.programs[name]))
            return
        self._settle(name, Succeeded(attempt, result.report))
        open_tasks = [
            task
            for task in self.assignment.plan.tasks
            if isinstance(self.states[task.name], Waiting | Running | BackingOff)
        ]
        self.crew.keep(source for task in open_tasks for source in task.inputs)

    def _failed(self, name: str, attempt: int, failure: Failure) -> None:
        plan = self.assignment.plan
        task, now = plan.task_of(name), self.clock()
        state = after_failure(task, plan.retry_policy, attempt, failure, now, self._chance)
        self._settle(name, state)
        if isinstance(state, BackingOff) and failure.error_type == CURSOR_MOVED:
            for source in upstream(plan, name):
                before = self.states[source]
                if isinstance(before, Succeeded):
                    self._settle(source, BackingOff(before.attempt, now, replace(failure, step=None)))

    def _settle(self, name: str, state: TaskState) -> None:
        program, before, now = self.assignment.programs[name], self.states[name], self.clock()
        since = before.since if isinstance(before, Running) else now
        self.states[name] = state
        self.journal.record(*entries_of(program, state, since, now))

    def _time_out(self, name: str, limit: timedelta) -> None:
        attempt = self._attempt(name)
        self.crew.stop(name)
        failure = Failure(
            error_type="timeout",
            message=f"the step took longer than its {_told(limit)}",
            hint="raise timeout_minutes or timeout_seconds, or let it read less at once",
            step=self.assignment.programs[name].members[-1].name,
            retry_class=RetryClass.TIMEOUT,
        )
        self._failed(name, attempt, failure)

    def _attempt(self, name: str) -> int:
        state = self.states[name]
        return state.attempt if isinstance(state, Running | BackingOff) else 0

    def _progress(self, name: str, progress: Progress) -> None:
        member = self.assignment.programs[name].members[-1].name
        payload: JsonObject = {"records_in": progress.records_in, "records_out": progress.records_out}
        self.journal.record(Entry(EventKind.STEP_PROGRESS, self.clock(), payload, step_name=member))

    def _ranges(self, name: str) -> dict[str, ReadRange]:
        """What the extracts upstream of a task have read; its load keeps how far they came."""
        found: dict[str, ReadRange] = {}
        for source in self.assignment.programs[name].inputs:
            state = self.states[source]
            if isinstance(state, Succeeded):
                found |= state.report.ranges
        return found

    async def _write(self) -> None:
        """The one writer: whatever gathered while it wrote goes with the next transaction."""
        while await self.journal.wait():
            await self.journal.flush()

    async def _wait(self, due: Sequence[Decision], writer: "asyncio.Task[None]") -> None:
        """Sleep until a task ends, a cancel comes, the next back-off is over, or a second has passed."""
        moments = [decision.at for decision in due if isinstance(decision, decisions.Wake)]
        seconds = min([TICK_SECONDS, *((at - self.clock()).total_seconds() for at in moments)])
        news = asyncio.create_task(self._news.wait())
        await asyncio.wait([news, writer], timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        self._news.clear()
        if writer.done():
            writer.result()

    async def _finish(
        self, state: ExecutionState, failure: Failure | None, attempts: int, writer: "asyncio.Task[None]"
    ) -> Ending:
        await self.crew.abandon()
        self.journal.close()
        await writer
        error = None if failure is None else error_details(failure, attempts)
        times = (self.assignment.accepted_at, self.clock())
        ending = ending_of(self.assignment.plan, self.states, state, times, error)
        if self.assignment.context.dry_run:
            ending = without_effects(ending)
        await self.journal.finish(ending, Entry(ENDINGS[state], ending.at, summary_of(ending)))
        return ending
