"""What each statement of the runtime does, written once more over the simulated rows.

A test runs the same work against PostgreSQL and this, and compares; a statement that has no counterpart raises.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import ModuleType
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import TextClause

from runtime.backfills import control, requests
from runtime.executions import assignments, bulk, deadlines, records, recovery, retention
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.schedules import store as schedules
from runtime.schedules import watching
from runtime.statements import Parameters
from tests.kit.simulation import backfilling, queueing, scheduling
from tests.kit.simulation.claiming import claim, waiting
from tests.kit.simulation.queueing import identified, ours, pairs
from tests.kit.simulation.store import ABSENT, Answering, Row, Transaction, seconds_after

ENDED: Final = ("completed", "failed", "cancelled")


async def beat(transaction: Transaction, given: Parameters) -> list[Row]:
    """`records.renew`: a supervisor's heartbeat."""
    return await beat_where(transaction, given, ours({**given, "id": given["work_id"]}))


async def beat_where(transaction: Transaction, given: Parameters, where: Callable[[Row], bool]) -> list[Row]:
    """Renew an item that is so, and tell whether its execution is to be cancelled."""
    until = {"lease_expires_at": seconds_after(transaction, given["lease_seconds"])}
    if not await transaction.update("work_items", given["work_id"], where, until):
        return []
    execution = transaction.get("pipeline_executions", given["id"])
    return [{"cancelling": execution["cancel_requested_at"] is not None}]


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
    cursors = {
        key[1]: row["cursor"].get("value") for key, row in pairs(transaction, "pipeline_cursors", taken["pipeline_id"])
    }
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
    steps = [row for _, row in pairs(transaction, "step_executions", given["id"]) if row["state"] == "completed"]
    return [{"generation": max((row["generation"] for row in steps), default=0)}]


async def left_open(transaction: Transaction, given: Parameters) -> list[Row]:
    """`assignments.left_open`."""
    steps = pairs(transaction, "step_executions", given["id"])
    left = [
        {"step_name": key[1], "attempt": row["attempt"], "started_at": datetime.fromisoformat(row["started_at"])}
        for key, row in steps
        if row["state"] in ("running", "backing_off")
    ]
    return sorted(left, key=lambda row: (row["started_at"], row["step_name"]))


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
    if given["state"] == "completed":
        scheduling.tell_completion(transaction, ended)
    await _happened(transaction, given, found)
    for step, cursor in orjson.loads(str(given["cursors"])).items():
        known = await transaction.lock("pipeline_cursors", (given["pipeline_id"], step))
        if not known or _goes_forward(known["cursor"].get("rank"), cursor.get("rank")):
            transaction.write("pipeline_cursors", (given["pipeline_id"], step), {"cursor": cursor})
    for landed in orjson.loads(str(given["commits"])):
        place = (given["id"], landed["step_name"], landed["partition"])
        if not await transaction.lock("commit_ledger", place):
            transaction.write("commit_ledger", place, {"rows": landed["rows"]})
    done = {"state": "done", "finished_at": transaction.now, "lease_expires_at": None}
    return identified(await transaction.update("work_items", given["work_id"], is_ours, done))


def _goes_forward(known: Any, rank: Any) -> bool:
    return type(known) is not type(rank) or (rank is not None and known <= rank)


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
        for key, row in pairs(transaction, "execution_events", given["id"])
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
    for place, _ in pairs(transaction, "checkpoints", given["id"]):
        if await transaction.lock("checkpoints", place):
            transaction.write("checkpoints", place, ABSENT)
    return []


async def chain(transaction: Transaction, given: Parameters) -> list[Row]:
    """`recovery.chain`."""
    found: list[Row] = []
    identity: Any = given["id"]
    while identity is not None:
        execution = transaction.get("pipeline_executions", identity)
        found.append(_link(transaction, identity, execution))
        earlier = execution["execution_context"].get("retry_of")
        identity = None if earlier is None else UUID(str(earlier))
    return found


def _link(transaction: Transaction, identity: UUID, execution: Row) -> Row:
    kept = [
        {"task": key[1], **{name: row[name] for name in ("attempt", "blocks", "report")}}
        for key, row in pairs(transaction, "checkpoints", identity)
    ]
    steps = [_step(key[1], row) for key, row in pairs(transaction, "step_executions", identity)]
    known = {name: execution[name] for name in ("id", "execution_id", "generation")}
    from_step = execution["execution_context"].get("from_step")
    return {**known, "from_step": from_step, "kept": kept or None, "steps": steps or None}


def _step(name: str, row: Row) -> Row:
    counts = {column: row[column] for column in ("state", "attempt", "records_in", "records_out")}
    return {"step": name, **counts, "ms": row["processing_time_ms"], "stats": row["transformation_stats"]}


async def nothing(_transaction: Transaction, _given: Parameters) -> list[Row]:
    """What finds nothing here, or has no counterpart: what is late or stands still for minutes, and retention."""
    return []


def _list(value: object) -> list[UUID]:
    return list(value) if isinstance(value, list | tuple | set) else []


_COUNTERPARTS: Final[Mapping[ModuleType, Mapping[str, Answering]]] = {
    queue: {
        "_CLAIM": claim,
        "_WAITING": waiting,
        "_RELEASE_LAPSED": queueing.release_lapsed,
        "_RELEASE": queueing.release,
        "_WITHDRAW": queueing.withdraw,
        "_RENEW": queueing.renew,
        "_SETTLE": queueing.settle,
        "_PRUNE": nothing,
    },
    leases: {"_HOLD": queueing.hold, "_DROP": queueing.drop},
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
    control: {
        "_KEEP": backfilling.keep_backfills,
        "_STATE": backfilling.standing,
        "_MOVE": backfilling.move,
        "_HOLD": backfilling.hold_back,
        "_CANCEL": backfilling.cancel_backfill,
    },
    requests: {"_INSERT": backfilling.request},
    schedules: {
        "_DUE": scheduling.due,
        "_ARRIVED": scheduling.arrived,
        "_NEXT": scheduling.next_due,
        "_BRIEFLY": scheduling.briefly,
        "_ADVANCE": scheduling.advance,
        "_TAKE": scheduling.take_arrivals,
        "_DECIDED": scheduling.decided,
        "_RECORD": scheduling.record,
        "_KNOWN": scheduling.known,
        "_PAUSE": scheduling.pause,
    },
    bulk: {"_SUBMIT": scheduling.submit, "_RELEASE": scheduling.let_go, "_CANCEL": scheduling.cancel_all},
    watching: {"_ASK": scheduling.ask},
    deadlines: {"_LATE": nothing, "_STALLED": nothing},
}


def counterparts(**replaced: Answering) -> dict[TextClause, Answering]:
    """Each statement of the runtime and what it does here; those named as their function is may be replaced."""
    return {
        statement: replaced.get(answering.__name__, answering)
        for statement, answering in itertools.chain.from_iterable(named(module).values() for module in _COUNTERPARTS)
    }


def named(module: ModuleType) -> dict[str, tuple[TextClause, Answering]]:
    """The statements of a module, by their names, and what they do here."""
    known = {name: (vars(module)[name], answering) for name, answering in _COUNTERPARTS[module].items()}
    pruning = schedules._PRUNE if module is schedules else ()
    return known | {f"_PRUNE[{place}]": (one, nothing) for place, one in enumerate(pruning)}
