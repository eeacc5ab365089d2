"""A step's own retry policy over its pipeline's, field by field, from the definition to the decision."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from models.errors import Invalid
from models.fields import JsonObject
from models.pipelines import RetryClass
from runtime.executions.decide import TimeOut, after_failure, decide
from runtime.executions.state import BackingOff, Failed, Failure, Running
from runtime.pipelines.plan import Plan
from tests.kit.definitions import READ, load, only, pipeline
from tests.kit.engine import Bench

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SHAKY = Failure("away", "no answer", retry_class=RetryClass.UNAVAILABLE)
LATER = Failure("busy", "later", retry_class=RetryClass.RETRYABLE, retry_after=90.0)
POLICY: JsonObject = {"max_attempts": 3, "initial_seconds": 10.0, "max_seconds": 100.0, "jitter": 0.0}


async def planned(bench: Bench, *, own: JsonObject | None = None, **more: Any) -> Plan:
    """The plan of a pipeline with a policy, one of whose two tasks has its own."""
    changed = load("small", retry_policy=own, **more)
    definition = pipeline(READ, only("small", "id < 10"), changed, name=str(uuid4()))
    return (await bench.pipeline({**definition, "retry_policy": POLICY}))[1]


def after(plan: Plan, task: str, attempt: int, failure: Failure = SHAKY) -> BackingOff | Failed:
    state = after_failure(plan.task_of(task), plan.retry_policy, attempt, failure, NOW, random.Random(1))
    assert isinstance(state, BackingOff | Failed)
    return state


def pause(state: BackingOff | Failed) -> float:
    assert isinstance(state, BackingOff)
    return (state.until - NOW).total_seconds()


async def test_a_step_overrides_what_it_says_and_keeps_the_rest_of_its_pipelines_policy(ready: Bench) -> None:
    plan = await planned(ready, own={"initial_seconds": 2.0, "max_attempts": 5})
    assert [pause(after(plan, "read", attempt)) for attempt in (1, 2)] == [10.0, 20.0]
    assert after(plan, "read", 3) == Failed(3, SHAKY)
    assert [pause(after(plan, "load", attempt)) for attempt in (1, 2, 3, 4)] == [2.0, 4.0, 8.0, 16.0]
    assert after(plan, "load", 5) == Failed(5, SHAKY)


async def test_the_classes_of_errors_are_the_steps_own(ready: Bench) -> None:
    plan = await planned(ready, own={"retry_on": ["retryable"]})
    assert isinstance(after(plan, "read", 1), BackingOff)
    assert after(plan, "load", 1) == Failed(1, SHAKY)


async def test_retry_attempts_go_before_the_policys_attempts(ready: Bench) -> None:
    plan = await planned(ready, own={"max_attempts": 5}, retry_attempts=0)
    assert after(plan, "load", 1) == Failed(1, SHAKY)


async def test_a_source_that_says_when_to_come_back_is_heeded_beyond_the_longest_pause(ready: Bench) -> None:
    plan = await planned(ready, own={"initial_seconds": 1.0, "max_seconds": 5.0})
    assert pause(after(plan, "load", 1, LATER)) == 90.0


async def test_steps_that_agree_stay_one_task_and_others_do_not(ready: Bench) -> None:
    assert len((await planned(ready)).tasks) == 1
    assert len((await planned(ready, own={"jitter": 0.0, "max_attempts": 3})).tasks) == 1
    assert len((await planned(ready, own={"jitter": 0.5})).tasks) == 2


async def test_pauses_that_would_shrink_are_refused_with_their_place(ready: Bench) -> None:
    with pytest.raises(Invalid, match="less than initial_seconds") as raised:
        await planned(ready, own={"max_seconds": 5.0})
    assert raised.value.path == "steps[2].retry_policy"


async def test_a_limit_in_seconds_goes_before_the_one_in_minutes(ready: Bench) -> None:
    plan = await planned(ready, timeout_seconds=90)
    limit = timedelta(seconds=90)
    running = {task.name: Running(1, NOW) for task in plan.tasks}
    assert decide(plan, dict(running), NOW + limit) == [TimeOut("load", limit)]
    assert plan.step("load").timeout_minutes == 2
