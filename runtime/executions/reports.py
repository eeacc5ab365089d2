"""Turns what a task measured into one report for each of its steps, fused ones included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.fields import Json
from runtime.connectors._contract import LoadCounts, Rejections
from runtime.executions.chains import Chain, rejected_rows, rows_through
from runtime.executions.meters import Meter, Usage, sample_of
from runtime.executions.program import Member, TaskProgram
from runtime.executions.state import ReadRange, StepReport, TaskReport

NANOSECONDS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run of a chain measured: rows and time before, in and after its query, and samples by step."""

    usage: Usage
    read: Meter
    made: Meter
    chain: Chain
    ranges: Mapping[str, ReadRange]
    samples: Mapping[str, Json]
    rejections: Rejections


def task_report(program: TaskProgram, measured: Measured, load: LoadCounts | None = None) -> TaskReport:
    """The report of a chain; time is split by who waited for whom, so that the three parts add up to the whole."""
    usage, read, made = measured.usage, measured.read, measured.made
    extract_ms = read.waited_ns // NANOSECONDS_PER_MS if program.extract else 0
    transform_ms = made.waited_ns // NANOSECONDS_PER_MS - extract_ms
    load_ms = usage.elapsed_ms - made.waited_ns // NANOSECONDS_PER_MS if program.load else 0
    rows = rows_through(program.members, read.rows, made.rows, measured.chain.rows)
    aside = rejected_rows(program.members[0].name, measured.rejections.rows)
    return TaskReport(
        steps=_step_reports(program, measured, rows, load or LoadCounts()),
        extract_ms=extract_ms,
        transform_ms=max(0, transform_ms),
        load_ms=max(0, load_ms),
        peak_memory_mb=usage.peak_mb,
        cpu_percent=usage.cpu_percent,
        ranges=dict(measured.ranges),
        set_aside=(*aside, *(row for found in measured.chain.aside.values() for row in found)),
    )


def commit_report(
    program: TaskProgram, usage: Usage, counts: LoadCounts, ranges: Mapping[str, ReadRange]
) -> TaskReport:
    """The report of the final transaction of a partitioned load: true counts, and its time as load time."""
    step = StepReport(
        step=program.members[-1].name,
        inserted=counts.inserted,
        updated=counts.updated,
        deleted=counts.deleted,
        failed=counts.failed,
        processing_time_ms=usage.elapsed_ms,
        memory_usage_mb=usage.peak_mb,
        stats=_load_stats(counts),
    )
    return TaskReport((step,), load_ms=usage.elapsed_ms, peak_memory_mb=usage.peak_mb, ranges=dict(ranges))


def merged(parts: Sequence[TaskReport], commit: TaskReport | None = None) -> TaskReport:
    """One report for a task that ran in several parts, and for what published them: rows add up, times of parallel
    parts too, peaks are peaks.
    """
    steps: dict[str, StepReport] = {}
    count, parts = len(parts), [*parts, *([commit] if commit else [])]
    for part in parts:
        for step in part.steps:
            steps[step.step] = _together(steps[step.step], step) if step.step in steps else step
    return TaskReport(
        steps=tuple(replace(step, stats={**step.stats, "partitions": count}) for step in steps.values()),
        extract_ms=sum(part.extract_ms for part in parts),
        transform_ms=sum(part.transform_ms for part in parts),
        load_ms=sum(part.load_ms for part in parts),
        peak_memory_mb=max(part.peak_memory_mb for part in parts),
        cpu_percent=max(part.cpu_percent for part in parts),
        ranges={name: read for part in parts for name, read in part.ranges.items()},
        set_aside=tuple(row for part in parts for row in part.set_aside),
    )


def _together(one: StepReport, other: StepReport) -> StepReport:
    return replace(
        one,
        records_in=one.records_in + other.records_in,
        records_out=one.records_out + other.records_out,
        inserted=one.inserted + other.inserted,
        updated=one.updated + other.updated,
        deleted=one.deleted + other.deleted,
        failed=one.failed + other.failed,
        processing_time_ms=one.processing_time_ms + other.processing_time_ms,
        memory_usage_mb=max(one.memory_usage_mb, other.memory_usage_mb),
        cpu_usage_percent=max(one.cpu_usage_percent, other.cpu_usage_percent),
        stats={name: _sum(one.stats.get(name), other.stats.get(name)) for name in {**one.stats, **other.stats}},
    )


def _sum(one: Json, other: Json) -> Json:
    """Counts add up; of anything else the first that is said."""
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return other if one is None else one


def _step_reports(
    program: TaskProgram, measured: Measured, rows: Sequence[tuple[int, int]], load: LoadCounts
) -> tuple[StepReport, ...]:
    usage, reports = measured.usage, list[StepReport]()
    names = tuple(member.name for member in program.members)
    before = sample_of(measured.read.first)
    for member, (rows_in, rows_out) in zip(program.members, rows, strict=True):
        counts = load if member.type == "load" else LoadCounts()
        aside = rows_in - rows_out if member.set_aside else 0
        rejected = measured.rejections.count if member.type == "extract" else aside
        after = measured.samples.get(member.name)
        report = StepReport(
            step=member.name,
            records_in=rows_in,
            records_out=rows_out,
            inserted=counts.inserted,
            updated=counts.updated,
            deleted=counts.deleted,
            failed=counts.failed + rejected,
            processing_time_ms=usage.elapsed_ms,
            memory_usage_mb=usage.peak_mb,
            cpu_usage_percent=usage.cpu_percent,
            input_sample=before if member.type != "extract" else None,
            output_sample=after,
            stats=_stats(member, rows_in, rows_out, counts),
            shared_with=tuple(name for name in names if name != member.name),
        )
        reports.append(report)
        before = after
    return tuple(reports)


def _stats(member: Member, rows_in: int, rows_out: int, counts: LoadCounts) -> dict[str, Json]:
    if member.type == "load":
        return _load_stats(counts)
    stats: dict[str, Json] = {"rows_removed": max(0, rows_in - rows_out), "rows_added": max(0, rows_out - rows_in)}
    if member.set_aside is not None:
        stats["rows_set_aside"] = rows_in - rows_out
    return {"transform": member.transform, **stats} if member.transform else stats


def _load_stats(counts: LoadCounts) -> dict[str, Json]:
    return {
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated,
        "rows_deleted": counts.deleted,
        "rows_failed": counts.failed,
    }
