"""What the statements of the queue and of leases do over the simulated rows, but for the claim."""

from collections.abc import Callable
from typing import Any, Final

from runtime.queue.kinds import WorkKind
from runtime.statements import Parameters
from tests.kit.simulation.store import ABSENT, Row, Transaction, seconds_after

FREE: Final[Row] = {"state": "queued", "holder": None, "lease_expires_at": None}
WAITING: Final = ("held", "queued")


async def release_lapsed(transaction: Transaction, _given: Parameters) -> list[Row]:
    """`queue.release_lapsed`: skips what is locked."""
    return await release_where(transaction, lambda row: bool(row["lease_expires_at"] < transaction.now))


async def release_where(transaction: Transaction, is_lapsed: Callable[[Row], bool]) -> list[Row]:
    """Put claimed items back that are so."""
    lapsed = [
        key
        for key, row in transaction.rows("work_items")
        if row["state"] == "claimed" and is_lapsed(row) and not transaction.is_locked("work_items", key)
    ]
    for key in lapsed:
        row = await transaction.lock("work_items", key)
        transaction.write("work_items", key, {**row, **FREE, "run_after": _rested(transaction, row)})
    return [{"id": key} for key in lapsed]


async def release(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.release`."""
    is_ours = ours(given)
    is_held = lambda row: is_ours(row) and bool(row["holder"] == given["holder"])  # noqa: E731
    back = {**FREE, "run_after": _rested(transaction, transaction.get("work_items", given["id"]))}
    return identified(await transaction.update("work_items", given["id"], is_held, back))


def _rested(transaction: Transaction, item: Row) -> object:
    """`wedsync.rested`: when an item may be claimed again."""
    if item.get("kind") != WorkKind.EXECUTION:
        return item.get("run_after")
    steps = (row for _, row in pairs(transaction, "step_executions", item["subject"]) if row["state"] == "completed")
    fruitless = item["generation"] - max((row["generation"] for row in steps), default=0)
    if fruitless <= 2:
        return item["run_after"]
    return seconds_after(transaction, min(30, 0.25 * 2 ** (fruitless - 2)))


async def renew(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.renew`."""
    until = {"lease_expires_at": seconds_after(transaction, given["lease_seconds"])}
    return identified(await transaction.update("work_items", given["id"], ours(given), until))


async def settle(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.settle`."""
    ended = {"state": given["state"], "finished_at": transaction.now, "lease_expires_at": None}
    return identified(await transaction.update("work_items", given["id"], ours(given), ended))


async def withdraw(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.withdraw`."""
    mine = [key for key, row in transaction.rows("work_items") if row["subject"] == given["subject"]]
    gone = {"state": "cancelled", "finished_at": transaction.now}
    return [
        {"id": key}
        for key in mine
        if await transaction.update("work_items", key, lambda row: row["state"] in WAITING, gone)
    ]


async def hold(transaction: Transaction, given: Parameters) -> list[Row]:
    """`leases.hold`."""
    name, holder = given["name"], given["holder"]
    known = await transaction.lock("leases", name)
    is_mine = bool(known) and known["holder"] == holder
    if known and not is_mine and known["expires_at"] >= transaction.now:
        return []
    generation = known.get("generation", 0) + (0 if is_mine else 1)
    acquired = known["acquired_at"] if is_mine else transaction.now
    until = seconds_after(transaction, given["seconds"])
    row = {"holder": holder, "generation": generation, "acquired_at": acquired, "expires_at": until}
    transaction.write("leases", name, row)
    return [{"generation": generation}]


async def drop(transaction: Transaction, given: Parameters) -> list[Row]:
    """`leases.drop`."""
    known = await transaction.lock("leases", given["name"])
    if known and known["holder"] == given["holder"]:
        transaction.write("leases", given["name"], ABSENT)
    return []


def ours(given: Parameters) -> Callable[[Row], bool]:
    """Whether an item is claimed with this generation."""
    return lambda row: bool(row and row["generation"] == given["generation"] and row["state"] == "claimed")


def identified(row: Row) -> list[Row]:
    """An answer of an id, if there is a row."""
    return [{"id": row["id"]}] if row else []


def pairs(transaction: Transaction, table: str, first: object) -> list[tuple[Any, Row]]:
    """The rows of a table whose keys begin so."""
    return [(key, row) for key, row in transaction.rows(table) if isinstance(key, tuple) and key[0] == first]
