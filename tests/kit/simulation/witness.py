"""Writes down what a simulated world was left like, for the judge of histories."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Final
from uuid import UUID

from models.backfills import BackfillState
from models.events import EventKind
from models.executions import ExecutionState, StepState
from models.work import WorkState
from runtime.schedules.decide import PAUSED
from runtime.schedules.ticker import LEASE
from tests.kit.simulation.backfilling import GOING, OPEN
from tests.kit.simulation.history import (
    Accepted,
    Backfilled,
    Calendar,
    Crowd,
    Fired,
    History,
    Move,
    Ran,
    Stepped,
    Told,
    Work,
)
from tests.kit.simulation.pipelines import loads_of
from tests.kit.simulation.scheduling import NEVER
from tests.kit.simulation.store import BEGINNING, Change, Row
from tests.kit.simulation.world import World

PATIENCE_SECONDS: Final = 10.0
STATES: Final = ("pipeline_executions", "step_executions", "work_items")


def history_of(world: World) -> History:
    """The history of a world that has run."""
    tables = world.server.tables
    return History(
        executions=[
            Accepted(
                row["id"],
                ExecutionState(row["state"]),
                row["generation"],
                row["last_event_seq"],
                loads_of(world.clients.plans[row["pipeline_id"]]),
            )
            for row in tables["pipeline_executions"].values()
        ],
        events=[_told(key, row) for key, row in tables["execution_events"].items()],
        steps=[
            Stepped(*_pair(key), StepState(row["state"]), row["attempt"], row["generation"])
            for key, row in tables["step_executions"].items()
        ],
        commits=world.destination.published,
        work=[Work(row["id"], row["subject"], WorkState(row["state"])) for row in tables["work_items"].values()],
        moves=list(_moves(world.server.changes)),
        ran=world.ran,
        restorable=[
            Ran(*_pair(change.key), change.after["generation"])
            for change in world.server.changes
            if change.table == "checkpoints" and change.after
        ],
        leaked=list(_leaked(world)),
        calendars=[_undecided(world, one) for one in world.schedulers.calendars],
        fires=list(_fired(world)),
        scheduled=[row["id"] for row in tables["pipeline_executions"].values() if row["execution_type"] == "scheduled"],
        crowds=list(_crowds(world)),
        backfills=[_backfilled(world, row) for row in tables["backfills"].values()],
        leaders=[
            change.after["holder"]
            for change in world.server.changes
            if change.table == "leases" and change.key == LEASE and _changes(change, "holder") and change.after
        ],
    )


def _changes(change: Change, column: str) -> bool:
    return bool(change.before.get(column) != change.after.get(column))


def _undecided(world: World, calendar: Calendar) -> Calendar:
    """A calendar without the moments that went by while it was paused, of which nothing is told when it goes on."""
    moments = calendar.moments
    for change in world.server.changes:
        if change.key == calendar.schedule and change.before.get("is_paused") and not change.after["is_paused"]:
            gone, following = change.before["next_fire_at"], change.after["next_fire_at"]
            if gone is not None:
                moments = [at for at in moments if at < gone or (following is not None and at >= following)]
    return replace(calendar, moments=moments)


def _fired(world: World) -> Iterator[Fired]:
    paused: dict[object, bool] = {}
    for change in world.server.changes:
        row = change.after
        if change.table == "schedules":
            paused[change.key] = row["is_paused"]
        elif change.table == "schedule_fires" and row:
            was_paused, passes = paused.get(row["schedule_id"], False), row["reason"] == PAUSED
            yield Fired(row["schedule_id"], row["fire_time"], row["execution_id"], was_paused, passes)


def _backfilled(world: World, row: Row) -> Backfilled:
    executions = world.server.tables["pipeline_executions"].values()
    chunks = [one["id"] for one in executions if one["backfill_id"] == row["id"]]
    open_items, left = set[object](), 0
    for change in world.server.changes:
        if change.table == "work_items" and change.after and change.after["backfill_id"] == row["id"]:
            goes_on = change.after["state"] in OPEN
            (open_items.add if goes_on else open_items.discard)(change.key)
        elif change.table == "backfills" and change.key == row["id"] and _changes(change, "finished_at"):
            left = len(open_items)
    return Backfilled(
        row["id"], BackfillState(row["state"]), row["finished_at"] is not None, chunks, row["total"], left
    )


def _told(key: object, row: dict[str, object]) -> Told:
    assert isinstance(key, tuple)
    payload, step = row["payload"], row["step_name"]
    attempt = payload.get("attempt") if isinstance(payload, dict) else None
    return Told(key[0], key[1], EventKind(str(row["kind"])), None if step is None else str(step), attempt)


def _pair(key: object) -> tuple[UUID, str]:
    assert isinstance(key, tuple)
    return key[0], key[1]


def _moves(changes: list[Change]) -> Iterator[Move]:
    taken: dict[tuple[str, object], int] = {}
    for change in changes:
        if change.table == "pipeline_executions":
            taken[change.by, change.key] = change.after["generation"]
        if change.table in STATES:
            yield _move(change, taken)


def _move(change: Change, taken: dict[tuple[str, object], int]) -> Move:
    before, after = change.before, change.after
    lease = before.get("lease_expires_at")
    generation = before.get("generation", 0)
    is_ours = change.by == before.get("holder") or taken.get((change.by, before.get("subject"))) == generation
    return Move(
        table=change.table,
        key=change.key,
        before=before.get("state"),
        after=after.get("state"),
        generations=(generation, after.get("generation", 0)),
        was_held=isinstance(lease, datetime) and (lease - BEGINNING).total_seconds() > change.at,
        by_holder=is_ours,
    )


def _crowds(world: World) -> Iterator[Crowd]:
    """How many ran at once where there are limits, and of each schedule, whose runs never overlap."""
    limits, schedulers = world.schedulers.limits, world.schedulers
    executions = world.server.tables["pipeline_executions"]
    if limits.slots is not None:
        yield Crowd("the pool", _most(world, _is_claimed), limits.slots)
    if limits.max_active is not None:
        for pipeline in world.clients.plans:
            yield Crowd(f"pipeline {pipeline}", _most(world, partial(_is_claimed, of=pipeline)), limits.max_active)
    for backfill in world.server.tables["backfills"].values():
        going = partial(_goes_on, of=backfill["id"])
        yield Crowd(f"backfill {backfill['id']}", _most(world, going), backfill["most_at_once"])
    for one in schedulers.calendars:
        own = {
            row["id"]
            for row in executions.values()
            if row["execution_type"] == "scheduled" and row["pipeline_id"] == one.pipeline
        }
        yield Crowd(f"schedule {one.schedule}", _most(world, partial(_may_run, of=own)), 1)


def _is_claimed(row: Row, of: object = None) -> bool:
    return row.get("state") == "claimed" and of in (None, row["pipeline_id"])


def _goes_on(row: Row, of: object) -> bool:
    return bool(row and row["backfill_id"] == of and row["state"] in GOING)


def _may_run(row: Row, of: set[UUID]) -> bool:
    return bool(row and row["subject"] in of and row["state"] in ("queued", "claimed") and row["run_after"] != NEVER)


def _most(world: World, counts: Callable[[Row], bool]) -> int:
    """The most items that were so at once; what a transaction frees, it frees before it takes more."""
    now = most = 0
    for change in world.server.changes:
        if change.table == "work_items":
            now += counts(change.after) - counts(change.before)
            most = max(most, now)
    return most


def _leaked(world: World) -> Iterator[str]:
    """Connections, row locks and slots that nobody will give back."""
    now = world.server.now
    for transaction in world.server.open:
        if transaction.process.is_dead or (now - transaction.now).total_seconds() > PATIENCE_SECONDS:
            yield f"a connection of {transaction.process.name} was never given back"
    for place, holder in world.server.holders.items():
        if not holder.is_open:
            yield f"{place} is locked by a transaction that has ended"
    for process, pool in world.pools.items():
        if pool._busy and not process.is_stopped:
            yield f"{len(pool._busy)} supervisors of {process.name} were never given back"
