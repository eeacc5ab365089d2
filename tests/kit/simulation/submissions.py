"""What accepting an execution writes: asked for by people, or by schedules."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from models.events import EventKind
from tests.kit.simulation.store import Row, Transaction

VERSION: Final = 1
BY: Final = UUID(int=2)


def accept(transaction: Transaction, identity: UUID, pipeline: UUID, item: UUID, **others: object) -> None:
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
        "cancel_requested_at": None,
        "last_event_seq": 1,
    }
    work: Row = {
        "id": item,
        "kind": "execution",
        "subject": identity,
        "pipeline_id": pipeline,
        "pool": "default",
        "payload": {},
        "state": "queued",
        "priority": 0,
        "run_after": now,
        "created_at": now,
        "attempts": 0,
        "generation": 0,
        "holder": None,
        "lease_expires_at": None,
        "finished_at": None,
        "requested_by": BY,
    }
    transaction.write("pipeline_executions", identity, _with(execution, others))
    transaction.write("work_items", item, _with(work, others))
    tell(transaction, identity, 1, EventKind.EXECUTION_QUEUED)


def _with(row: Row, others: Mapping[str, object]) -> Row:
    return row | {name: value for name, value in others.items() if name in row}


def tell(transaction: Transaction, execution: UUID, seq: int, kind: EventKind) -> None:
    """Write an event of an execution."""
    row: Row = {"kind": kind.value, "step_name": None, "payload": {}, "at": transaction.now}
    transaction.write("execution_events", (execution, seq, transaction.now), row)
