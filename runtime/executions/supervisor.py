"""Supervises one execution: performs what `decide` decides, through an executor, and journals what happens.

A plain class: `runtime.cluster` makes it an actor at the edge; tests step it with the executor in `local.py`.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

from models.events import EventKind
from models.executions import ExecutionState, Keeping, StepState
from models.fields import JsonObject
from runtime.connectors._contract import CURSOR_MOVED
from runtime.executions import decide as decisions
from runtime.executions.assignments import Taken
from runtime.executions.checkpoints import LOST_INPUT, Place, Shelf
from runtime.executions.crew import Crew
from runtime.executions.decide import Decision, activity, after_failure, decide, upstream
from runtime.executions.endings import ending_of, error_details, without_effects
from runtime.executions.entries import ENDINGS, entries_of, failure_of, opening_entries, summary_of, timed_out
from runtime.executions.executor import Executor, TaskResult
from runtime.executions.heart import BEAT_SECONDS, Heart
from runtime.executions.journal import Ending, Entry, Journal, StepRow
from runtime.executions.keeper import LAST_SECONDS, Keeper
from runtime.executions.program import Progress, RunContext, TaskProgram, TaskRequest
from runtime.executions.recovery import Recovery, needed_again, recover
from runtime.executions.state import (
    BackingOff,
    Failure,
    Running,
    Skipped,
    Stopped,
    Succeeded,
    TaskState,
    Waiting,
    attempt_of,
    ranges_read,
)
from runtime.pipelines.plan import Plan

TICK_SECONDS = 1.0

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One execution to supervise: its plan, its tasks' programs, what they share, and where extracts ended last."""

    plan: Plan
    programs: Mapping[str, TaskProgram]
    context: RunContext
    accepted_at: datetime
    lower: Mapping[str, str]
    recovery: Recovery = field(default_factory=Recovery)


def assigned(taken: Taken, shelf: Shelf) -> Assignment:
    """What is to be supervised of an execution in our hands: that is, what is not done yet. Reads checkpoints."""
    plan, taken_over = taken.plan, taken.taken_over
    recovery = recover(plan, taken.links, shelf, taken_over=taken_over) if taken.links else Recovery()
    return Assignment(plan, taken.programs, taken.context, taken.accepted_at, taken.lower, recovery)


class Supervisor:
    """Runs one execution to its end. `cancel` and `look` may be called at any time; they are idempotent."""

    def __init__(
        self,
        assignment: Assignment,
        executor: Executor,
        journal: Journal,
        keeper: Keeper,
        clock: Clock = utc_now,
    ) -> None:
        self.assignment = assignment
        self.crew = Crew(executor, self._arrived, self._progress)
        self.journal = journal
        self.keeper = keeper
        self.clock = clock
        self.states = assignment.recovery.states(assignment.plan)
        self._news = asyncio.Event()
        self._cancelling = False
        self._heart = Heart(journal)
        self._chance = random.Random(assignment.context.execution_id.int)

    def cancel(self) -> None:
        """Ask the execution to stop."""
        self._cancelling = True
        self._news.set()

    def look(self) -> None:
        """Have the loop ask at once whether the execution is to stop."""
        self._heart.hurry()
        self._news.set()

    async def supervise(self) -> Ending:
        """Run to the end; raises `journal.Fenced` when another supervisor has taken over."""
        assignment = self.assignment
        self._begin()
        writer = asyncio.create_task(self.journal.write(self.keeper))
        try:
            while True:
                self._cancelling |= await self._heart.beat()
                due = decide(assignment.plan, self.states, self.clock(), cancelling=self._cancelling)
                ending = next(filter(None, [self._perform(decision) for decision in due]), None)
                if ending is not None:
                    return await self._finish(*ending, writer)
                if all(isinstance(decision, decisions.Wake) for decision in due):
                    self.journal.move(activity(self.states.values()))
                    await self._wait(due, writer)
        finally:
            writer.cancel()
            self.keeper.let_go()
            await self.crew.abandon()

    def _begin(self) -> None:
        """Take up what is done already.

        Who finds outputs gone may have slept for so long that another has ended the execution: it asks before it works.
        """
        assignment, recovery = self.assignment, self.assignment.recovery
        if recovery.again:
            self._heart.hurry()
        for name, done in recovery.done.items():
            self.keeper.saved[name] = done.places
            if done.places:
                self.crew.restore(name, done.places)
        self.journal.keep(recovery.inherited, self.keeper.keeping)
        self.journal.record(*opening_entries(assignment.plan, assignment.programs, recovery, self.clock()))

    def _perform(self, decision: Decision) -> "tuple[ExecutionState, Failure | None, int] | None":
        match decision:
            case decisions.Start(task=task, attempt=attempt):
                self._start(task, attempt)
            case decisions.Skip(task=task, reason=reason):
                self._settle(task, Skipped(reason))
            case decisions.Stop(task=task):
                self.crew.stop(task)
                self._settle(task, Stopped(attempt_of(self.states[task])))
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
            ranges=ranges_read(self.states, program.inputs),
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
        self.keeper.done(name, attempt, result)
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
        if not isinstance(state, BackingOff):
            return
        stale = upstream(plan, name) if failure.error_type == CURSOR_MOVED else []
        for source in self._lost(name) if failure.error_type == LOST_INPUT else stale:
            before = self.states[source]
            if isinstance(before, Succeeded):
                self.keeper.undone(source)
                self._settle(source, BackingOff(before.attempt, now, replace(failure, step=None)))

    def _lost(self, name: str) -> list[str]:
        """Give a task that lost an input its checkpoint instead; what has none must run again."""
        plan = self.assignment.plan
        for source in plan.task_of(name).inputs:
            if any(isinstance(block, Place) for block in self.crew.drop(source)):
                self.keeper.undone(source)
        done = [one for one, state in self.states.items() if isinstance(state, Succeeded)]
        for source in done:
            if self.keeper.saved.get(source) and source not in self.crew.held:
                self.crew.restore(source, self.keeper.saved[source])
        return list(needed_again(plan, done, self.crew.held))

    def _settle(self, name: str, state: TaskState) -> None:
        program, before, now = self.assignment.programs[name], self.states[name], self.clock()
        since = before.since if isinstance(before, Running) else now
        self.states[name] = state
        self.journal.record(*entries_of(program, state, since, now))

    def _time_out(self, name: str, limit: timedelta) -> None:
        attempt = attempt_of(self.states[name])
        self.crew.stop(name)
        self._failed(name, attempt, timed_out(self.assignment.programs[name], limit))

    def _progress(self, name: str, progress: Progress) -> None:
        member = self.assignment.programs[name].members[-1].name
        payload: JsonObject = {"records_in": progress.records_in, "records_out": progress.records_out}
        self.journal.record(Entry(EventKind.STEP_PROGRESS, self.clock(), payload, step_name=member))

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
        keeper = self.keeper
        forgetting = state is ExecutionState.COMPLETED and keeper.keeping is not Keeping.ALWAYS
        if forgetting:
            keeper.let_go()
        await self.crew.abandon()
        self.journal.close()
        await writer
        until = asyncio.get_running_loop().time() + LAST_SECONDS[state]
        while not forgetting and keeper.is_behind and (left := until - asyncio.get_running_loop().time()) > 0:
            self.journal.keep(await keeper.kept(min(left, BEAT_SECONDS)), keeper.keeping)
            await self._heart.beat()
        error = None if failure is None else error_details(failure, attempts)
        times = (self.assignment.accepted_at, self.clock())
        ending = ending_of(self.assignment.plan, self.states, state, times, error)
        if self.assignment.context.dry_run:
            ending = without_effects(ending)
        last = Entry(ENDINGS[state], ending.at, summary_of(ending))
        await self.journal.finish(ending, last, forgetting=forgetting and keeper.is_used)
        if forgetting and keeper.is_used:
            await keeper.clear()
        return ending
