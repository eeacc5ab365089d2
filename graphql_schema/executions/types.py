"""What an execution shows: its state and totals, its steps, its quality checks and its events."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar
from uuid import UUID

import orjson
import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from graphql_schema.context import Info
from graphql_schema.fields import computed
from graphql_schema.nodes import FINDERS, Node
from graphql_schema.paging import After, First
from graphql_schema.permissions import Permission, permitted
from graphql_schema.plans import StepType
from graphql_schema.pools import WaitingFor
from graphql_schema.scalars import Json, Long
from models.errors import NotFound
from models.events import EventKind
from models.executions import (
    ExecutionState,
    ExecutionStatus,
    ExecutionType,
    PipelineExecution,
    StepState,
    StepStatus,
)
from models.executions import StepExecution as StepRow
from models.quality import CheckStatus, RuleType
from runtime.executions import events, store
from runtime.executions.deadlines import estimates
from runtime.paging import Window
from runtime.pipelines.listing import Latest
from runtime.positions import cursor_of
from runtime.queue import pools

if TYPE_CHECKING:
    from graphql_schema.backfills import Backfill
    from graphql_schema.pipelines.types import Pipeline

A = TypeVar("A")

strawberry.enum(ExecutionType, description="What started an execution.")
strawberry.enum(ExecutionStatus, description="How an execution stands; running from acceptance on.")
strawberry.enum(ExecutionState, description="How an execution stands, as the runtime knows it.")
strawberry.enum(StepStatus, description="How a step stands.")
strawberry.enum(StepState, description="How a step stands, as the runtime knows it.")
strawberry.enum(EventKind, description="What happened, to an execution or to one of its steps.")
strawberry.enum(RuleType, description="The dimension of quality that a rule measures.")
strawberry.enum(CheckStatus, description="How a quality check ended.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="How long an execution took and what it used.")
class PerformanceMetrics:
    """`models.executions.PerformanceMetrics`."""

    total_duration_ms: Long = strawberry.field(description="From acceptance to the end, in milliseconds.")
    extract_duration_ms: Long = strawberry.field(description="Spent reading, over all tasks, in milliseconds.")
    transform_duration_ms: Long = strawberry.field(description="Spent computing, over all tasks, in milliseconds.")
    load_duration_ms: Long = strawberry.field(description="Spent writing, over all tasks, in milliseconds.")
    peak_memory_usage_mb: float = strawberry.field(description="The most that one worker held, in MB.")
    avg_cpu_usage_percent: float = strawberry.field(description="In percent of one core.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="Why an execution failed.")
class ErrorDetails:
    """`models.executions.ErrorDetails`."""

    error_type: str = strawberry.field(description="A stable name of the failure.")
    error_message: str = strawberry.field(description="What went wrong, without personal data.")
    failed_step: str = strawberry.field(description="The step it went wrong in.")
    retry_count: int = strawberry.field(description="How often that step was tried again.")
    hint: str | None = strawberry.field(description="What to do about it, where known.")
    path: str | None = strawberry.field(description="Where in the definition or the data it is, where known.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="Something that happened in an execution.")
class ExecutionEvent:
    """A row of `execution_events`; its payload goes out as it was stored, so it is encoded once for all watchers."""

    cursor: str = strawberry.field(description="Give this as `after` to go on behind it, in the same stream.")
    execution_id: strawberry.ID = strawberry.field(description="The `id` of its execution.")
    seq: Long = strawberry.field(description="Its number within the execution; none is left out.")
    position: Long = strawberry.field(description="Its number among all events.")
    kind: EventKind = strawberry.field(description="What happened.")
    step_name: str | None = strawberry.field(description="The step it happened to; null for the execution itself.")
    recorded_at: datetime = strawberry.field(description="When it happened.")
    payload: Json = strawberry.field(description="More of it, depending on its kind.")

    @classmethod
    def of(cls, event: events.Event, cursor: int) -> "ExecutionEvent":
        """Show an event at its cursor."""
        return cls(
            cursor=str(cursor),
            execution_id=strawberry.ID(str(event.execution_id)),
            seq=Long(event.seq),
            position=Long(event.position),
            kind=event.kind,
            step_name=event.step_name,
            recorded_at=event.recorded_at,
            payload=Json(orjson.Fragment(event.payload)),
        )

    @computed("The execution as it is now.")
    async def execution(self, info: Info) -> "Execution":
        row = await info.context.load(executions_by_id, UUID(self.execution_id))
        if row is None:
            raise NotFound("the execution is gone", hint="its pipeline was removed")
        return Execution.of(row)


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="How one step of an execution went; fused steps have one each.")
class StepExecution(Node):
    """A row of `step_executions`."""

    step_execution_id: str = strawberry.field(description="Its name, unique within the execution.")
    step_id: strawberry.ID | None = strawberry.field(description="The pipeline's step.")
    step_name: str = strawberry.field(description="The step's name.")
    started_at: datetime = strawberry.field(description="When it began.")
    completed_at: datetime | None = strawberry.field(description="When it ended.")
    status: StepStatus = strawberry.field(description="How it stands.")
    state: StepState = strawberry.field(description="How it stands, as the runtime knows it.")
    records_in: Long = strawberry.field(description="Rows that went in.")
    records_out: Long = strawberry.field(description="Rows that came out.")
    processing_time_ms: int | None = strawberry.field(description="In milliseconds; fused steps share it.")
    memory_usage_mb: int | None = strawberry.field(description="The most its worker held, in MB.")
    cpu_usage_percent: float | None = strawberry.field(description="In percent of one core.")
    transformation_stats: Json = strawberry.field(description="What its transform, read or write counted.")
    error_message: str | None = strawberry.field(description="Why it failed, without personal data.")
    error_stack: str | None = strawberry.field(description="Where in the code it failed.")
    retry_count: int = strawberry.field(description="How often it was tried again.")
    attempt: int = strawberry.field(description="Which attempt this tells of.")

    @classmethod
    def of(cls, row: StepRow) -> "StepExecution":
        """Show a row."""
        return cls(
            id=strawberry.ID(str(row.id)),
            step_execution_id=row.step_execution_id,
            step_id=None if row.step_id is None else strawberry.ID(str(row.step_id)),
            step_name=row.step_name,
            started_at=row.started_at,
            completed_at=row.completed_at,
            status=row.status,
            state=row.state,
            records_in=Long(row.records_in),
            records_out=Long(row.records_out),
            processing_time_ms=row.processing_time_ms,
            memory_usage_mb=row.memory_usage_mb,
            cpu_usage_percent=_number(row.cpu_usage_percent),
            transformation_stats=Json(row.transformation_stats),
            error_message=row.error_message,
            error_stack=row.error_stack,
            retry_count=row.retry_count,
            attempt=row.attempt,
        )

    @computed("The part it plays; `TRANSFORM` where the pipeline's step is gone.")
    async def step_type(self, info: Info) -> StepType:
        known = None if self.step_id is None else await info.context.load(store.step_types, UUID(self.step_id))
        return known or StepType.TRANSFORM

    @computed("Some rows that went in, masked; reading them is audited.")
    async def input_data_sample(self, info: Info) -> Json | None:
        return Json((await self._samples(info)).into)

    @computed("Some rows that came out, masked; reading them is audited.")
    async def output_data_sample(self, info: Info) -> Json | None:
        return Json((await self._samples(info)).out)

    async def _samples(self, info: Info) -> store.Samples:
        info.context.note("read_samples", "step_execution", self.id)
        return await info.context.load(store.samples, UUID(self.id))


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What one evaluation of a quality rule found.")
class QualityCheck(Node):
    """A row of `data_quality_checks` with its rule."""

    rule_name: str = strawberry.field(description="The rule's name.")
    rule_type: RuleType = strawberry.field(description="The dimension of quality that it measures.")
    check_timestamp: datetime = strawberry.field(description="When it was made.")
    records_checked: Long = strawberry.field(description="Rows that were looked at.")
    records_passed: Long = strawberry.field(description="Rows that satisfy the rule.")
    records_failed: Long = strawberry.field(description="Rows that do not.")
    pass_rate: float = strawberry.field(description="The share that passed, 0-100.")
    quality_score: float = strawberry.field(description="Its score, 0-100.")
    status: CheckStatus = strawberry.field(description="How it ended.")
    sample_failures: Json = strawberry.field(description="Some rows that failed, masked.")

    @classmethod
    def of(cls, checked: store.Checked) -> "QualityCheck":
        """Show a check."""
        check, rule = checked
        return cls(
            id=strawberry.ID(str(check.id)),
            rule_name=rule.rule_name,
            rule_type=rule.rule_type,
            check_timestamp=check.check_timestamp,
            records_checked=Long(check.records_checked),
            records_passed=Long(check.records_passed),
            records_failed=Long(check.records_failed),
            pass_rate=float(check.pass_rate),
            quality_score=float(check.quality_score),
            status=check.status,
            sample_failures=Json(check.sample_failures),
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="One run of a pipeline's version.")
class Execution(Node):
    """A row of `pipeline_executions`."""

    row: strawberry.Private[PipelineExecution | Latest]
    execution_id: str = strawberry.field(description="Its name for people, unique.")
    execution_type: ExecutionType = strawberry.field(description="What started it.")
    status: ExecutionStatus = strawberry.field(description="How it stands.")
    state: ExecutionState = strawberry.field(description="How it stands, as the runtime knows it.")
    started_at: datetime = strawberry.field(description="When it was accepted.")
    completed_at: datetime | None = strawberry.field(description="When it ended.")
    records_processed: Long = strawberry.field(description="Rows that were read.")
    records_inserted: Long = strawberry.field(description="Rows that the destination inserted.")
    records_updated: Long = strawberry.field(description="Rows that the destination updated.")
    records_deleted: Long = strawberry.field(description="Rows that the destination deleted.")
    records_failed: Long = strawberry.field(description="Rows that were set aside.")
    data_quality_score: float | None = strawberry.field(description="0-100; null without quality checks.")
    version: int | None = strawberry.field(description="The version of the pipeline that it runs.")
    dry_run: bool = strawberry.field(description="Whether it commits nothing and reads a sample only.")
    logs_location: str | None = strawberry.field(description="Where its log lies, in the artifact store.")
    triggered_by: strawberry.ID | None = strawberry.field(description="The user who asked for it.")
    cancel_requested_at: datetime | None = strawberry.field(description="When it was asked to stop.")

    @classmethod
    def of(cls, row: PipelineExecution | Latest) -> "Execution":
        """Show a row; the documents of one that came without them are read when they are asked for."""
        return cls(
            id=strawberry.ID(str(row.id)),
            row=row,
            execution_id=row.execution_id,
            execution_type=row.execution_type,
            status=row.status,
            state=row.state,
            started_at=row.started_at,
            completed_at=row.completed_at,
            records_processed=Long(row.records_processed),
            records_inserted=Long(row.records_inserted),
            records_updated=Long(row.records_updated),
            records_deleted=Long(row.records_deleted),
            records_failed=Long(row.records_failed),
            data_quality_score=_number(row.data_quality_score),
            version=row.version,
            dry_run=row.dry_run,
            logs_location=row.logs_location,
            triggered_by=None if row.triggered_by is None else strawberry.ID(str(row.triggered_by)),
            cancel_requested_at=row.cancel_requested_at,
        )

    @computed("How long it took, in minutes; null while it runs.")
    def duration_minutes(self) -> float | None:
        if self.completed_at is None:
            return None
        return round((self.completed_at - self.started_at).total_seconds() / 60, 4)

    @computed("What it was asked to do beside running its version.", shown=Json)
    def execution_context(self, info: Info) -> Json | Awaitable[Json]:
        return self._whole(info, lambda row: Json(row.execution_context.model_dump(mode="json", exclude_none=True)))

    @computed("How long it took and what it used; zeros while it runs.", shown=PerformanceMetrics)
    def performance_metrics(self, info: Info) -> PerformanceMetrics | Awaitable[PerformanceMetrics]:
        return self._whole(info, lambda row: PerformanceMetrics(**row.performance_metrics.model_dump()))

    @computed("Why it failed, if it did.", shown=ErrorDetails | None)
    def error_details(self, info: Info) -> ErrorDetails | Awaitable[ErrorDetails | None] | None:
        return self._whole(
            info, lambda row: None if row.error_details is None else ErrorDetails(**row.error_details.model_dump())
        )

    def _whole(self, info: Info, of: Callable[[PipelineExecution], A]) -> A | Awaitable[A]:
        if isinstance(self.row, PipelineExecution):
            return of(self.row)

        async def later() -> A:
            row = await info.context.load(executions_by_id, self.row.id)
            if row is None:
                raise NotFound("the execution is gone", hint="its pipeline was removed")
            return of(row)

        return later()

    @computed("What it waits for, while it is queued.")
    async def waiting_for(self, info: Info) -> WaitingFor | None:
        if self.state.is_terminal:
            return None
        wait = await info.context.load(pools.waits, UUID(self.id))
        return None if wait is None else WaitingFor.of(wait)

    @computed("How long it is expected to take, in minutes; null while none of its pipeline has completed.")
    async def estimated_duration_minutes(self, info: Info) -> float | None:
        return await info.context.load(estimates, self.row.pipeline_id)

    @computed("When it was told to be late; null while it is not.", shown=datetime | None)
    def late_at(self, info: Info) -> datetime | Awaitable[datetime | None] | None:
        return self._whole(info, lambda row: row.late_at)

    @computed("The backfill that it is a chunk of; its range is in `executionContext`. A retry takes its place there.")
    async def backfill(self, info: Info) -> Annotated["Backfill", strawberry.lazy("graphql_schema.backfills")] | None:
        from graphql_schema.backfills import backfill_of  # noqa: PLC0415 (the two show each other)

        row = (
            self.row
            if isinstance(self.row, PipelineExecution)
            else await info.context.load(executions_by_id, self.row.id)
        )
        return None if row is None or row.backfill_id is None else await backfill_of(info, row.backfill_id)

    @computed("Its pipeline.")
    async def pipeline(self, info: Info) -> Annotated["Pipeline", strawberry.lazy("graphql_schema.pipelines.types")]:
        from graphql_schema.pipelines.types import pipeline_of  # noqa: PLC0415 (the two show each other)

        return await pipeline_of(info, self.row.pipeline_id)

    @computed("Its steps, in the plan's order.")
    async def steps(self, info: Info) -> list[StepExecution]:
        return [StepExecution.of(row) for row in await info.context.load(store.steps, UUID(self.id))]

    @computed("The quality checks made in it.")
    async def quality_checks(self, info: Info) -> list[QualityCheck]:
        return [QualityCheck.of(checked) for checked in await info.context.load(store.checks, UUID(self.id))]

    @computed("What happened in it so far, in order; to go on, give the last one's cursor as `after`.")
    async def events(self, info: Info, first: First = 100, after: After = None) -> list[ExecutionEvent]:
        wanted = EventPage(self.row.id, self.started_at, cursor_of(after, 0), Window(first).first)
        return [ExecutionEvent.of(event, event.seq) for event in await info.context.load(event_pages, wanted)]


class EventPage(NamedTuple):
    """A page of an execution's events, wanted for several at once."""

    execution_id: UUID
    since: datetime
    after: int
    first: int


async def event_pages(session: AsyncSession, keys: list[EventPage]) -> list[list[events.Event]]:
    """A batch for `Context.load`."""
    spans = [events.Span(key.execution_id, key.since, key.after) for key in keys]
    found = await events.of_some(session, spans, max(key.first for key in keys))
    known: dict[UUID, dict[int, events.Event]] = {key.execution_id: {} for key in keys}
    for event in found:
        known[event.execution_id][event.seq] = event
    return [
        [event for seq, event in sorted(known[key.execution_id].items()) if seq > key.after][: key.first]
        for key in keys
    ]


async def executions_by_id(session: AsyncSession, ids: list[UUID]) -> list[PipelineExecution | None]:
    """A batch for `Context.load`."""
    return await store.by_ids(session, ids)


async def _find(info: Info, identity: UUID) -> Node | None:
    row = await info.context.load(executions_by_id, identity)
    return None if row is None else Execution.of(row)


FINDERS.append(_find)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
