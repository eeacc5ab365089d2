"""What the statements of a scheduler do over the simulated rows: moments are decided, and executions come of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from models.events import EventKind
from runtime.statements import Parameters
from tests.kit.simulation.store import Row, Transaction
from tests.kit.simulation.submissions import accept, tell

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
    return [
        {
            **{name: row[name] for name in ("id", "pipeline_id", "config", "next_fire_at", "updated_at")},
            "is_paused": row["is_paused"] or transaction.get("data_pipelines", row["pipeline_id"])["is_paused"],
            "is_busy": any(_unfinished(transaction, row["pipeline_id"])),
        }
        for row in first
    ]


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


async def record(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `store.perform`: what was decided before stays."""
    columns: list[Any] = [given[name] for name in ("ids", "times", "outcomes", "reasons", "executions")]
    for identity, at, outcome, reason, execution in zip(*columns, strict=True):
        if not await transaction.lock("schedule_fires", (identity, at)):
            row = {"schedule_id": identity, "fire_time": at, "outcome": outcome, "reason": reason}
            row["execution_id"] = execution
            transaction.write("schedule_fires", (identity, at), row)
    return []


async def submit(transaction: Transaction, given: Parameters) -> list[Row]:
    """`bulk.submit`: a key is used once for a pipeline."""
    columns: list[Any] = [given[name] for name in ("ids", "pipelines", "types", "keys", "held")]
    accepted: list[Row] = []
    for place, (identity, pipeline, kind, key, held) in enumerate(zip(*columns, strict=True), 1):
        known = transaction.get("data_pipelines", pipeline)
        is_open = bool(known) and known["archived_at"] is None and known["is_active"]
        if is_open and not await transaction.lock("execution_keys", (pipeline, key)):
            transaction.write("execution_keys", (pipeline, key), {"execution": identity})
            created = transaction.now + timedelta(microseconds=place)
            others = {"execution_type": kind, "started_at": given["at"], "requested_by": None, "created_at": created}
            others |= {"run_after": NEVER} if held else {}
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
                await _cancelled(transaction, key, found)
                asked.append({"execution_id": key})
    return asked


async def _cancelled(transaction: Transaction, identity: Any, found: Row) -> None:
    changed = {**found, "cancel_requested_at": transaction.now, "last_event_seq": found["last_event_seq"] + 1}
    changed["state"] = "cancelling"
    gone = {"state": "cancelled", "finished_at": transaction.now}
    for key in [key for key, row in transaction.rows("work_items") if row["subject"] == identity]:
        if found["state"] == "queued" and await transaction.update("work_items", key, _is_queued, gone):
            changed |= {"state": "cancelled", "status": "cancelled", "completed_at": transaction.now}
    transaction.write("pipeline_executions", identity, changed)
    tell(transaction, identity, changed["last_event_seq"], EventKind(f"execution_{changed['state']}"))


def _is_queued(row: Row) -> bool:
    return bool(row["state"] == "queued")


def _unfinished(transaction: Transaction, pipeline: object) -> Iterator[tuple[object, Row]]:
    """What schedules started of a pipeline and has not ended."""
    for key, row in transaction.rows("pipeline_executions"):
        if row["pipeline_id"] == pipeline and row["status"] == "running" and row["execution_type"] in OF_SCHEDULES:
            yield key, row


def _held(transaction: Transaction) -> Iterator[tuple[object, Row]]:
    for key, row in transaction.rows("work_items"):
        if row["state"] == "queued" and row["run_after"] == NEVER:
            yield key, row


def _is_free(transaction: Transaction, item: Row) -> bool:
    held = {row["subject"] for _, row in _held(transaction)}
    return all(key in held for key, _ in _unfinished(transaction, item["pipeline_id"]))
