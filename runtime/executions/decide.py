"""What a supervisor does next, as a pure function of the plan, the tasks' states and the time."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from models.executions import ExecutionState
from models.pipelines import RetryPolicy
from runtime.executions.state import (
    BackingOff,
    Failed,
    Failure,
    Running,
    Settled,
    Skipped,
    Stopped,
    Succeeded,
    TaskState,
    Waiting,
)
from runtime.pipelines.plan import Plan, PlanTask

DEFAULT_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class Start:
    """Run the task for the `attempt`-th time."""

    task: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Skip:
    """Never run the task, for this reason."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Make the running task stop."""

    task: str


@dataclass(frozen=True, slots=True)
class TimeOut:
    """Make the running task stop and count it as failed."""

    task: str
    limit: timedelta


@dataclass(frozen=True, slots=True)
class Wake:
    """Nothing to do before `at`."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Complete:
    """Every task is settled and no critical one failed."""


@dataclass(frozen=True, slots=True)
class Fail:
    """A critical task failed and nothing runs any more."""

    failure: Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancelled, and nothing runs any more."""


Decision = Start | Skip | Stop | TimeOut | Wake | Complete | Fail | Cancel


def decide(plan: Plan, states: Mapping[str, TaskState], now: datetime, *, cancelling: bool = False) -> list[Decision]:
    """The decisions due at `now`. An empty list means: wait for a running task.

    A critical failure stops what runs and starts nothing new; a failure that is not critical skips what depends on
    it and lets the rest go on. Cancelling stops everything.
    """
    fatal = _fatal(plan, states)
    if cancelling or fatal is not None:
        return _wind_down(states, fatal, cancelling=cancelling)
    decisions: list[Decision] = []
    for task in plan.tasks:
        decisions.extend(_for_task(plan, task, states, now))
    if not decisions and all(isinstance(states[task.name], Settled) for task in plan.tasks):
        return [Complete()]
    return decisions


def _fatal(plan: Plan, states: Mapping[str, TaskState]) -> Failed | None:
    for task in plan.tasks:
        state = states[task.name]
        if task.critical and isinstance(state, Failed):
            return state
    return None


def _wind_down(states: Mapping[str, TaskState], fatal: Failed | None, *, cancelling: bool) -> list[Decision]:
    stops: list[Decision] = [Stop(name) for name, state in states.items() if isinstance(state, Running)]
    if stops:
        return stops
    reason = "the execution was cancelled" if fatal is None else "a critical step failed"
    open_tasks = [name for name, state in states.items() if isinstance(state, Waiting | BackingOff)]
    skips: list[Decision] = [Skip(name, reason) for name in open_tasks]
    if skips:
        return skips
    if fatal is not None and not (cancelling and fatal.failure.is_cancellation):
        return [Fail(fatal.failure, fatal.attempt)]
    return [Cancel()]


def _for_task(plan: Plan, task: PlanTask, states: Mapping[str, TaskState], now: datetime) -> list[Decision]:
    state = states[task.name]
    match state:
        case Waiting():
            return _begin(task, states, 1)
        case BackingOff(attempt=attempt, until=until):
            return _begin(task, states, attempt + 1) if until <= now else [Wake(until)]
        case Running(since=since):
            return [TimeOut(task.name, task.time_limit)] if since + task.time_limit <= now else []
        case Succeeded() | Failed() | Skipped() | Stopped():
            return []
        case _:
            assert_never(state)


def _begin(task: PlanTask, states: Mapping[str, TaskState], attempt: int) -> list[Decision]:
    inputs = {name: states[name] for name in (*task.inputs, *task.after)}
    missing = [name for name, state in inputs.items() if isinstance(state, Failed | Skipped | Stopped)]
    if missing:
        return [Skip(task.name, f"it depends on {', '.join(missing)}, which did not deliver")]
    if all(isinstance(state, Succeeded) for state in inputs.values()):
        return [Start(task.name, attempt)]
    return []


def activity(states: Iterable[TaskState]) -> ExecutionState:
    """What an execution does while it waits: it backs off when no task runs and one will be tried again."""
    kinds = {type(state) for state in states}
    return ExecutionState.BACKING_OFF if BackingOff in kinds and Running not in kinds else ExecutionState.RUNNING


def upstream(plan: Plan, task: str) -> list[str]:
    """All tasks whose output goes into a task, directly or by others; they run again when what they read is stale."""
    found: list[str] = []
    waiting = [task]
    while waiting:
        inputs = next(known.inputs for known in plan.tasks if known.name == waiting[-1])
        del waiting[-1]
        new = [name for name in inputs if name not in found]
        found += new
        waiting += new
    return found


def after_failure(
    task: PlanTask, policy: RetryPolicy | None, attempt: int, failure: Failure, now: datetime, chance: random.Random
) -> BackingOff | Failed | Stopped:
    """What becomes of a task whose `attempt`-th run failed.

    A retryable failure backs off exponentially, `initial_seconds * multiplier ** (attempt - 1)` up to `max_seconds`,
    less a random share up to `jitter`, and never before the source's own retry-after; `retry_attempts` runs more are
    allowed after the first.
    """
    if failure.is_cancellation:
        return Stopped(attempt)
    rules = task.retry_policy or policy or DEFAULT_RETRY
    if failure.retry_class not in rules.retry_on or attempt > task.retry_attempts:
        return Failed(attempt, failure)
    return BackingOff(attempt, now + timedelta(seconds=_delay(rules, attempt, failure, chance)), failure)


def _delay(policy: RetryPolicy, attempt: int, failure: Failure, chance: random.Random) -> float:
    ceiling = min(policy.max_seconds, policy.initial_seconds * policy.multiplier ** (attempt - 1))
    return max(ceiling * (1 - policy.jitter * chance.random()), failure.retry_after or 0.0)
