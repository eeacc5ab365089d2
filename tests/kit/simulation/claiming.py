"""What `wedsync.claim_work` does over the simulated rows: limits of pipelines and of pools, priorities, and turns."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeAlias

from runtime.queue.kinds import WorkKind
from runtime.statements import Parameters
from tests.kit.simulation.store import Row, Transaction, seconds_after

Lane: TypeAlias = tuple[str, object]
"""A pool and a pipeline."""

IsTaken: TypeAlias = Callable[[str, object], bool]


async def claim(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.claim`: skips what is locked."""
    return await claim_from(transaction, given, transaction.is_locked)


async def claim_from(
    transaction: Transaction, given: Parameters, is_taken: IsTaken, rise: int = 1, *, alone: bool = True
) -> list[Row]:
    """Claim what is not taken, and raise its generation by `rise`; who counts is `alone` with the limits."""
    picked: list[object] = []
    executions, others = int(str(given["executions"])), int(str(given["others"]))
    if executions > 0:
        lanes = [lane for lane in _open_lanes(transaction, executions) if not alone or _counts_alone(transaction, lane)]
        shares = Counter(_lane(row) for _, row in _next_in(transaction, lanes, executions))
        for lane, share in shares.items():
            waiting = (item for item in _waiting(transaction) if _lane(item[1]) == lane)
            picked += _free(waiting, is_taken)[:share]
    if others > 0:
        picked += _free(_waiting(transaction, of_executions=False), is_taken)[:others]
    claimed = [await _claimed(transaction, given, key, rise) for key in picked]
    await _turn(transaction, claimed)
    return claimed


async def waiting(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.waiting`."""
    most = int(str(given["most"]))
    found = list(_next_in(transaction, _open_lanes(transaction, most), most))
    waited = max(((transaction.now - row["run_after"]).total_seconds() for _, row in found), default=0)
    return [{"waiting": len(found), "waited": waited}]


async def _claimed(transaction: Transaction, given: Parameters, key: object, rise: int) -> Row:
    row = await transaction.lock("work_items", key)
    changed = {
        **row,
        "state": "claimed",
        "holder": given["holder"],
        "generation": row["generation"] + rise,
        "attempts": row["attempts"] + 1,
        "lease_expires_at": seconds_after(transaction, given["lease_seconds"]),
    }
    transaction.write("work_items", key, changed)
    return changed


async def _turn(transaction: Transaction, claimed: list[Row]) -> None:
    """Note that these pipelines had their turn; a turn that somebody else notes is left to them."""
    pipelines = dict.fromkeys(row["pipeline_id"] for row in claimed if row["kind"] == WorkKind.EXECUTION)
    known = {one for one in pipelines if transaction.get("pipeline_turns", one)}
    for pipeline in pipelines:
        if pipeline in known and transaction.is_locked("pipeline_turns", pipeline):
            continue
        before = await transaction.lock("pipeline_turns", pipeline)
        if pipeline in known or not before:
            transaction.write("pipeline_turns", pipeline, {"taken_at": transaction.server.now})


def _lane(row: Row) -> Lane:
    return row["pool"], row["pipeline_id"]


def _free(waiting: Iterator[tuple[object, Row]], is_taken: IsTaken) -> list[object]:
    ordered = sorted(waiting, key=lambda item: (-item[1]["priority"], item[1]["created_at"]))
    return [key for key, _ in ordered if not is_taken("work_items", key)]


def _waiting(transaction: Transaction, *, of_executions: bool = True) -> Iterator[tuple[object, Row]]:
    for key, row in transaction.rows("work_items"):
        is_ready = row["state"] == "queued" and row["run_after"] <= transaction.now
        if is_ready and (row["kind"] == WorkKind.EXECUTION) is of_executions:
            yield key, row


def _running(transaction: Transaction) -> Counter[Lane]:
    return Counter(
        _lane(row)
        for _, row in transaction.rows("work_items")
        if row["state"] == "claimed" and row["kind"] == WorkKind.EXECUTION
    )


def _limits(transaction: Transaction, lane: Lane) -> tuple[int | None, int | None]:
    """How many may run in the pool, and of the pipeline."""
    pool = transaction.get("concurrency_pools", lane[0])
    return pool.get("slots"), transaction.get("data_pipelines", lane[1]).get("max_active")


def _counts_alone(transaction: Transaction, lane: Lane) -> bool:
    """Take the locks on the limits of a lane, which last until the commit; False where somebody else has one."""
    for name, limit in zip(lane, _limits(transaction, lane), strict=True):
        if limit is not None and not transaction.try_lock("limits", name):
            return False
    return True


def _open_lanes(transaction: Transaction, most: int) -> list[Lane]:
    """The lanes whose first item may be claimed, the one whose turn it is first."""
    running, heads = _running(transaction), dict[Lane, Row]()
    for _, row in _waiting(transaction):
        lane = _lane(row)
        if lane not in heads or _urgency(row) < _urgency(heads[lane]):
            heads[lane] = row
    found: list[Lane] = []
    in_pool: Counter[str] = Counter()
    turns = {lane: _turn_of(transaction, running, row, 0) for lane, row in heads.items()}
    for lane in sorted(turns, key=lambda one: (turns[one], str(one[1]))):
        (slots, most_active), (pooled, active) = _limits(transaction, lane), _counted(running, lane)
        if most_active is not None and active >= most_active:
            continue
        in_pool[lane[0]] += 1
        if slots is None or pooled + in_pool[lane[0]] <= slots:
            found.append(lane)
    return found[:most]


def _next_in(transaction: Transaction, lanes: list[Lane], most: int) -> list[tuple[object, Row]]:
    """The next executions of these lanes, as limits allow."""
    running, wanted = _running(transaction), set(lanes)
    places: Counter[object] = Counter()
    ready: list[tuple[Any, object, Row]] = []
    for key, row in sorted(_waiting(transaction), key=lambda item: _urgency(item[1])):
        lane = _lane(row)
        if lane in wanted:
            places[lane[1]] += 1
            place = places[lane[1]]
            most_active = _limits(transaction, lane)[1]
            if most_active is None or _counted(running, lane)[1] + place <= most_active:
                ready.append((_turn_of(transaction, running, row, place), key, row))
    found: list[tuple[object, Row]] = []
    in_pool: Counter[str] = Counter()
    for _, key, row in sorted(ready, key=lambda one: one[0]):
        lane = _lane(row)
        in_pool[lane[0]] += 1
        slots = _limits(transaction, lane)[0]
        if slots is None or _counted(running, lane)[0] + in_pool[lane[0]] <= slots:
            found.append((key, row))
    return found[:most]


def _urgency(row: Row) -> tuple[int, datetime]:
    return -row["priority"], row["created_at"]


def _counted(running: Counter[Lane], lane: Lane) -> tuple[int, int]:
    """How many run in the pool, and of the pipeline."""
    pooled = sum(count for (pool, _), count in running.items() if pool == lane[0])
    return pooled, sum(count for (_, pipeline), count in running.items() if pipeline == lane[1])


def _turn_of(transaction: Transaction, running: Counter[Lane], row: Row, place: int) -> Any:
    """By what turns are dealt out: urgency, how many run, when the last turn was, how long it waits."""
    taken_at = transaction.get("pipeline_turns", row["pipeline_id"]).get("taken_at")
    turn = (taken_at is not None, taken_at or row["created_at"])
    return -row["priority"], _counted(running, _lane(row))[1] + place, turn, row["created_at"]
