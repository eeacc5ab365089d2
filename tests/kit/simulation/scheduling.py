"""What the statements of a scheduler do over the simulated rows: moments are decided, and executions come of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson

from models.events import EventKind
from runtime.statements import Parameters
from tests.kit.simulation.store import Row, Transaction
from tests.kit.simulation.submissions import accept, tell, watch_item

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""When what is held runs: `infinity`."""

OF_SCHEDULES: Final = ("scheduled", "triggered")

IsUnchanged: TypeAlias = Callable[[Row, object, object], bool]
"""Whether a schedule's row is as its decider saw it: with this next moment, changed last at that time."""


async def due(transaction: Transaction, given: Parameters) -> list[Row]:
    """`store.due`, of schedules by the clock."""
    now: Any = given["now"]
    rows = [row for _, row in transaction.rows("schedules") if row["due_at"] is not None and row["due_at"] <= now]
    first = sorted(rows, key=lambda row: row["due_at"])[: int(str(given["most"]))]
    return [_seen(transaction, row) for row in first]


async def arrived(transaction: Transaction, given: Parameters) -> list[Row]:
    """`store.due`, of schedules that events start."""
    waiting = [(key, row) for key, row in transaction.rows("schedule_arrivals") if row["decided_at"] is None]
    first = sorted(waiting, key=lambda one: one[1]["happened_at"])[: int(str(given["most"]))]
    found: dict[object, Row] = {}
    for key, row in first:
        schedule, cause = _pair(key)
        known = transaction.get("schedules", schedule)
        if known and known["watches"] is not None:
            told = found.setdefault(schedule, {**_seen(transaction, known), "causes": [], "moments": []})
            told["causes"].append(cause)
            told["moments"].append(row["happened_at"])
    return list(found.values())


def _seen(transaction: Transaction, row: Row) -> Row:
    """What a decider sees of a schedule."""
    return {
        **{name: row[name] for name in ("id", "pipeline_id", "config", "next_fire_at", "updated_at")},
        "is_paused": row["is_paused"] or transaction.get("data_pipelines", row["pipeline_id"])["is_paused"],
        "is_busy": any(_unfinished(transaction, row["pipeline_id"])),
    }


async def next_due(transaction: Transaction, _given: Parameters) -> list[Row]:
    """`store.next_due`."""
    moments = (row["due_at"] for _, row in transaction.rows("schedules"))
    return [{"next": min((at for at in moments if at is not None), default=None)}]


async def briefly(transaction: Transaction, given: Parameters) -> list[Row]:
    """Have the transaction ended when its client says nothing for so long."""
    transaction.patience = int(str(given["milliseconds"])) / 1000
    return []


async def advance(transaction: Transaction, given: Parameters) -> list[Row]:
    """The first statement of `store.perform`: skips what is locked."""
    return await advance_where(
        transaction, given, lambda row, expected, seen: (row["next_fire_at"], row["updated_at"]) == (expected, seen)
    )


async def advance_where(transaction: Transaction, given: Parameters, is_unchanged: IsUnchanged) -> list[Row]:
    """Let schedules that are so go on to their next moments."""
    columns: list[Any] = [given[name] for name in ("ids", "expected", "seen", "next", "due", "last")]
    advanced: list[Row] = []
    for identity, expected, seen, following, due_at, last in zip(*columns, strict=True):
        row = transaction.get("schedules", identity)
        if row and is_unchanged(row, expected, seen) and transaction.try_lock("schedules", identity):
            changed = {"next_fire_at": following, "due_at": due_at, "updated_at": transaction.now}
            changed["last_fire_at"] = last or row["last_fire_at"]
            transaction.write("schedules", identity, {**row, **changed})
            advanced.append({"id": identity})
    return advanced


async def take_arrivals(transaction: Transaction, given: Parameters) -> list[Row]:
    """The second statement of `store.perform`, where events start something."""
    columns: list[Any] = [given[name] for name in ("ids", "causes")]
    taken: list[Row] = []
    for schedule, cause in zip(*columns, strict=True):
        now = {"decided_at": transaction.now}
        row = await transaction.update("schedule_arrivals", (schedule, cause), _is_undecided, now)
        if row:
            taken.append({"schedule_id": schedule, "cause": cause, "parameters": row["parameters"]})
    return taken


def _is_undecided(row: Row) -> bool:
    return bool(row) and row["decided_at"] is None


def tell_completion(transaction: Transaction, execution: Row) -> None:
    """What the trigger does when an execution has completed."""
    if execution["dry_run"]:
        return
    watched = {f"pipeline:{execution['pipeline_id']}"}
    for key, schedule in transaction.rows("schedules"):
        place = (key, f"execution:{execution['id']}")
        if schedule["watches"] in watched and not transaction.get("schedule_arrivals", place):
            happened: Row = {"happened_at": transaction.server.now, "decided_at": None, "parameters": {}}
            transaction.write("schedule_arrivals", place, happened)


async def record(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `store.perform`: what was decided before stays."""
    columns: list[Any] = [given[name] for name in ("ids", "times", "outcomes", "reasons", "executions")]
    for identity, at, outcome, reason, execution in zip(*columns, strict=True):
        if not await transaction.lock("schedule_fires", (identity, at)):
            row = {"schedule_id": identity, "fire_time": at, "outcome": outcome, "reason": reason}
            row["execution_id"] = execution
            transaction.write("schedule_fires", (identity, at), row)
    return []


async def decided(transaction: Transaction, given: Parameters) -> list[Row]:
    """Those of some moments that are recorded."""
    columns: list[Any] = [given[name] for name in ("ids", "times")]
    return [
        {"schedule_id": identity, "fire_time": at}
        for identity, at in zip(*columns, strict=True)
        if transaction.get("schedule_fires", (identity, at))
    ]


async def known(transaction: Transaction, given: Parameters) -> list[Row]:
    """The schedule of a pipeline, locked."""
    mine = [key for key, row in transaction.rows("schedules") if row["pipeline_id"] == given["pipeline_id"]]
    rows = [await transaction.lock("schedules", key) for key in mine]
    return [{name: row[name] for name in ("id", "config", "next_fire_at", "watches", "is_paused")} for row in rows]


async def pause(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `store.set_paused`."""
    row = await transaction.lock("schedules", given["id"])
    changed = {"is_paused": given["is_paused"], "updated_at": transaction.now}
    if given["moves"]:
        changed |= {"next_fire_at": given["next"], "due_at": given["due"]}
    transaction.write("schedules", given["id"], {**row, **changed})
    return []


async def ask(transaction: Transaction, given: Parameters) -> list[Row]:
    """`watching.ask`."""
    busy = {row["subject"] for _, row in transaction.rows("work_items") if row["state"] in ("queued", "claimed")}
    meant = f"{given['kind']}:"
    waiting = [key for key, row in transaction.rows("schedules") if (row["watches"] or "").startswith(meant)]
    asked: list[Row] = []
    for key in waiting:
        if key not in busy:
            for item, row in list(transaction.rows("work_items")):
                if (row["subject"], row["kind"]) == (key, "watch"):
                    transaction.write("work_items", item, {})
            identity = UUID(int=transaction.server.weather.chance.getrandbits(128))
            transaction.write("work_items", identity, watch_item(identity, key, transaction.now))
            asked.append({"id": identity})
    return asked


async def submit(transaction: Transaction, given: Parameters) -> list[Row]:
    """`bulk.submit`: a key is used once for a pipeline."""
    columns: list[Any] = [given[name] for name in ("ids", "pipelines", "types", "keys", "held", "contexts")]
    accepted: list[Row] = []
    for place, (identity, pipeline, kind, key, held, context) in enumerate(zip(*columns, strict=True), 1):
        known = transaction.get("data_pipelines", pipeline)
        is_open = bool(known) and known["archived_at"] is None and known["is_active"]
        if is_open and not await transaction.lock("execution_keys", (pipeline, key)):
            transaction.write("execution_keys", (pipeline, key), {"execution": identity})
            created = transaction.now + timedelta(microseconds=place)
            others = {"execution_type": kind, "started_at": given["at"], "requested_by": None, "created_at": created}
            others |= {"run_after": NEVER} if held else {}
            others |= {"execution_context": orjson.loads(context)}
            accept(transaction, identity, pipeline, UUID(int=identity.int ^ 1), **others)
            accepted.append({"execution_id": identity})
    return accepted


async def let_go(transaction: Transaction, _given: Parameters) -> list[Row]:
    """`bulk.release`: the first that is held of each pipeline none of whose schedule runs."""
    first: dict[object, tuple[object, Row]] = {}
    for key, item in sorted(_held(transaction), key=lambda one: one[1]["created_at"]):
        first.setdefault(item["pipeline_id"], (key, item))
    return await let_go_of(transaction, [key for key, item in first.values() if _is_free(transaction, item)])


async def let_go_of(transaction: Transaction, keys: list[object]) -> list[Row]:
    """Let held items start."""
    changed = [await transaction.update("work_items", key, _is_queued, {"run_after": transaction.now}) for key in keys]
    return [{"id": row["id"]} for row in changed if row]


async def cancel_all(transaction: Transaction, given: Parameters) -> list[Row]:
    """`bulk.cancel`."""
    pipelines: Any = given["pipelines"]
    asked: list[Row] = []
    for pipeline in pipelines:
        for key in [key for key, row in _unfinished(transaction, pipeline) if row["cancel_requested_at"] is None]:
            found = await transaction.lock("pipeline_executions", key)
            if found["status"] == "running" and found["cancel_requested_at"] is None:
                await stop(transaction, key, found, _is_queued)
                asked.append({"execution_id": key})
    return asked


async def stop(transaction: Transaction, identity: Any, found: Row, is_waiting: Callable[[Row], bool]) -> bool:
    """Cancel a locked execution whose item waits, or else have it stopped; whether it is cancelled."""
    changed = {**found, "cancel_requested_at": transaction.now, "last_event_seq": found["last_event_seq"] + 1}
    changed["state"] = "cancelling"
    gone = {"state": "cancelled", "finished_at": transaction.now}
    for key in [key for key, row in transaction.rows("work_items") if row["subject"] == identity]:
        if found["state"] == "queued" and await transaction.update("work_items", key, is_waiting, gone):
            changed |= {"state": "cancelled", "status": "cancelled", "completed_at": transaction.now}
    transaction.write("pipeline_executions", identity, changed)
    tell(transaction, identity, changed["last_event_seq"], EventKind(f"execution_{changed['state']}"))
    return bool(changed["state"] == "cancelled")


def _is_queued(row: Row) -> bool:
    return bool(row["state"] == "queued")


def _unfinished(transaction: Transaction, pipeline: object) -> Iterator[tuple[object, Row]]:
    """What schedules started of a pipeline and has not ended."""
    for key, row in transaction.rows("pipeline_executions"):
        is_of_schedule = row["execution_type"] in OF_SCHEDULES and row["backfill_id"] is None and not row["dry_run"]
        if row["pipeline_id"] == pipeline and row["status"] == "running" and is_of_schedule:
            yield key, row


def _held(transaction: Transaction) -> Iterator[tuple[object, Row]]:
    for key, row in transaction.rows("work_items"):
        if row["state"] == "queued" and row["run_after"] == NEVER:
            yield key, row


def _is_free(transaction: Transaction, item: Row) -> bool:
    held = {row["subject"] for _, row in _held(transaction)}
    return all(key in held for key, _ in _unfinished(transaction, item["pipeline_id"]))


def _pair(key: object) -> tuple[Any, Any]:
    assert isinstance(key, tuple)
    return key[0], key[1]
