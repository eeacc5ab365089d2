"""What accepting an execution writes: asked for by people, or by schedules."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from models.events import EventKind
from tests.kit.simulation.store import Row, Transaction

VERSION: Final = 1
BY: Final = UUID(int=2)


_ITEM: Final[Row] = {
    "id": None,
    "kind": "execution",
    "subject": None,
    "pipeline_id": None,
    "pool": "default",
    "payload": {},
    "state": "queued",
    "priority": 0,
    "run_after": None,
    "created_at": None,
    "attempts": 0,
    "generation": 0,
    "holder": None,
    "lease_expires_at": None,
    "finished_at": None,
    "requested_by": BY,
    "backfill_id": None,
}


def accept(
    transaction: Transaction, identity: UUID, pipeline: UUID, item: UUID, *, held: bool = False, **others: object
) -> None:
    """What `submission.submit` writes; `others` are columns of the execution or of its work item that are not so."""
    now = transaction.now
    execution: Row = {
        "id": identity,
        "pipeline_id": pipeline,
        "version": VERSION,
        "state": "queued",
        "status": "running",
        "generation": 0,
        "execution_id": f"exec-{identity}",
        "started_at": now,
        "execution_context": {},
        "dry_run": False,
        "execution_type": "manual",
        "backfill_id": None,
        "cancel_requested_at": None,
        "completed_at": None,
        "last_event_seq": 1,
    }
    work = {**_ITEM, "id": item, "subject": identity, "pipeline_id": pipeline, "run_after": now, "created_at": now}
    transaction.write("pipeline_executions", identity, _with(execution, others))
    transaction.write("work_items", item, _with(work, others) | ({"state": "held"} if held else {}))
    tell(transaction, identity, 1, EventKind.EXECUTION_QUEUED)


def watch_item(identity: UUID, schedule: object, now: datetime) -> Row:
    """The work of looking at a schedule's files."""
    payload = {"schedule": str(schedule)}
    others = {"id": identity, "kind": "watch", "subject": schedule, "payload": payload, "requested_by": None}
    return {**_ITEM, **others, "run_after": now, "created_at": now}


def _with(row: Row, others: Mapping[str, object]) -> Row:
    return row | {name: value for name, value in others.items() if name in row}


def tell(transaction: Transaction, execution: UUID, seq: int, kind: EventKind) -> None:
    """Write an event of an execution."""
    row: Row = {"kind": kind.value, "step_name": None, "payload": {}, "at": transaction.now}
    transaction.write("execution_events", (execution, seq, transaction.now), row)
