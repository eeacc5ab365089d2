"""What the statements of backfills do over the simulated rows: chunks wait, are let go, and backfills finish."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from models.errors import Conflict
from models.events import EventKind
from runtime.statements import Parameters
from tests.kit.simulation.queueing import WAITING
from tests.kit.simulation.scheduling import stop
from tests.kit.simulation.store import BEGINNING, Row, Transaction
from tests.kit.simulation.submissions import BY, VERSION, accept

GOING: Final = ("queued", "claimed")
OPEN: Final = ("held", *GOING)
ENDED: Final = ("completed", "failed", "cancelled")


def request_of(identity: UUID, pipeline: UUID, ids: Sequence[UUID], bounds: Sequence[str], most: int) -> Row:
    """The parameters of a request: chunks of these ids between these bounds, so many at once."""
    return {
        "id": identity,
        "pipeline_id": pipeline,
        "version": VERSION,
        "chunk": "1d",
        "most_at_once": most,
        "range_start": BEGINNING,
        "range_end": BEGINNING + timedelta(days=1),
        "priority": -10,
        "parameters": "{}",
        "of": len(ids),
        "by": BY,
        "now": BEGINNING,
        "ids": list(ids),
        "names": [f"exec-{one}" for one in ids],
        "starts": list(bounds[:-1]),
        "ends": list(bounds[1:]),
        "keys": [f"backfill:{one}" for one in bounds[:-1]],
        "execution_type": "triggered",
        "kind": EventKind.EXECUTION_QUEUED.value,
        "work": "execution",
    }


async def request(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `requests.request`: a backfill, and an execution of each chunk."""
    if await transaction.lock("backfills", given["id"]):
        raise Conflict("duplicate key value violates unique constraint", hint="ask for another")
    keys: Any = given["keys"]
    columns: list[Any] = [given[name] for name in ("ids", "starts", "ends")]
    pipeline: Any = given["pipeline_id"]
    now: Any = given["now"]
    most: Any = given["most_at_once"]
    chunks = [
        (key, chunk)
        for key, chunk in zip(keys, zip(*columns, strict=True), strict=True)
        if not transaction.get("execution_keys", (pipeline, key))
    ]
    backfill = {"id": given["id"], "pipeline_id": pipeline, "state": "running", "finished_at": None}
    transaction.write("backfills", given["id"], {**backfill, "most_at_once": most, "total": len(chunks)})
    for place, (key, (identity, start, end)) in enumerate(chunks, 1):
        transaction.write("execution_keys", (pipeline, key), {"execution": identity})
        at = now + timedelta(microseconds=place)
        context = {"parameters": {}, "date_range": {"start": start, "end": end}}
        others = {"execution_type": given["execution_type"], "started_at": at, "created_at": at, "run_after": now}
        others |= {"backfill_id": given["id"], "priority": given["priority"], "execution_context": context}
        accept(transaction, identity, pipeline, UUID(int=identity.int ^ 1), held=place > most, **others)
    return []


async def keep_backfills(transaction: Transaction, given: Parameters) -> list[Row]:
    """`control.keep`: skips what is locked, and looks at the items once."""
    return await keep_where(transaction, given)


async def keep_where(
    transaction: Transaction, _given: Parameters, going: Sequence[str] = GOING, unfinished_states: Sequence[str] = OPEN
) -> list[Row]:
    """Let chunks go while so few are in these states, and finish backfills none of whose chunks is in those."""
    unfinished = [key for key, row in transaction.rows("backfills") if row["finished_at"] is None]
    mine = [key for key in unfinished if transaction.try_lock("backfills", key)]
    released = finished = 0
    for key in mine:
        row, items = transaction.get("backfills", key), list(_items(transaction, key))
        if not any(item["state"] in unfinished_states for _, item in items):
            now = {"state": _ended(transaction, key, row), "finished_at": transaction.now}
            transaction.write("backfills", key, {**row, **now})
            finished += 1
        elif row["state"] == "running" and _may_start(transaction, row):
            for item in _next(row, items, going):
                queued = {"state": "queued", "run_after": transaction.now}
                released += bool(await transaction.update("work_items", item, _is_held, queued))
    return [{"open": len(mine) - finished, "released": released}]


def _next(backfill: Row, items: list[tuple[object, Row]], states: Sequence[str]) -> list[object]:
    going = sum(item["state"] in states for _, item in items)
    held = sorted((one for one in items if one[1]["state"] == "held"), key=lambda one: one[1]["created_at"])
    return [key for key, _ in held][: max(0, backfill["most_at_once"] - going)]


def _ended(transaction: Transaction, backfill: object, row: Row) -> str:
    if row["state"] == "cancelled":
        return "cancelled"
    executions = transaction.rows("pipeline_executions")
    states = {one["state"] for _, one in executions if one["backfill_id"] == backfill}
    return "failed" if states - {"completed"} else "completed"


def _may_start(transaction: Transaction, backfill: Row) -> bool:
    pipeline = transaction.get("data_pipelines", backfill["pipeline_id"])
    return bool(pipeline["is_active"] and not pipeline["is_paused"] and pipeline["archived_at"] is None)


async def standing(transaction: Transaction, given: Parameters) -> list[Row]:
    """The state of a backfill, locked."""
    row = await transaction.lock("backfills", given["id"])
    return [{"state": row["state"], "finished_at": row["finished_at"]}] if row else []


async def move(transaction: Transaction, given: Parameters) -> list[Row]:
    """Set the state of a backfill."""
    row = await transaction.lock("backfills", given["id"])
    transaction.write("backfills", given["id"], {**row, "state": given["state"]})
    return []


async def hold_back(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `control.pause`: executions are locked before their items."""
    executions = [row for _, row in transaction.rows("pipeline_executions") if row["backfill_id"] == given["id"]]
    for execution in sorted((row["id"] for row in executions if _is_queued(row)), key=str):
        if _is_queued(await transaction.lock("pipeline_executions", execution)):
            for item in [key for key, one in transaction.rows("work_items") if one["subject"] == execution]:
                await transaction.update("work_items", item, _is_queued, {"state": "held"})
    return []


async def cancel_backfill(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `control.cancel`: executions are locked before their items."""
    executions = transaction.rows("pipeline_executions")
    wanted = sorted((key for key, row in executions if row["backfill_id"] == given["id"]), key=str)
    mine = [(key, row) for key in wanted if _goes_on(row := await transaction.lock("pipeline_executions", key))]
    told: list[Row] = []
    for key, row in mine:
        if not await stop(transaction, key, row, _is_waiting):
            told.append({"id": key})
    return told


def _items(transaction: Transaction, backfill: object) -> Iterator[tuple[object, Row]]:
    return ((key, row) for key, row in transaction.rows("work_items") if row["backfill_id"] == backfill)


def _goes_on(row: Row) -> bool:
    return row["cancel_requested_at"] is None and row["state"] not in ENDED


def _is_held(row: Row) -> bool:
    return bool(row["state"] == "held")


def _is_waiting(row: Row) -> bool:
    return row["state"] in WAITING


def _is_queued(row: Row) -> bool:
    return bool(row["state"] == "queued")
