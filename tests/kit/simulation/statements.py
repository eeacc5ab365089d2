"""What each statement of the runtime does, written once more over the simulated rows.

A test runs the same work against PostgreSQL and this, and compares; a statement that has no counterpart raises.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import TextClause

from runtime.cluster import actors
from runtime.executions import assignments, journal, retention
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.statements import Parameters
from tests.kit.simulation.store import ABSENT, Answering, Row, Transaction

ENDED: Final = ("completed", "failed", "cancelled")
FREE: Final[Row] = {"state": "queued", "holder": None, "lease_expires_at": None}


def _after(transaction: Transaction, seconds: object) -> object:
    return transaction.now + timedelta(seconds=float(str(seconds)))


def _urgent(row: Row) -> tuple[int, object]:
    return -row["priority"], row["created_at"]


async def claim(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.claim`: skips what is locked."""
    return await claim_from(transaction, given, transaction.is_locked)


async def claim_from(
    transaction: Transaction, given: Parameters, is_taken: Callable[[str, object], bool], rise: int = 1
) -> list[Row]:
    """Claim what is not taken, and raise its generation by `rise`."""
    kinds: Any = given["kinds"]
    claimed: list[Row] = []
    for mine, limit in ((True, given["limit"]), (False, given["others"])):
        waiting = [
            (key, row)
            for key, row in transaction.rows("work_items")
            if row["state"] == "queued" and row["run_after"] <= transaction.now and (row["kind"] in kinds) is mine
        ]
        free = [key for key, _ in sorted(waiting, key=lambda item: _urgent(item[1])) if not is_taken("work_items", key)]
        for key in free[: int(str(limit))]:
            row = await transaction.lock("work_items", key)
            changed = {
                **row,
                "state": "claimed",
                "holder": given["holder"],
                "generation": row["generation"] + rise,
                "attempts": row["attempts"] + 1,
                "lease_expires_at": _after(transaction, given["lease_seconds"]),
            }
            transaction.write("work_items", key, changed)
            claimed.append(changed)
    return claimed


async def waiting(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.waiting`."""
    found = [
        row
        for _, row in transaction.rows("work_items")
        if row["state"] == "queued" and row["kind"] == given["kind"] and row["run_after"] <= transaction.now
    ]
    first = sorted(found, key=_urgent)[: int(str(given["most"]))]
    waited = max(((transaction.now - row["run_after"]).total_seconds() for row in first), default=0)
    return [{"waiting": len(first), "waited": waited}]


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
        transaction.write("work_items", key, {**await transaction.lock("work_items", key), **FREE})
    return [{"id": key} for key in lapsed]


async def release(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.release`."""
    ours = _ours(given)
    is_held = lambda row: ours(row) and bool(row["holder"] == given["holder"])  # noqa: E731
    return _id(await transaction.update("work_items", given["id"], is_held, FREE))


async def renew(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.renew`."""
    until = {"lease_expires_at": _after(transaction, given["lease_seconds"])}
    return _id(await transaction.update("work_items", given["id"], _ours(given), until))


async def settle(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.settle`."""
    ended = {"state": given["state"], "finished_at": transaction.now, "lease_expires_at": None}
    return _id(await transaction.update("work_items", given["id"], _ours(given), ended))


async def withdraw(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.withdraw`."""
    mine = [key for key, row in transaction.rows("work_items") if row["subject"] == given["subject"]]
    gone = {"state": "cancelled", "finished_at": transaction.now}
    return [
        {"id": key}
        for key in mine
        if await transaction.update("work_items", key, lambda row: bool(row["state"] == "queued"), gone)
    ]


async def beat(transaction: Transaction, given: Parameters) -> list[Row]:
    """A supervisor's heartbeat."""
    return await beat_where(transaction, given, _ours({**given, "id": given["work_id"]}))


async def beat_where(transaction: Transaction, given: Parameters, where: Callable[[Row], bool]) -> list[Row]:
    """Renew an item that is so, and tell whether its execution is to be cancelled."""
    until = {"lease_expires_at": _after(transaction, given["lease_seconds"])}
    if not await transaction.update("work_items", given["work_id"], where, until):
        return []
    execution = transaction.get("pipeline_executions", given["id"])
    return [{"cancelling": execution["cancel_requested_at"] is not None}]


async def hold(transaction: Transaction, given: Parameters) -> list[Row]:
    """`leases.hold`."""
    name, holder = given["name"], given["holder"]
    known = await transaction.lock("leases", name)
    is_mine = bool(known) and known["holder"] == holder
    if known and not is_mine and known["expires_at"] >= transaction.now:
        return []
    generation = known.get("generation", 0) + (0 if is_mine else 1)
    acquired = known["acquired_at"] if is_mine else transaction.now
    until = _after(transaction, given["seconds"])
    row = {"holder": holder, "generation": generation, "acquired_at": acquired, "expires_at": until}
    transaction.write("leases", name, row)
    return [{"generation": generation}]


async def drop(transaction: Transaction, given: Parameters) -> list[Row]:
    """`leases.drop`."""
    known = await transaction.lock("leases", given["name"])
    if known and known["holder"] == given["holder"]:
        transaction.write("leases", given["name"], ABSENT)
    return []


async def take(transaction: Transaction, given: Parameters) -> list[Row]:
    """`assignments.take`."""
    generation: Any = given["generation"]
    return await take_where(transaction, given, lambda row: bool(row["generation"] < generation))


async def take_where(transaction: Transaction, given: Parameters, is_older: Callable[[Row], bool]) -> list[Row]:
    """Take an execution that is so and has not ended."""
    taken = await transaction.update(
        "pipeline_executions",
        given["id"],
        lambda row: bool(row) and is_older(row) and row["state"] not in ENDED,
        {"generation": given["generation"]},
    )
    if not taken:
        return []
    is_cancelling = taken["cancel_requested_at"] is not None
    state = taken["state"] if is_cancelling else "starting"
    transaction.write("pipeline_executions", given["id"], {**taken, "state": state})
    version = transaction.get("pipeline_versions", (taken["pipeline_id"], taken["version"]))
    cursors = {key[1]: row["cursor"] for key, row in _pairs(transaction, "pipeline_cursors", taken["pipeline_id"])}
    return [
        {
            **{name: taken[name] for name in ("pipeline_id", "version", "started_at", "execution_context", "dry_run")},
            "cancelling": is_cancelling,
            "fingerprint": version["fingerprint"],
            "cursors": cursors or None,
            "revisions": {str(place): "1" for place in _list(given["places"])} or None,
        }
    ]


async def refuse(transaction: Transaction, given: Parameters) -> list[Row]:
    """`assignments.hold_to_refuse`."""
    generation: Any = given["generation"]
    held = await transaction.update(
        "pipeline_executions",
        given["id"],
        lambda row: bool(row["generation"] <= generation and row["state"] not in ENDED),
        {"generation": generation},
    )
    return [{"pipeline_id": held["pipeline_id"]}] if held else []


async def plan(transaction: Transaction, given: Parameters) -> list[Row]:
    """The plan of a version."""
    return [{"plan": transaction.get("pipeline_versions", (given["pipeline_id"], given["version"]))["plan"]}]


async def revisions(_transaction: Transaction, given: Parameters) -> list[Row]:
    """When places changed: never."""
    return [{"id": place, "revision": "1"} for place in _list(given["ids"])]


def _held(given: Parameters) -> Callable[[Row], bool]:
    return lambda row: bool(row["generation"] == given["generation"] and row["state"] not in ENDED)


async def write(transaction: Transaction, given: Parameters) -> list[Row]:
    """`journal.Journal.flush`."""
    return await write_where(transaction, given, _held(given))


async def write_where(
    transaction: Transaction,
    given: Parameters,
    where: Callable[[Row], bool],
    lasting_states: Sequence[str] = ("cancelling",),
) -> list[Row]:
    """Write what happened in an execution that is so; its state stays where it is one of the lasting ones."""
    found = await _advanced(transaction, given, where)
    if not found:
        return []
    state = found["state"] if found["state"] in lasting_states else given["state"] or found["state"]
    transaction.write("pipeline_executions", given["id"], {**found, "state": state})
    await _happened(transaction, given, found)
    return [{"last_event_seq": found["last_event_seq"]}]


async def end(transaction: Transaction, given: Parameters) -> list[Row]:
    """`journal.Journal.finish`."""
    return await end_where(transaction, given, _held(given), lambda row: bool(row["generation"] == given["generation"]))


async def end_where(
    transaction: Transaction, given: Parameters, where: Callable[[Row], bool], is_ours: Callable[[Row], bool]
) -> list[Row]:
    """End an execution that is so, and its work item, if that is ours."""
    found = await _advanced(transaction, given, where)
    if not found:
        return []
    ended = {**found, "state": given["state"], "status": given["state"], "completed_at": given["at"]}
    transaction.write("pipeline_executions", given["id"], ended)
    await _happened(transaction, given, found)
    for step, cursor in orjson.loads(str(given["cursors"])).items():
        transaction.write("pipeline_cursors", (given["pipeline_id"], step), {"cursor": cursor["value"]})
    for landed in orjson.loads(str(given["commits"])):
        place = (given["id"], landed["step_name"], landed["partition"])
        if not await transaction.lock("commit_ledger", place):
            transaction.write("commit_ledger", place, {"rows": landed["rows"]})
    done = {"state": "done", "finished_at": transaction.now, "lease_expires_at": None}
    return _id(await transaction.update("work_items", given["work_id"], is_ours, done))


async def _advanced(transaction: Transaction, given: Parameters, where: Callable[[Row], bool]) -> Row:
    identity = given["id"]
    found = await transaction.update("pipeline_executions", identity, where, {})
    return {**found, "last_event_seq": found["last_event_seq"] + given["count"]} if found else ABSENT


async def _happened(transaction: Transaction, given: Parameters, execution: Row) -> None:
    identity, first = given["id"], execution["last_event_seq"] - int(str(given["count"]))
    for step in orjson.loads(str(given["steps"])):
        key = (identity, step["step_name"])
        before = await transaction.lock("step_executions", key)
        kept = {"started_at": before["started_at"]} if before else {"started_at": step["started_at"]}
        values = {name: step[name] for name in ("state", "status", "attempt", "completed_at")}
        transaction.write("step_executions", key, {**kept, **values, "generation": execution["generation"]})
    for event in orjson.loads(str(given["events"])):
        seq = first + event["ordinal"]
        row = {name: event[name] for name in ("kind", "step_name", "payload", "at")}
        transaction.write("execution_events", (identity, seq, event["at"]), row)


async def nothing(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """What has no counterpart here: retention."""
    return []


def _ours(given: Parameters) -> Callable[[Row], bool]:
    return lambda row: bool(row and row["generation"] == given["generation"] and row["state"] == "claimed")


def _id(row: Row) -> list[Row]:
    return [{"id": row["id"]}] if row else []


def _list(value: object) -> list[UUID]:
    return list(value) if isinstance(value, list | tuple | set) else []


def _pairs(transaction: Transaction, table: str, first: object) -> list[tuple[Any, Row]]:
    return [(key, row) for key, row in transaction.rows(table) if isinstance(key, tuple) and key[0] == first]


_COUNTERPARTS: Final[Mapping[Any, Mapping[str, Answering]]] = {
    queue: {
        "_CLAIM": claim,
        "_WAITING": waiting,
        "_RELEASE_LAPSED": release_lapsed,
        "_RELEASE": release,
        "_WITHDRAW": withdraw,
        "_RENEW": renew,
        "_SETTLE": settle,
        "_PRUNE": nothing,
    },
    leases: {"_HOLD": hold, "_DROP": drop},
    assignments: {"_TAKE": take, "_REFUSE": refuse, "_PLAN": plan, "_REVISIONS": revisions},
    journal: {"_WRITE": write, "_END": end},
    actors: {"_BEAT": beat},
    retention: {"_KEEP": nothing},
}


def counterparts(**replaced: Answering) -> dict[TextClause, Answering]:
    """Each statement of the runtime and what it does here; those named as their function is may be replaced."""
    return {
        vars(module)[name]: replaced.get(answering.__name__, answering)
        for module, known in _COUNTERPARTS.items()
        for name, answering in known.items()
    }
