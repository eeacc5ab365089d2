"""The judge of histories finds each kind of wrong, and reads what real databases hold."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from models.backfills import BackfillState
from models.events import EventKind
from models.executions import ExecutionState, StepState
from models.work import WorkState
from tests.kit.definitions import DIAMOND
from tests.kit.engine import Bench
from tests.kit.simulation.history import (
    Accepted,
    Backfilled,
    Calendar,
    Commit,
    Crowd,
    Fired,
    History,
    Move,
    Ran,
    Stepped,
    Told,
    Work,
    judged,
    read_history,
)

ONE = UUID(int=1)
STORY: Sequence[tuple[EventKind, str | None, int | None]] = (
    (EventKind.EXECUTION_QUEUED, None, None),
    (EventKind.EXECUTION_STARTED, None, None),
    (EventKind.STEP_STARTED, "load", 1),
    (EventKind.STEP_RETRYING, "load", 1),
    (EventKind.STEP_STARTED, "load", 2),
    (EventKind.STEP_COMPLETED, "load", None),
    (EventKind.EXECUTION_COMPLETED, None, None),
)
EVENTS = tuple(Told(ONE, seq, *told) for seq, told in enumerate(STORY, 1))
RIGHT = History(
    executions=[Accepted(ONE, ExecutionState.COMPLETED, 1, len(EVENTS), {"load": 2})],
    events=EVENTS,
    steps=[Stepped(ONE, "load", StepState.COMPLETED, 2, 1)],
    commits=[Commit(ONE, "load", 0, 1), Commit(ONE, "load", 1, 1)],
    work=[Work(UUID(int=2), ONE, WorkState.DONE)],
)
DUE = datetime(2026, 1, 1, tzinfo=UTC)
CALENDAR = Calendar(UUID(int=3), UUID(int=4), [DUE])
FIRED = Fired(UUID(int=3), DUE, ONE)
BACKFILLED = Backfilled(UUID(int=5), BackfillState.COMPLETED, True, [ONE], 1)
CLAIMED = Move("work_items", 2, "claimed", "queued", (1, 1), was_held=True, by_holder=False)

WRONGS = {
    "is running in the end": replace(RIGHT, executions=[Accepted(ONE, ExecutionState.RUNNING, 1, len(EVENTS))]),
    "was committed 2 times": replace(RIGHT, commits=[*RIGHT.commits, Commit(ONE, "load", 1, 2)]),
    "published 1 of its 2 parts": replace(RIGHT, commits=RIGHT.commits[:1]),
    "nothing of it was published": replace(RIGHT, commits=[]),
    "not in sequence at 4": replace(RIGHT, events=[event for event in EVENTS if event.seq != 3]),
    "not in sequence at 2": replace(RIGHT, events=[*EVENTS, EVENTS[1]]),
    "has events after its end": replace(
        RIGHT,
        executions=[Accepted(ONE, ExecutionState.COMPLETED, 1, len(EVENTS) + 1, {"load": 2})],
        events=[*EVENTS, Told(ONE, len(EVENTS) + 1, EventKind.STEP_STARTED, "load", 3)],
    ),
    "its events tell of execution_completed": replace(
        RIGHT, executions=[Accepted(ONE, ExecutionState.FAILED, 1, len(EVENTS))]
    ),
    "was tried for the 1. time again": replace(
        RIGHT, events=[replace(event, attempt=1) if event.seq == 5 else event for event in EVENTS]
    ),
    "its work item is claimed": replace(RIGHT, work=[Work(UUID(int=2), ONE, WorkState.CLAIMED)]),
    "its step load is running": replace(RIGHT, steps=[replace(RIGHT.steps[0], state=StepState.RUNNING)]),
    "went from completed to running": replace(
        RIGHT, moves=[Move("pipeline_executions", ONE, "completed", "running", (1, 1))]
    ),
    "the generation fell from 2 to 1": replace(
        RIGHT, moves=[Move("step_executions", ONE, "running", "running", (2, 1))]
    ),
    "went from completed to failed": replace(RIGHT, moves=[Move("step_executions", ONE, "completed", "failed")]),
    "its generation went from 1 to 1": replace(RIGHT, moves=[Move("work_items", 2, "queued", "claimed", (1, 1))]),
    "before its lease lapsed": replace(RIGHT, moves=[CLAIMED]),
    "by somebody who does not hold it": replace(RIGHT, moves=[replace(CLAIMED, after="claimed")]),
    "was decided 0 times": replace(RIGHT, calendars=[CALENDAR]),
    "was decided 2 times": replace(RIGHT, calendars=[CALENDAR], fires=[FIRED, replace(FIRED, execution=None)]),
    "when it was not due": replace(RIGHT, calendars=[replace(CALENDAR, moments=[])], fires=[FIRED]),
    "which is not there": replace(RIGHT, calendars=[CALENDAR], fires=[replace(FIRED, execution=UUID(int=9))]),
    "was not passed over": replace(RIGHT, calendars=[CALENDAR], fires=[replace(FIRED, was_paused=True)]),
    "was passed over as if it were paused": replace(
        RIGHT, calendars=[CALENDAR], fires=[replace(FIRED, execution=None, passes=True)]
    ),
    "was started by 0 moments of a schedule": replace(RIGHT, scheduled=[ONE]),
    "ran at once in the pool, of 1 at most": replace(RIGHT, crowds=[Crowd("the pool", 2, 1)]),
    "has not finished": replace(RIGHT, backfills=[replace(BACKFILLED, is_finished=False)]),
    "1 of its chunks went on": replace(RIGHT, backfills=[replace(BACKFILLED, left=1)]),
    "should be completed": replace(RIGHT, backfills=[replace(BACKFILLED, state=BackfillState.FAILED)]),
    "has 1 of its 2 chunks": replace(RIGHT, backfills=[replace(BACKFILLED, wanted=2)]),
    "was never given back": replace(RIGHT, leaked=["a connection was never given back"]),
}


def test_what_is_right_is_not_judged() -> None:
    lapsed = replace(CLAIMED, was_held=False)
    again = Move("step_executions", ONE, "completed", "running", (1, 2))
    assert judged(replace(RIGHT, moves=[lapsed, again])) == []
    assert judged(replace(RIGHT, calendars=[CALENDAR], fires=[FIRED], scheduled=[ONE])) == []
    assert judged(replace(RIGHT, backfills=[BACKFILLED])) == []


@pytest.mark.parametrize("sentence", WRONGS)
def test_what_is_wrong_is_judged(sentence: str) -> None:
    (found,) = judged(WRONGS[sentence])
    assert found.endswith(sentence)


def test_finished_tasks_that_ran_again_are_judged_once_there_are_checkpoints() -> None:
    history = replace(RIGHT, ran=[Ran(ONE, "read", 1), Ran(ONE, "read", 2)], restorable=[Ran(ONE, "read", 1)])
    assert judged(history) == []
    assert judged(history, restores=True) == [f"task read of execution {ONE} was finished and ran again"]


async def test_a_real_database_is_judged_by_the_same_rules(ready: Bench, owner: asyncpg.Connection) -> None:
    execution, _ = await ready.run(DIAMOND)
    landed = [Commit(execution, "load", 0)]
    history = await read_history(owner, landed, loads={"load": 1})
    assert judged(history) == []
    assert [one.id for one in history.executions] == [execution]
    assert {one.step for one in history.steps} == {"read", "big", "small", "load"}
    await owner.execute("DELETE FROM execution_events WHERE seq = 3")
    await owner.execute(
        "UPDATE work_items SET state = 'claimed', holder = 'x', lease_expires_at = now() - interval '1 h'"
    )
    wrong = judged(await read_history(owner, [*landed, *landed], loads={"load": 1}))
    told = ("was committed 2 times", "not in sequence at 4", "its work item is claimed", "is held by x")
    assert [sentence for sentence, part in zip(wrong, told, strict=True) if part not in sentence] == []
