"""What each statement of the runtime does, written once more over the simulated rows.

A test runs the same work against PostgreSQL and this, and compares; a statement that has no counterpart raises.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import TextClause

from runtime.backfills import control
from runtime.executions import assignments, bulk, deadlines, records, recovery, retention
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from runtime.schedules import store as schedules
from runtime.schedules import watching
from runtime.statements import Parameters
from tests.kit.simulation import scheduling
from tests.kit.simulation.claiming import claim, waiting
from tests.kit.simulation.store import ABSENT, Answering, Row, Transaction, seconds_after

ENDED: Final = ("completed", "failed", "cancelled")
FREE: Final[Row] = {"state": "queued", "holder": None, "lease_expires_at": None}


async def beat(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.renew`: a supervisor's heartbeat."""
    return await beat_where(transaction, given, _ours({**given, "id": given["work_id"]}))


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
    ours = _ours(given)
    is_held = lambda row: ours(row) and bool(row["holder"] == given["holder"])  # noqa: E731
    back = {**FREE, "run_after": _rested(transaction, transaction.get("work_items", given["id"]))}
    return _id(await transaction.update("work_items", given["id"], is_held, back))


def _rested(transaction: Transaction, item: Row) -> object:
    """`wedsync.rested`: when an item may be claimed again."""
    if item.get("kind") != WorkKind.EXECUTION:
        return item.get("run_after")
    steps = (row for _, row in _pairs(transaction, "step_executions", item["subject"]) if row["state"] == "completed")
    fruitless = item["generation"] - max((row["generation"] for row in steps), default=0)
    if fruitless <= 2:
        return item["run_after"]
    return seconds_after(transaction, min(30, 0.25 * 2 ** (fruitless - 2)))


async def renew(transaction: Transaction, given: Parameters) -> list[Row]:
    """`queue.renew`."""
    until = {"lease_expires_at": seconds_after(transaction, given["lease_seconds"])}
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


async def beat_where(transaction: Transaction, given: Parameters, where: Callable[[Row], bool]) -> list[Row]:
    """Renew an item that is so, and tell whether its execution is to be cancelled."""
    until = {"lease_expires_at": seconds_after(transaction, given["lease_seconds"])}
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


async def take(transaction: Transaction, given: Parameters) -> list[Row]:
    """`assignments.take`."""
    generation: Any = given["generation"]
    return await take_where(transaction, given, lambda row: bool(row["generation"] < generation))


async def take_where(transaction: Transaction, given: Parameters, is_older: Callable[[Row], bool]) -> list[Row]:
    """Take an execution that is so and has not ended."""
    earlier = transaction.get("pipeline_executions", given["id"]).get("generation")
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
            "earlier_generation": earlier,
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


async def progress(transaction: Transaction, given: Parameters) -> list[Row]:
    """The last statement of `assignments.refuse_hopeless`."""
    steps = [row for _, row in _pairs(transaction, "step_executions", given["id"]) if row["state"] == "completed"]
    return [{"generation": max((row["generation"] for row in steps), default=0)}]


async def left_open(transaction: Transaction, given: Parameters) -> list[Row]:
    """`assignments.left_open`."""
    steps = _pairs(transaction, "step_executions", given["id"])
    return [{**row, "step_name": key[1]} for key, row in steps if row["state"] in ("running", "backing_off")]


async def plan(transaction: Transaction, given: Parameters) -> list[Row]:
    """The plan of a version."""
    return [{"plan": transaction.get("pipeline_versions", (given["pipeline_id"], given["version"]))["plan"]}]


async def revisions(_transaction: Transaction, given: Parameters) -> list[Row]:
    """When places changed: never."""
    return [{"id": place, "revision": "1"} for place in _list(given["ids"])]


def _held(given: Parameters) -> Callable[[Row], bool]:
    return lambda row: bool(row["generation"] == given["generation"] and row["state"] not in ENDED)


async def write(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.append`."""
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
    """`records.end`."""
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
        values |= {name: step.get(name) or 0 for name in ("records_in", "records_out")}
        values |= {"processing_time_ms": step.get("processing_time_ms")}
        values |= {"transformation_stats": step.get("transformation_stats") or {}}
        transaction.write("step_executions", key, {**kept, **values, "generation": execution["generation"]})
    for event in orjson.loads(str(given["events"])):
        seq = first + event["ordinal"]
        row = {name: event[name] for name in ("kind", "step_name", "payload", "at")}
        transaction.write("execution_events", (identity, seq, event["at"]), row)


async def written(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.is_written`."""
    found = [
        key
        for key, row in _pairs(transaction, "execution_events", given["id"])
        if (row["kind"], row["step_name"]) == (given["kind"], given["step_name"]) and _is_at(row["at"], given["at"])
    ]
    return [{"seq": key[1]} for key in found]


def _is_at(told: object, at: object) -> bool:
    """Whether a moment is that one: told by a supervisor as text, or by a client as it is."""
    return (datetime.fromisoformat(told) if isinstance(told, str) else told) == at


async def keep(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.keep`."""
    for kept in orjson.loads(str(given["kept"])):
        place = (given["id"], kept["task"])
        before = await transaction.lock("checkpoints", place)
        keeping = before["kept"] if before else given["keeping"]
        row = {"generation": given["generation"], "attempt": kept["attempt"], "kept": keeping}
        transaction.write("checkpoints", place, {**row, "blocks": kept["places"], "report": kept["report"]})
    return []


async def forget(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.forget`."""
    for place, _ in _pairs(transaction, "checkpoints", given["id"]):
        if await transaction.lock("checkpoints", place):
            transaction.write("checkpoints", place, ABSENT)
    return []


async def chain(transaction: Transaction, given: Parameters) -> list[Row]:
    """`recovery.chain`, of executions that take up no other."""
    execution = transaction.get("pipeline_executions", given["id"])
    kept = [
        {"task": key[1], **{name: row[name] for name in ("attempt", "blocks", "report")}}
        for key, row in _pairs(transaction, "checkpoints", given["id"])
    ]
    steps = [_step(key[1], row) for key, row in _pairs(transaction, "step_executions", given["id"])]
    known = {name: execution[name] for name in ("id", "execution_id", "generation")}
    return [{**known, "from_step": None, "kept": kept or None, "steps": steps or None}]


def _step(name: str, row: Row) -> Row:
    counts = {column: row[column] for column in ("state", "attempt", "records_in", "records_out")}
    return {"step": name, **counts, "ms": row["processing_time_ms"], "stats": row["transformation_stats"]}


async def keep_backfills(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """`control.keep`: there are none."""
    return [{"open": 0, "released": 0}]


async def nothing(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """What finds nothing here, or has no counterpart: what is late or stands still for minutes, and retention."""
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
    assignments: {
        "_TAKE": take,
        "_REFUSE": refuse,
        "_LEFT": left_open,
        "_PROGRESS": progress,
        "_PLAN": plan,
        "_REVISIONS": revisions,
    },
    recovery: {"_CHAIN": chain},
    records: {"_WRITE": write, "_END": end, "_WRITTEN": written, "_KEEP": keep, "_FORGET": forget, "_BEAT": beat},
    retention: {"_KEEP": nothing, "_PRUNE": nothing, "_NEEDED": nothing},
    control: {"_KEEP": keep_backfills},
    schedules: {
        "_DUE": scheduling.due,
        "_ARRIVED": nothing,
        "_NEXT": scheduling.next_due,
        "_BRIEFLY": scheduling.briefly,
        "_ADVANCE": scheduling.advance,
        "_RECORD": scheduling.record,
    },
    bulk: {"_SUBMIT": scheduling.submit, "_RELEASE": scheduling.let_go, "_CANCEL": scheduling.cancel_all},
    watching: {"_ASK": nothing},
    deadlines: {"_LATE": nothing, "_STALLED": nothing},
}


def counterparts(**replaced: Answering) -> dict[TextClause, Answering]:
    """Each statement of the runtime and what it does here; those named as their function is may be replaced."""
    pruning = dict.fromkeys(schedules._PRUNE, nothing)
    return pruning | {
        vars(module)[name]: replaced.get(answering.__name__, answering)
        for module, known in _COUNTERPARTS.items()
        for name, answering in known.items()
    }
