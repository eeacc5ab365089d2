"""What the states of tasks look like in the journal: a row and an event for each step, fused ones included."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from models.events import EventKind
from models.executions import ExecutionState, StepState
from models.fields import JsonObject
from models.pipelines import RetryClass
from runtime.access.mask import mask_text
from runtime.executions.executor import WorkerLost
from runtime.executions.faults import signed_step
from runtime.executions.journal import Ending, Entry, StepRow
from runtime.executions.program import TaskProgram
from runtime.executions.recovery import Done, Recovery
from runtime.executions.state import (
    BackingOff,
    Failed,
    Failure,
    Running,
    Skipped,
    StepReport,
    Stopped,
    Succeeded,
    TaskState,
    Waiting,
)
from runtime.pipelines.plan import Plan

ENDINGS = {
    ExecutionState.COMPLETED: EventKind.EXECUTION_COMPLETED,
    ExecutionState.FAILED: EventKind.EXECUTION_FAILED,
    ExecutionState.CANCELLED: EventKind.EXECUTION_CANCELLED,
}
STACK_LIMIT = 8_000


def failure_of(error: BaseException, program: TaskProgram) -> Failure:
    """The failure that ended a task, at the member it belongs to; where that is not known, at the task's last one."""
    step = signed_step(error, program) or program.members[-1].name
    if isinstance(error, WorkerLost):
        return Failure(
            error_type="worker_lost",
            message=str(error) or "the worker died while it ran the step",
            hint="it ran out of memory or was killed; give the step more memory, or read less at once",
            step=step,
            retry_class=RetryClass.WORKER_LOST,
        )
    stack = "".join(traceback.format_exception(error))[-STACK_LIMIT:]
    return Failure.of(error, step=step, stack=stack)


def timed_out(program: TaskProgram, limit: timedelta) -> Failure:
    """The failure of a task that was stopped at its time limit."""
    seconds = round(limit.total_seconds())
    told = f"{seconds} seconds" if seconds % 60 else f"{seconds // 60} minutes"
    return Failure(
        error_type="timeout",
        message=f"the step took longer than its {told}",
        hint="raise timeout_minutes or timeout_seconds, or let it read less at once",
        step=program.members[-1].name,
        retry_class=RetryClass.TIMEOUT,
    )


def entries_of(program: TaskProgram, state: TaskState, since: datetime, now: datetime) -> list[Entry]:
    """The journal entries for a task that entered a state; `since` is when it last started."""
    match state:
        case Waiting() | Running():
            return []
        case Succeeded(attempt=attempt, report=report):
            found = {step.step: step for step in report.steps}
            return [_completed(found.get(m.name, StepReport(m.name)), attempt, since, now) for m in program.members]
        case BackingOff(attempt=attempt, until=until, failure=failure):
            row = _failed_row(program, failure, StepState.BACKING_OFF, attempt, since, None)
            payload: JsonObject = {**_told(failure), "attempt": attempt, "retry_at": until.isoformat()}
            return [Entry(EventKind.STEP_RETRYING, now, payload, row)]
        case Failed(attempt=attempt, failure=failure):
            return _failed(program, failure, attempt, (since, now))
        case Skipped(reason=reason):
            return [_not_run(m.name, StepState.SKIPPED, reason, 0, (since, now)) for m in program.members]
        case Stopped(attempt=attempt):
            return [_not_run(m.name, StepState.CANCELLED, "cancelled", attempt, (since, now)) for m in program.members]
        case _:
            assert_never(state)


def opening_entries(plan: Plan, programs: Mapping[str, TaskProgram], recovery: Recovery, now: datetime) -> list[Entry]:
    """How an execution begins, or goes on under another supervisor: with what is disabled, and what is done already."""
    entries = [] if recovery.taken_over else [Entry(EventKind.EXECUTION_STARTED, now)]
    if recovery.taken_over:
        told: JsonObject = {"restored": [*sorted(recovery.done)], "again": dict(recovery.again)}
        entries.append(Entry(EventKind.EXECUTION_TAKEN_OVER, now, told))
    entries += disabled_entries(plan, now)
    for name, done in recovery.done.items():
        reports = {report.step: report for report in done.report.steps}
        for member in programs[name].members:
            entries.append(_restored(reports.get(member.name, StepReport(member.name)), done, recovery.origin, now))
    return entries


def _restored(report: StepReport, done: Done, origin: str | None, now: datetime) -> Entry:
    """A step that is not run again: its row is there, unless an earlier execution finished it."""
    payload: JsonObject = {"records_in": report.records_in, "records_out": report.records_out}
    if not done.inherited:
        return Entry(EventKind.STEP_RESTORED, now, payload, step_name=report.step)
    kept = replace(report, stats={**report.stats, "restored_from": origin})
    row = _completed(kept, done.attempt, now, now).step
    return Entry(EventKind.STEP_RESTORED, now, {**payload, "restored_from": origin}, row)


@dataclass(frozen=True, slots=True)
class Left:
    """A step that nobody goes on with, as its row has it."""

    step: str
    attempt: int
    since: datetime


def left_entries(left: Sequence[Left], now: datetime) -> list[Entry]:
    """A row and an event for each step that was left running by an execution which is given up."""
    reason = "its supervisor was lost"
    return [_not_run(one.step, StepState.CANCELLED, reason, one.attempt, (one.since, now)) for one in left]


def disabled_entries(plan: Plan, now: datetime) -> list[Entry]:
    """A row and an event for each step that is switched off."""
    return [
        _not_run(step.name, StepState.SKIPPED, "disabled", 0, (now, now)) for step in plan.steps if not step.enabled
    ]


def summary_of(ending: Ending) -> JsonObject:
    """The payload of an execution's last event."""
    summary: JsonObject = {f"records_{name}": count for name, count in ending.totals.items()}
    summary["duration_ms"] = ending.metrics.total_duration_ms
    if ending.error is not None:
        summary["error"] = ending.error.model_dump(mode="json", exclude_none=True)
    return summary


def _completed(report: StepReport, attempt: int, since: datetime, now: datetime) -> Entry:
    shared: JsonObject = {"shared_time_with": list(report.shared_with)} if report.shared_with else {}
    values: JsonObject = {
        "records_in": report.records_in,
        "records_out": report.records_out,
        "processing_time_ms": report.processing_time_ms,
        "memory_usage_mb": report.memory_usage_mb,
        "cpu_usage_percent": report.cpu_usage_percent,
        "input_data_sample": report.input_sample,
        "output_data_sample": report.output_sample,
        "transformation_stats": {**report.stats, **shared},
    }
    row = StepRow(report.step, StepState.COMPLETED, attempt, since, now, values)
    payload: JsonObject = {
        "records_in": report.records_in,
        "records_out": report.records_out,
        "processing_time_ms": report.processing_time_ms,
        **shared,
    }
    return Entry(EventKind.STEP_COMPLETED, now, payload, row)


def _failed(program: TaskProgram, failure: Failure, attempt: int, times: tuple[datetime, datetime]) -> list[Entry]:
    """The member that failed, and its fused neighbours, which did not finish either."""
    since, now = times
    entries: list[Entry] = []
    for member in program.members:
        if member.name == failure.step or len(program.members) == 1:
            row = _failed_row(program, failure, StepState.FAILED, attempt, since, now)
            entries.append(Entry(EventKind.STEP_FAILED, now, {**_told(failure), "attempt": attempt}, row))
        else:
            reason = f"fused with {failure.step}, which failed"
            entries.append(_not_run(member.name, StepState.SKIPPED, reason, attempt, times))
    return entries


def _failed_row(
    program: TaskProgram,
    failure: Failure,
    state: StepState,
    attempt: int,
    since: datetime,
    completed: datetime | None,
) -> StepRow:
    values: JsonObject = {"error_message": mask_text(failure.message)}
    if failure.stack:
        values["error_stack"] = mask_text(failure.stack)
    return StepRow(failure.step or program.members[-1].name, state, attempt, since, completed, values)


def _not_run(step: str, state: StepState, reason: str, attempt: int, times: tuple[datetime, datetime]) -> Entry:
    row = StepRow(step, state, attempt, *times, {"transformation_stats": {"reason": reason}})
    return Entry(EventKind.STEP_SKIPPED, times[1], {"reason": reason}, row)


def _told(failure: Failure) -> JsonObject:
    return {"error_type": failure.error_type, "error_message": mask_text(failure.message), "hint": failure.hint}
