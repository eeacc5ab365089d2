"""Sums up a finished execution: totals of rows, WS-269's performance metrics, and the error it failed with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from models.errors import DomainError
from models.executions import ErrorDetails, ExecutionState, PerformanceMetrics
from models.fields import JsonObject
from runtime.access.mask import mask_text
from runtime.executions.cursors import cursor_document
from runtime.executions.journal import Ending
from runtime.executions.state import Failure, SetAside, StepReport, Succeeded, TaskReport, TaskState
from runtime.pipelines.plan import Plan


def ending_of(
    plan: Plan,
    states: Mapping[str, TaskState],
    state: ExecutionState,
    times: tuple[datetime, datetime],
    error: ErrorDetails | None = None,
) -> Ending:
    """The ending of an execution accepted and ended at `times`; only what succeeded counts, and moves cursors.

    What an earlier execution finished is counted there; its cursors are moved here, as it did not complete.
    """
    accepted, ended = times
    succeeded = [task for task in states.values() if isinstance(task, Succeeded)]
    reports = [task.report for task in succeeded if not task.inherited]
    steps = {report.step: report for task in reports for report in task.steps}
    loads = [step.name for step in plan.steps if step.load is not None and step.name in steps]
    read = [step.name for step in plan.steps if step.extract is not None and not step.is_lookup]
    busy = sum(report.extract_ms + report.transform_ms + report.load_ms for report in reports)
    weighted = sum(r.cpu_percent * (r.extract_ms + r.transform_ms + r.load_ms) for r in reports)
    metrics = PerformanceMetrics(
        total_duration_ms=round((ended - accepted).total_seconds() * 1000),
        extract_duration_ms=sum(report.extract_ms for report in reports),
        transform_duration_ms=sum(report.transform_ms for report in reports),
        load_duration_ms=sum(report.load_ms for report in reports),
        peak_memory_usage_mb=max((report.peak_memory_mb for report in reports), default=0),
        avg_cpu_usage_percent=round(weighted / busy, 1) if busy else 0.0,
    )
    done = state is ExecutionState.COMPLETED
    return Ending(
        state=state,
        at=ended,
        totals=_totals(steps, read, loads),
        metrics=metrics,
        error=error,
        cursors=_cursors([task.report for task in succeeded]) if done else {},
        commits=[_commit(steps[name]) for name in loads],
        set_aside=[_quarantined(row) for report in reports for row in report.set_aside],
    )


def without_effects(ending: Ending) -> Ending:
    """The ending of a dry run: it committed nothing, so no cursor moves and no row is set aside."""
    return replace(ending, cursors={}, commits=(), set_aside=())


def refusal(error: DomainError, at: datetime) -> Ending:
    """The ending of an execution that could not begin."""
    details = error_details(Failure.of(error), 1)
    totals = dict.fromkeys(("processed", "inserted", "updated", "deleted", "failed"), 0)
    return Ending(ExecutionState.FAILED, at, totals, PerformanceMetrics(), details)


def error_details(failure: Failure, attempts: int) -> ErrorDetails:
    """A failure as WS-269's `error_details`, its message masked."""
    return ErrorDetails(
        error_type=failure.error_type,
        error_message=mask_text(failure.message),
        failed_step=failure.step or "",
        retry_count=max(0, attempts - 1),
        hint=failure.hint,
        path=failure.path,
    )


def _totals(steps: Mapping[str, StepReport], read: list[str], loads: list[str]) -> dict[str, int]:
    loaded = [steps[name] for name in loads]
    return {
        "processed": sum(steps[name].records_out for name in read if name in steps),
        "inserted": sum(step.inserted for step in loaded),
        "updated": sum(step.updated for step in loaded),
        "deleted": sum(step.deleted for step in loaded),
        "failed": sum(step.failed for step in steps.values()),
    }


def _cursors(reports: Sequence[TaskReport]) -> dict[str, JsonObject]:
    return {step: cursor_document(read.upper) for report in reports for step, read in report.ranges.items()}


def _quarantined(aside: SetAside) -> JsonObject:
    return {"step_name": aside.step, "row": aside.row, "reason": aside.reason}


def _commit(report: StepReport) -> JsonObject:
    return {"step_name": report.step, "partition": 0, "rows": report.inserted + report.updated}
