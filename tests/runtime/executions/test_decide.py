"""What a supervisor does next, stepped with a clock of the test's own."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from models.pipelines import RetryClass, RetryPolicy
from runtime.executions.decide import Cancel, Complete, Fail, Skip, Start, Stop, TimeOut, Wake, after_failure, decide
from runtime.executions.state import (
    BackingOff,
    Failed,
    Failure,
    Running,
    Skipped,
    Stopped,
    Succeeded,
    TaskReport,
    TaskState,
    Waiting,
)
from runtime.pipelines.plan import Plan, PlanTask

NOW = datetime(2026, 6, 6, 12, tzinfo=UTC)
DONE = Succeeded(1, TaskReport(()))
BROKEN = Failure("overflow", "too large")
SHAKY = Failure("retryable", "busy", retry_class=RetryClass.RETRYABLE)


def task(name: str, *inputs: str, after: tuple[str, ...] = (), critical: bool = True, retries: int = 3) -> PlanTask:
    return PlanTask(
        name=name,
        members=(name,),
        inputs=inputs,
        after=after,
        timeout_minutes=60,
        retry_attempts=retries,
        critical=critical,
    )


def plan(*tasks: PlanTask) -> Plan:
    return Plan(pipeline_name="p", steps=(), tasks=tasks)


DIAMOND = plan(task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c"))


def states(**given: TaskState) -> dict[str, TaskState]:
    return {name: given.get(name, Waiting()) for name in "abcd"}


def test_what_waits_for_nothing_starts() -> None:
    assert decide(DIAMOND, states(), NOW) == [Start("a", 1)]


def test_branches_start_together_when_their_input_is_there() -> None:
    assert decide(DIAMOND, states(a=DONE), NOW) == [Start("b", 1), Start("c", 1)]


def test_a_join_waits_for_both_branches() -> None:
    running = Running(1, NOW)
    assert decide(DIAMOND, states(a=DONE, b=DONE, c=running), NOW) == []
    assert decide(DIAMOND, states(a=DONE, b=DONE, c=DONE), NOW) == [Start("d", 1)]


def test_an_execution_is_complete_when_all_its_tasks_are() -> None:
    assert decide(DIAMOND, states(a=DONE, b=DONE, c=DONE, d=DONE), NOW) == [Complete()]


def test_a_task_waits_for_what_it_only_comes_after() -> None:
    ordered = plan(task("a"), task("b", after=("a",)))
    assert decide(ordered, {"a": Running(1, NOW), "b": Waiting()}, NOW) == []
    assert decide(ordered, {"a": DONE, "b": Waiting()}, NOW) == [Start("b", 1)]


def test_a_critical_failure_stops_what_runs_then_skips_the_rest_then_fails() -> None:
    failed = Failed(1, BROKEN)
    assert decide(DIAMOND, states(a=DONE, b=failed, c=Running(1, NOW)), NOW) == [Stop("c")]
    (skip,) = decide(DIAMOND, states(a=DONE, b=failed, c=Stopped(1)), NOW)
    assert isinstance(skip, Skip)
    assert skip.task == "d"
    end = decide(DIAMOND, states(a=DONE, b=failed, c=Stopped(1), d=Skipped("x")), NOW)
    assert end == [Fail(BROKEN, 1)]


def test_a_failure_that_is_not_critical_skips_only_what_depends_on_it() -> None:
    lenient = plan(task("a"), task("b", "a", critical=False), task("c", "a"), task("d", "b", critical=False))
    failed = Failed(1, BROKEN)
    (skip,) = decide(lenient, states(a=DONE, b=failed, c=Running(1, NOW)), NOW)
    assert skip == Skip("d", "it depends on b, which did not deliver")
    assert decide(lenient, states(a=DONE, b=failed, c=DONE, d=Skipped("x")), NOW) == [Complete()]


def test_cancelling_stops_what_runs_and_starts_nothing() -> None:
    assert decide(DIAMOND, states(a=Running(1, NOW)), NOW, cancelling=True) == [Stop("a")]
    skips = decide(DIAMOND, states(a=Stopped(1)), NOW, cancelling=True)
    assert [skip.task for skip in skips if isinstance(skip, Skip)] == ["b", "c", "d"]
    skipped = Skipped("cancelled")
    assert decide(DIAMOND, states(a=Stopped(1), b=skipped, c=skipped, d=skipped), NOW, cancelling=True) == [Cancel()]


def test_a_task_that_backs_off_starts_again_when_its_time_has_come() -> None:
    until = NOW + timedelta(seconds=5)
    waiting = states(a=BackingOff(1, until, SHAKY))
    assert decide(DIAMOND, waiting, NOW) == [Wake(until)]
    assert decide(DIAMOND, waiting, until) == [Start("a", 2)]


def test_a_task_that_takes_too_long_is_stopped() -> None:
    since = NOW - timedelta(minutes=60)
    assert decide(DIAMOND, states(a=Running(1, since)), NOW) == [TimeOut("a", timedelta(minutes=60))]


def settled(failure: Failure, attempt: int, policy: RetryPolicy | None = None) -> object:
    return after_failure(task("a", retries=2), policy, attempt, failure, NOW, random.Random(1))


def test_a_retryable_failure_backs_off_until_the_budget_is_spent() -> None:
    assert isinstance(settled(SHAKY, 1), BackingOff)
    assert isinstance(settled(SHAKY, 2), BackingOff)
    assert settled(SHAKY, 3) == Failed(3, SHAKY)


def test_a_terminal_failure_is_not_retried() -> None:
    assert settled(BROKEN, 1) == Failed(1, BROKEN)


def test_a_failure_outside_the_policys_classes_is_not_retried() -> None:
    only_lost = RetryPolicy(retry_on=(RetryClass.WORKER_LOST,))
    assert settled(SHAKY, 1, only_lost) == Failed(1, SHAKY)


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 1.0), (2, 2.0)])
def test_the_pause_grows_and_is_shortened_by_no_more_than_the_jitter(attempt: int, ceiling: float) -> None:
    policy = RetryPolicy(initial_seconds=1, multiplier=2, max_seconds=60, jitter=0.5)
    state = settled(SHAKY, attempt, policy)
    assert isinstance(state, BackingOff)
    assert ceiling / 2 <= (state.until - NOW).total_seconds() <= ceiling


def test_a_source_that_names_a_time_is_not_asked_before_it() -> None:
    told = Failure("rate_limited", "slow down", retry_class=RetryClass.RETRYABLE, retry_after=30.0)
    state = settled(told, 1)
    assert isinstance(state, BackingOff)
    assert (state.until - NOW).total_seconds() == 30.0
