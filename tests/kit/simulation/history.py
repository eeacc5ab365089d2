"""What happened, as rows tell it, and the judge of it: of simulated worlds, and of real databases after chaos.

`judged` answers the sentences of what is wrong; an empty list is a pass.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Final
from uuid import UUID

import asyncpg

from models.backfills import BackfillState
from models.events import EventKind
from models.executions import ExecutionState, StepState
from models.work import WorkState


@dataclass(frozen=True, slots=True)
class Accepted:
    """An execution that was accepted, as it is in the end. `loads` are its load steps and how many parts each has."""

    id: UUID
    state: ExecutionState
    generation: int
    last_event_seq: int
    loads: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of an execution."""

    execution: UUID
    seq: int
    kind: EventKind
    step: str | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step's row, as it is in the end."""

    execution: UUID
    step: str
    state: StepState
    attempt: int
    generation: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Rows of one part of a load that readers of its destination see; a part that they see twice is here twice."""

    execution: UUID
    step: str
    partition: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """A work item, as it is in the end."""

    id: UUID
    subject: UUID | None
    state: WorkState


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a row's state. `table` is its table; generations are the row's, before and after.

    `was_held` says of a work item that its lease had not lapsed; `by_holder` that who holds it made the change.
    """

    table: str
    key: object
    before: str | None
    after: str | None
    generations: tuple[int, int] = (0, 0)
    was_held: bool = False
    by_holder: bool = True


@dataclass(frozen=True, slots=True)
class Ran:
    """A task that was started: of which execution, by which generation, whose it was then."""

    execution: UUID
    task: str
    generation: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A schedule of a pipeline, and the moments at which it was due."""

    schedule: UUID
    pipeline: UUID
    moments: Sequence[datetime]


@dataclass(frozen=True, slots=True)
class Fired:
    """A decision upon a moment of a schedule, and the execution that it submitted; two decisions are here twice.

    `was_paused` says that the schedule was paused then, `passes` that it was passed over because of that.
    """

    schedule: UUID
    at: datetime
    execution: UUID | None = None
    was_paused: bool = False
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Crowd:
    """The most executions that ever ran at once in a place, such as a pool, and how many were allowed to."""

    place: str
    most: int
    allowed: int


@dataclass(frozen=True, slots=True)
class Backfilled:
    """A backfill, as it is in the end: the executions of its chunks, and how many went on when it was finished."""

    id: UUID
    state: BackfillState
    is_finished: bool
    chunks: Sequence[UUID]
    wanted: int
    left: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """Everything that the judge looks at. `moves`, `ran` and `restorable` are known of simulated worlds only.

    `restorable` are the tasks, with the generation that finished them, whose checkpoints were written; `leaked` are
    sentences about slots, leases and connections that nobody has any more. `calendars` are of schedules all of whose
    moments have passed, `scheduled` the executions that schedules started, `leaders` the schedulers that led, in turn.
    """

    executions: Sequence[Accepted]
    events: Sequence[Told]
    steps: Sequence[Stepped]
    commits: Sequence[Commit]
    work: Sequence[Work]
    moves: Sequence[Move] = ()
    ran: Sequence[Ran] = ()
    restorable: Sequence[Ran] = ()
    leaked: Sequence[str] = ()
    calendars: Sequence[Calendar] = ()
    fires: Sequence[Fired] = ()
    scheduled: Sequence[UUID] = ()
    crowds: Sequence[Crowd] = ()
    backfills: Sequence[Backfilled] = ()
    leaders: Sequence[str] = ()


def judged(history: History, *, restores: bool = False) -> list[str]:
    """What is wrong. `restores` says that a take-over restores what its predecessors had finished."""
    found = [sentence for rule in RULES for sentence in rule(history)]
    if restores:
        found += repeated(history)
    return [*found, *history.leaked]


def unfinished(history: History) -> Iterator[str]:
    """Accepted means terminal in the end."""
    for one in history.executions:
        if not one.state.is_terminal:
            yield f"execution {one.id} was accepted and is {one.state} in the end"


def doubled(history: History) -> Iterator[str]:
    """At most one commit per execution, step and partition."""
    for place, count in Counter((one.execution, one.step, one.partition) for one in history.commits).items():
        if count > 1:
            execution, step, partition = place
            yield f"part {partition} of step {step} of execution {execution} was committed {count} times"


def incomplete(history: History) -> Iterator[str]:
    """A load that was published is whole, and one that completed is published."""
    parts: dict[tuple[UUID, str], set[int]] = defaultdict(set)
    for commit in history.commits:
        parts[commit.execution, commit.step].add(commit.partition)
    done = {(one.execution, one.step) for one in history.steps if one.state is StepState.COMPLETED}
    for execution in history.executions:
        for step, wanted in execution.loads.items():
            landed = len(parts[execution.id, step])
            if landed not in (0, wanted):
                yield f"step {step} of execution {execution.id} published {landed} of its {wanted} parts"
            if landed == 0 and execution.state is ExecutionState.COMPLETED and (execution.id, step) in done:
                yield f"step {step} of execution {execution.id} is completed and nothing of it was published"


_TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})
_LIVE: Final = frozenset({"starting", "running", "backing_off"})
_LEGAL: Final[Mapping[str, Mapping[str | None, frozenset[str]]]] = {
    "pipeline_executions": {
        None: frozenset({"queued"}),
        "queued": frozenset({"starting", "cancelling", "cancelled", "failed"}),
        "starting": frozenset({"running", "backing_off", "cancelling"}) | _TERMINAL,
        "running": frozenset({"starting", "backing_off", "cancelling"}) | _TERMINAL,
        "backing_off": frozenset({"starting", "running", "cancelling"}) | _TERMINAL,
        "cancelling": _TERMINAL,
    },
    "step_executions": {
        None: frozenset({"running", "backing_off", "completed", "failed", "skipped", "cancelled"}),
        "running": frozenset({"backing_off", "completed", "failed", "skipped", "cancelled"}),
        "backing_off": frozenset({"running", "completed", "failed", "skipped", "cancelled"}),
        # What is downstream found that its rows are stale: what it reads runs again.
        "completed": frozenset({"backing_off"}),
    },
    "work_items": {
        None: frozenset({"held", "queued"}),
        # Who lets a chunk go may claim it in the same transaction.
        "held": frozenset({"queued", "claimed", "cancelled"}),
        "queued": frozenset({"held", "claimed", "cancelled", "done"}),
        "claimed": frozenset({"queued", "done", "failed", "claimed"}),
    },
}


def illegal_moves(history: History) -> Iterator[str]:
    """Only legal transitions of executions, steps and work; generations never fall, and rise with each claim."""
    for move in history.moves:
        before, after = move.generations
        allowed = _LEGAL[move.table].get(move.before, frozenset())
        is_new_generation = move.table == "step_executions" and after > before
        if after < before:
            yield f"{move.table} {move.key}: the generation fell from {before} to {after}"
        elif move.before != move.after and move.after not in allowed and not is_new_generation:
            yield f"{move.table} {move.key}: went from {move.before} to {move.after}"
        elif move.table == "work_items":
            yield from _illegal_hold(move)


def _illegal_hold(move: Move) -> Iterator[str]:
    before, after = move.generations
    is_renewal = move.before == move.after == "claimed" and after == before
    if is_renewal and not move.by_holder:
        yield f"work item {move.key} was claimed or renewed by somebody who does not hold it"
    elif move.after == "claimed" and not is_renewal and after != before + 1:
        yield f"work item {move.key} was claimed and its generation went from {before} to {after}"
    elif move.before == "claimed" and move.after in ("claimed", "queued") and move.was_held and not move.by_holder:
        yield f"work item {move.key} was taken from its holder before its lease lapsed"


def gapped(history: History) -> Iterator[str]:
    """The events of an execution are numbered from 1 to its last without gap or repetition."""
    numbers: dict[UUID, list[int]] = defaultdict(list)
    for event in history.events:
        numbers[event.execution].append(event.seq)
    for one in history.executions:
        found = sorted(numbers[one.id])
        if found != list(range(1, one.last_event_seq + 1)):
            wrong = next((after for before, after in pairwise([0, *found]) if after != before + 1), len(found))
            yield f"execution {one.id} has {len(found)} events of {one.last_event_seq}, not in sequence at {wrong}"


_ENDINGS: Final = {
    EventKind.EXECUTION_COMPLETED: ExecutionState.COMPLETED,
    EventKind.EXECUTION_FAILED: ExecutionState.FAILED,
    EventKind.EXECUTION_CANCELLED: ExecutionState.CANCELLED,
}
_BEGINNINGS: Final = (EventKind.EXECUTION_STARTED, EventKind.EXECUTION_TAKEN_OVER)
_FIRST: Final = (EventKind.EXECUTION_QUEUED,)


def illegal_stories(history: History) -> Iterator[str]:
    """An execution's events begin with its acceptance and end, once, with the state that it is in."""
    stories: dict[UUID, list[Told]] = defaultdict(list)
    for event in sorted(history.events, key=lambda one: one.seq):
        stories[event.execution].append(event)
    for one in history.executions:
        story = stories[one.id]
        endings = [event for event in story if event.kind in _ENDINGS]
        if story and story[0].kind not in _FIRST:
            yield f"the events of execution {one.id} begin with {story[0].kind}"
        if len(endings) > 1 or (endings and story[-1] is not endings[0]):
            yield f"execution {one.id} has events after its end"
        elif one.state.is_terminal and (not endings or _ENDINGS[endings[0].kind] is not one.state):
            told = endings[0].kind if endings else "nothing"
            yield f"execution {one.id} is {one.state}, and its events tell of {told}"
        yield from _illegal_attempts(one.id, story)


def _illegal_attempts(execution: UUID, story: Sequence[Told]) -> Iterator[str]:
    """Within one generation a step's attempts are 1, 2, 3 and so on."""
    attempts: Counter[str] = Counter()
    for event in story:
        if event.kind in _BEGINNINGS:
            attempts.clear()
        if event.kind is EventKind.STEP_STARTED and event.step and event.attempt is not None:
            if attempts[event.step] and event.attempt != attempts[event.step] + 1:
                yield f"step {event.step} of execution {execution} was tried for the {event.attempt}. time again"
            attempts[event.step] = event.attempt


def unsettled(history: History) -> Iterator[str]:
    """Nobody holds work of an execution that has ended, nobody waits for it, and none of its steps is under way."""
    ended = {one.id for one in history.executions if one.state.is_terminal}
    for item in history.work:
        if item.subject in ended and item.state in (WorkState.HELD, WorkState.QUEUED, WorkState.CLAIMED):
            yield f"execution {item.subject} has ended and its work item is {item.state}"
    for step in history.steps:
        if step.execution in ended and step.state in (StepState.RUNNING, StepState.BACKING_OFF):
            yield f"execution {step.execution} has ended and its step {step.step} is {step.state}"


def repeated(history: History) -> Iterator[str]:
    """What a generation had finished, and kept, no later one runs again."""
    finished: dict[tuple[UUID, str], int] = {}
    for one in history.restorable:
        place = (one.execution, one.task)
        finished[place] = min(one.generation, finished.get(place, one.generation))
    for started in history.ran:
        if started.generation > finished.get((started.execution, started.task), started.generation):
            yield f"task {started.task} of execution {started.execution} was finished and ran again"


def undecided(history: History) -> Iterator[str]:
    """Each moment of a schedule is decided once, and nothing else is."""
    decided = Counter((one.schedule, one.at) for one in history.fires)
    wanted = Counter((one.schedule, at) for one in history.calendars for at in one.moments)
    for (schedule, at), count in wanted.items():
        if decided[schedule, at] != count:
            yield f"the moment {at:%H:%M:%S} of schedule {schedule} was decided {decided[schedule, at]} times"
    for schedule, at in decided - wanted if history.calendars else ():
        if (schedule, at) not in wanted:
            yield f"schedule {schedule} was fired at {at:%H:%M:%S}, when it was not due"


def unfounded(history: History) -> Iterator[str]:
    """A moment that was submitted has an execution of its own, and an execution of a schedule has such a moment."""
    known = {one.id for one in history.executions}
    started = Counter(one.execution for one in history.fires if one.execution is not None)
    for one in history.fires:
        if one.execution is not None and one.execution not in known:
            yield f"schedule {one.schedule} submitted execution {one.execution}, which is not there"
    for execution in history.scheduled:
        if started[execution] != 1:
            yield f"execution {execution} was started by {started[execution]} moments of a schedule"


def unpaused(history: History) -> Iterator[str]:
    """A moment of a paused schedule is passed over, and is so only then."""
    for one in history.fires:
        if one.was_paused and not one.passes:
            yield f"schedule {one.schedule} was paused, and its moment {one.at:%H:%M:%S} was not passed over"
        elif one.passes and not one.was_paused:
            yield f"the moment {one.at:%H:%M:%S} of schedule {one.schedule} was passed over as if it were paused"


def crowded(history: History) -> Iterator[str]:
    """No more run at once than are allowed to."""
    for one in history.crowds:
        if one.most > one.allowed:
            yield f"{one.most} executions ran at once in {one.place}, of {one.allowed} at most"


def unfilled(history: History) -> Iterator[str]:
    """A backfill has all its chunks, finishes when the last of them has ended, and tells how they ended."""
    states = {one.id: one.state for one in history.executions}
    for one in history.backfills:
        is_whole = all(states.get(chunk) is ExecutionState.COMPLETED for chunk in one.chunks)
        right = BackfillState.COMPLETED if is_whole else BackfillState.FAILED
        if not one.is_finished:
            yield f"backfill {one.id} is {one.state} and has not finished"
        elif one.left:
            yield f"backfill {one.id} was finished and {one.left} of its chunks went on"
        elif one.state not in (right, BackfillState.CANCELLED):
            yield f"backfill {one.id} is {one.state}, and should be {right}"
        if len(one.chunks) != one.wanted:
            yield f"backfill {one.id} has {len(one.chunks)} of its {one.wanted} chunks"


RULES: Final = (
    unfilled,
    unfinished,
    doubled,
    incomplete,
    illegal_moves,
    gapped,
    illegal_stories,
    unsettled,
    undecided,
    unfounded,
    unpaused,
    crowded,
)

_EXECUTIONS: Final = """
    SELECT id, state, generation, last_event_seq FROM pipeline_executions
    WHERE $1::timestamptz IS NULL OR created_at >= $1
"""
_EVENTS: Final = """
    SELECT execution_id, seq, kind, step_name, (payload ->> 'attempt')::int AS attempt FROM execution_events
    WHERE execution_id = ANY($1)
"""
_STEPS: Final = """
    SELECT pipeline_execution_id, step_name, state, attempt, generation FROM step_executions
    WHERE pipeline_execution_id = ANY($1)
"""
_WORK: Final = "SELECT id, subject, state FROM work_items"
_ABANDONED: Final = """
    SELECT 'work item ' || id || ' is held by ' || holder || ', whose lease lapsed at ' || lease_expires_at AS sentence
    FROM work_items WHERE state = 'claimed' AND lease_expires_at < now() - make_interval(secs => $1)
    UNION ALL
    SELECT 'connection ' || pid || ' of ' || application_name || ' has been in a transaction since ' || xact_start
    FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'
        AND state_change < now() - make_interval(secs => $1)
"""


async def read_history(
    connection: asyncpg.Connection,
    commits: Iterable[Commit] = (),
    *,
    loads: Mapping[str, int] | None = None,
    since: datetime | None = None,
    grace_seconds: float = 30.0,
) -> History:
    """The history in a metadata database, read as its owner, of executions accepted `since` then, by default of all.

    `commits` are what was found in the destinations, and `loads` the load steps that every execution has, with their
    parts. What lapsed, or has waited in a transaction, for more than `grace_seconds` counts as leaked.
    """
    rows = await connection.fetch(_EXECUTIONS, since)
    known = [row["id"] for row in rows]
    events = await connection.fetch(_EVENTS, known)
    steps = await connection.fetch(_STEPS, known)
    return History(
        executions=[
            Accepted(row["id"], ExecutionState(row["state"]), row["generation"], row["last_event_seq"], loads or {})
            for row in rows
        ],
        events=[
            Told(row["execution_id"], row["seq"], EventKind(row["kind"]), row["step_name"], row["attempt"])
            for row in events
        ],
        steps=[
            Stepped(row[0], row["step_name"], StepState(row["state"]), row["attempt"], row["generation"])
            for row in steps
        ],
        commits=list(commits),
        work=[Work(row["id"], row["subject"], WorkState(row["state"])) for row in await connection.fetch(_WORK)],
        leaked=[row["sentence"] for row in await connection.fetch(_ABANDONED, grace_seconds)],
    )
