"""The judge of a chaos run: it reads PostgreSQL alone, and tells what was lost, doubled, leaked or left behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

import orjson

from tests.chaos.load import ROWS, Load
from tests.chaos.world import DATA, World

_RUNS: Final = """
    SELECT count(*) AS runs, count(*) FILTER (WHERE state = 'completed') AS completed,
        count(DISTINCT idempotency_key) AS keys,
        array_agg(id::text || ' ' || state || ' ' || coalesce(error_details::text, ''))
            FILTER (WHERE state <> 'completed') AS others
    FROM pipeline_executions WHERE pipeline_id = (SELECT id FROM data_pipelines WHERE pipeline_name = $1)
"""
_GAPS: Final = """
    SELECT run.id, run.last_event_seq, count(event.seq) AS events, min(event.seq) AS first, max(event.seq) AS last,
        count(DISTINCT event.seq) AS distinct_events,
        count(*) FILTER (WHERE event.kind IN ('execution_completed', 'execution_failed', 'execution_cancelled')) AS ends
    FROM pipeline_executions AS run LEFT JOIN execution_events AS event ON event.execution_id = run.id
    WHERE run.id = ANY($1) GROUP BY run.id, run.last_event_seq
    HAVING count(event.seq) <> run.last_event_seq OR max(event.seq) <> run.last_event_seq OR min(event.seq) <> 1
        OR count(DISTINCT event.seq) <> count(event.seq)
        OR count(*) FILTER
            (WHERE event.kind IN ('execution_completed', 'execution_failed', 'execution_cancelled')) <> 1
"""
_LEFT: Final = "SELECT id, state, lease_expires_at FROM work_items WHERE subject = ANY($1) AND state <> 'done'"
_STEPS: Final = """
    SELECT pipeline_execution_id, step_name, state FROM step_executions
    WHERE pipeline_execution_id = ANY($1) AND state <> 'completed'
"""
_LANDED: Final = """
    SELECT run, count(*) AS rows, count(DISTINCT id) AS ids FROM {table} GROUP BY run
"""
_SIDES: Final = "SELECT run, count(*) AS rows, sum(n) AS n FROM {table}_sides GROUP BY run"
_HANGING: Final = """
    SELECT application_name, state, now() - xact_start AS since, left(query, 80) AS query FROM pg_stat_activity
    WHERE application_name LIKE 'wedsync%' AND state LIKE 'idle in transaction%' AND now() - xact_start > interval '5 s'
"""
_EVENTS: Final = """
    SELECT execution_id, seq, recorded_at, kind, step_name, payload FROM execution_events
    WHERE execution_id = ANY($1) ORDER BY execution_id, seq
"""


async def require(load: Load) -> None:
    """Raise AssertionError with everything that is wrong with what became of a load's runs."""
    refuse(await verdict(load))


def refuse(wrong: Sequence[object]) -> None:
    """Raise AssertionError with what is wrong, if anything is."""
    if wrong:
        raise AssertionError("\n".join(map(str, wrong)))


async def verdict(load: Load) -> list[str]:
    """Everything that is wrong with what became of a load's runs; empty when nothing is."""
    world, runs = load.world, list(load.accepted.values())
    (found,) = await world.rows(_RUNS, load.name)
    wrong: list[str] = []
    if not (found["runs"] == found["keys"] == len(load.accepted)):
        wrong.append(f"{len(load.accepted)} accepted, {found['keys']} keys, {found['runs']} runs")
    if found["completed"] != found["runs"]:
        wrong.append(f"{found['completed']} of {found['runs']} completed; not: {found['others']}")
    wrong.extend(f"steps: {dict(row)}" for row in await world.rows(_STEPS, runs))
    return [*wrong, *await unended(load), *await landed(load)]


async def unended(load: Load) -> list[str]:
    """What is left of a load's runs: gaps in their events, work that is not done, transactions that hang."""
    world, runs, wrong = load.world, list(load.accepted.values()), list[str]()
    for name, query in (("events", _GAPS), ("work", _LEFT)):
        wrong.extend(f"{name}: {dict(row)}" for row in await world.rows(query, runs))
    return wrong + [f"transaction: {dict(row)}" for row in await world.rows(_HANGING)]


async def landed(load: Load) -> list[str]:
    """What is wrong with the rows in the destination."""
    rows = await load.world.rows(_LANDED.format(table=load.table), database=DATA)
    sides = await load.world.rows(_SIDES.format(table=load.table), database=DATA)
    whole = dict.fromkeys(load.accepted, (ROWS, ROWS))
    counted = dict.fromkeys(load.accepted, (2, ROWS))
    wrong = [f"rows of {r['run']}: {dict(r)}" for r in rows if whole.get(r["run"]) != (r["rows"], r["ids"])]
    wrong += [f"sides of {r['run']}: {dict(r)}" for r in sides if counted.get(r["run"]) != (r["rows"], r["n"])]
    missing = set(load.accepted) - {r["run"] for r in rows} | set(load.accepted) - {r["run"] for r in sides}
    return wrong + [f"nothing landed of {sorted(missing)}"] * bool(missing)


JOURNALED: Final = timedelta(seconds=1)
"""How much later than it begins a step may be written down as begun."""

E = TypeVar("E")

Span: TypeAlias = tuple[datetime, datetime]
"""Since when something may have been caused, and when it was."""

TURNS: Final = ("step_started", "step_retrying", "step_completed")
BEGINNINGS: Final = ("execution_started", "execution_taken_over")


@dataclass(frozen=True, slots=True)
class Happening:
    """An event of a run."""

    run: UUID
    at: datetime
    kind: str
    step: str | None
    is_lost_worker: bool = False
    worked: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Loss:
    """A worker that was lost: its step, when that began, when the loss was noticed, when the step was given out again.

    `running` is when another worker began with it, as is known of those that completed it.
    """

    step: str
    begun: datetime
    noticed: datetime
    again: datetime | None = None
    running: datetime | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What the events of some runs tell."""

    happenings: Sequence[Happening]

    @classmethod
    async def of(cls, world: World, runs: Sequence[UUID]) -> "History":
        """Read from PostgreSQL."""
        rows = await world.rows(_EVENTS, list(runs))
        return cls(
            [
                Happening(
                    row["execution_id"],
                    row["recorded_at"],
                    row["kind"],
                    row["step_name"],
                    "worker_lost" in row["payload"],
                    timedelta(milliseconds=orjson.loads(row["payload"]).get("processing_time_ms", 0)),
                )
                for row in rows
            ]
        )

    def lost_workers(self) -> list[Loss]:
        """Each worker that was lost."""
        begun, found = dict[tuple[UUID, str | None], datetime](), list[Loss]()
        turns = [one for one in self.happenings if one.kind in TURNS]
        for index, one in enumerate(turns):
            place = (one.run, one.step)
            if one.kind == "step_started":
                begun[place] = one.at - JOURNALED
            if one.kind == "step_retrying" and one.is_lost_worker:
                later = [late for late in turns[index + 1 :] if (late.run, late.step) == place][:2]
                again = later[0].at if later else None
                running = (late.at - late.worked for late in later if late.kind == "step_completed")
                found.append(Loss(one.step or "", begun[place], one.at, again, next(running, None)))
        return found

    def begun(self) -> list[datetime]:
        """When supervisors began with runs, first ones and others."""
        return sorted(one.at for one in self.happenings if one.kind in BEGINNINGS)

    def silences(self) -> list[Span]:
        """Of each run that another supervisor took over: when it was heard of last before, and when that was."""
        begun, last, found = set[UUID](), dict[UUID, datetime](), list[Span]()
        for one in self.happenings:
            if one.kind == "execution_taken_over" or (one.kind == "execution_started" and one.run in begun):
                found.append((last[one.run], one.at))
            if one.kind in BEGINNINGS:
                begun.add(one.run)
            last[one.run] = one.at
        return sorted(found, key=lambda silence: silence[1])

    def takeovers(self) -> list[datetime]:
        """When a run was taken over by another supervisor."""
        return [at for _, at in self.silences()]

    def steps_run_again(self) -> int:
        """How often a step was started that had completed before."""
        completed, again = set[tuple[UUID, str | None]](), 0
        for one in self.happenings:
            again += one.kind == "step_started" and (one.run, one.step) in completed
            if one.kind == "step_completed":
                completed.add((one.run, one.step))
        return again


def paired(causes: Sequence[datetime], effects: Sequence[E], span: Callable[[E], Span]) -> list[tuple[datetime, E]]:
    """Each effect with the last cause within its span that no earlier effect has.

    A cause may have no effect; an effect without a cause is left out.
    """
    left, found = sorted(causes), list[tuple[datetime, E]]()
    for effect in sorted(effects, key=lambda one: span(one)[1]):
        since, at = span(effect)
        cause = max((one for one in left if since <= one <= at), default=None)
        if cause is not None:
            left.remove(cause)
            found.append((cause, effect))
    return found
