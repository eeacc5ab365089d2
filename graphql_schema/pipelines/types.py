"""What a pipeline shows: its definition and versions, its steps, and how it did lately."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from graphql_schema.backfills import Backfill, backfills_of
from graphql_schema.context import Context, Info
from graphql_schema.executions.types import Execution
from graphql_schema.fields import computed
from graphql_schema.nodes import FINDERS, Node
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission, permitted
from graphql_schema.plans import Plan, StepType
from graphql_schema.pools import PipelineConcurrency
from graphql_schema.scalars import Json, Long
from graphql_schema.schedules.types import Schedule
from models.errors import NotFound
from models.executions import ExecutionStatus, ExecutionType
from models.fields import JsonObject, parse
from models.pipelines import DataPipeline, PipelineType
from models.pipelines import PipelineStep as StepRow
from models.pipelines import PipelineVersion as VersionRow
from runtime.database import Session
from runtime.executions import store as executions
from runtime.executions.deadlines import estimates
from runtime.paging import Window
from runtime.pipelines import listing, store
from runtime.pipelines import plan as compiled
from runtime.pipelines.difference import Change, ChangeKind
from runtime.schedules import listing as schedules

A = TypeVar("A")

strawberry.enum(PipelineType, description="What a pipeline does.")
strawberry.enum(ChangeKind, description="What happened to a key of a definition.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="One difference between two definitions.")
class DefinitionChange:
    """`runtime.pipelines.difference.Change`."""

    kind: ChangeKind = strawberry.field(description="What happened to the key.")
    path: str = strawberry.field(description="The key, as in `steps[clean].config.config.condition`.")
    old: Json | None = strawberry.field(description="Its value before.")
    new: Json | None = strawberry.field(description="Its value after.")

    @classmethod
    def of(cls, change: Change) -> "DefinitionChange":
        """Show a change."""
        return cls(kind=change.kind, path=change.path, old=Json(change.old), new=Json(change.new))


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a pipeline was at one save; it never changes.")
class PipelineVersion(Node):
    """A row of `pipeline_versions`."""

    row: strawberry.Private[VersionRow]
    version: int = strawberry.field(description="Its number, from 1.")
    fingerprint: str = strawberry.field(description="The fingerprint of its plan.")
    message: str | None = strawberry.field(description="Why it was saved, where told.")
    created_by: strawberry.ID | None = strawberry.field(description="The user who saved it.")
    created_at: datetime = strawberry.field(description="When it was saved.")

    @classmethod
    def of(cls, row: VersionRow) -> "PipelineVersion":
        """Show a row."""
        return cls(
            id=strawberry.ID(str(row.id)),
            row=row,
            version=row.version,
            fingerprint=row.fingerprint,
            message=row.message,
            created_by=None if row.created_by is None else strawberry.ID(str(row.created_by)),
            created_at=row.created_at,
        )

    @computed("The definition as it was written.")
    def document(self) -> Json:
        return Json(self.row.document)

    @computed("What it changed of the version before.")
    def changes(self) -> list[DefinitionChange]:
        return [DefinitionChange.of(parse(Change, change)) for change in self.row.difference]

    @computed("What it was compiled to.")
    async def plan(self, info: Info) -> Plan | None:
        return _plan(await info.context.load(listing.plans, self.row.id))


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A step of a pipeline's newest version, or a disabled one of an earlier version.")
class PipelineStep(Node):
    """A row of `pipeline_steps`."""

    step_name: str = strawberry.field(description="Its name, unique in the pipeline.")
    step_type: StepType = strawberry.field(description="The part it plays.")
    kind: str | None = strawberry.field(description="Its transform or connector.")
    step_order: int = strawberry.field(description="Its place in an order that respects dependencies.")
    step_config: Json = strawberry.field(description="Its configuration, as it was written.")
    depends_on: list[str] = strawberry.field(description="The steps it depends on.")
    parallel_execution: bool = strawberry.field(description="Whether it may run in several parts at once.")
    timeout_minutes: int = strawberry.field(description="How long it may take.")
    retry_attempts: int = strawberry.field(description="How often it is tried again.")
    critical: bool = strawberry.field(description="Whether its failure fails the execution.")
    is_enabled: bool = strawberry.field(description="Whether it runs.")

    @classmethod
    def of(cls, row: StepRow) -> "PipelineStep":
        """Show a row."""
        return cls(
            id=strawberry.ID(str(row.id)),
            step_name=row.step_name,
            step_type=row.step_type,
            kind=row.kind,
            step_order=row.step_order,
            step_config=Json(row.step_config),
            depends_on=row.depends_on,
            parallel_execution=row.parallel_execution,
            timeout_minutes=row.timeout_minutes,
            retry_attempts=row.retry_attempts,
            critical=row.critical,
            is_enabled=row.is_enabled,
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="How all executions of a pipeline did.")
class ExecutionStats:
    """`runtime.executions.store.Stats`."""

    total_executions: Long = strawberry.field(description="How many there were.")
    success_rate: float = strawberry.field(description="The share that completed, of those that did or failed, 0-100.")
    avg_duration_minutes: float = strawberry.field(description="The mean duration of those that completed.")
    total_records_processed: Long = strawberry.field(description="The records of all of them.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="All pipelines in four numbers.")
class PipelineSummary:
    """`runtime.pipelines.listing.Summary`."""

    total_pipelines: int = strawberry.field(description="How many there are that are not archived.")
    active_pipelines: int = strawberry.field(description="How many may run.")
    running_pipelines: int = strawberry.field(description="How many have an execution that has not ended.")
    failed_pipelines_24h: int = strawberry.field(description="How many had an execution fail in the last 24 hours.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A pipeline. What it does is its newest version's document; the other columns show that.")
class Pipeline(Node):
    """A row of `data_pipelines`."""

    row: strawberry.Private[DataPipeline | listing.Listed]
    recent: strawberry.Private["Recent | None"]
    pipeline_name: str = strawberry.field(description="Its name, unique among pipelines.")
    pipeline_type: PipelineType = strawberry.field(description="What it does.")
    description: str | None = strawberry.field(description="What it is for.")
    tags: list[str] = strawberry.field(description="What it is filed under.")
    is_active: bool = strawberry.field(description="Whether it may run.")
    is_paused: bool = strawberry.field(description="Whether it starts nothing new for now.")
    version: int = strawberry.field(description="The number of its newest version.")
    archived_at: datetime | None = strawberry.field(description="When it was taken out of use.")
    created_by: strawberry.ID | None = strawberry.field(description="The user who added it.")
    created_at: datetime = strawberry.field(description="When it was added.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @classmethod
    def of(cls, row: DataPipeline | listing.Listed, recent: "Recent | None" = None) -> "Pipeline":
        """Show a row; with what was read of it for a list, no field of that waits."""
        return cls(
            id=strawberry.ID(str(row.id)),
            row=row,
            recent=recent,
            pipeline_name=row.pipeline_name,
            pipeline_type=row.pipeline_type,
            description=row.description,
            tags=row.tags,
            is_active=row.is_active,
            is_paused=row.is_paused,
            version=row.version,
            archived_at=row.archived_at,
            created_by=None if row.created_by is None else strawberry.ID(str(row.created_by)),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @computed("What it reads, in the simple form.")
    def source_config(self) -> Json:
        return Json(self.row.source_config)

    @computed("What it writes, in the simple form.")
    def destination_config(self) -> Json:
        return Json(self.row.destination_config)

    @computed("Its transforms, in the simple form.")
    def transformation_config(self) -> Json:
        return Json(self.row.transformation_config)

    @computed("When it runs.")
    def schedule_config(self) -> Json:
        return Json(self.row.schedule_config)

    @computed("How failed steps are tried again.")
    def retry_policy(self) -> Json:
        return Json(self.row.retry_policy)

    @computed("After how many minutes an execution is late, as its definition says; null: as its history says.")
    async def deadline_minutes(self, info: Info) -> int | None:
        return (await _whole(info, self.row)).deadline_minutes

    @computed("How many of its executions run at once, in which pool, and how urgent they are.")
    async def concurrency(self, info: Info) -> PipelineConcurrency:
        return PipelineConcurrency.of(await _whole(info, self.row))

    @computed("The quality rules that its rows must pass.")
    def quality_checks(self) -> Json:
        return Json(self.row.quality_checks)

    @computed("Which of its misfortunes are told, and where.")
    def alert_config(self) -> Json:
        return Json(self.row.alert_config)

    @computed("The newest version's document, as it was written.")
    async def definition(self, info: Info) -> Json:
        return Json(await info.context.load(listing.documents, self.row.id))

    @computed("What its newest version was compiled to.")
    async def plan(self, info: Info) -> Plan | None:
        return _plan(await info.context.load(listing.newest_plans, self.row.id))

    @computed("Its steps, in the plan's order, then those that it has not any more.")
    async def steps(self, info: Info) -> list[PipelineStep]:
        return [PipelineStep.of(row) for row in await info.context.load(listing.steps, self.row.id)]

    @computed("Its versions, the newest first.")
    async def versions(self, info: Info, first: First = 20, after: After = None) -> Connection[PipelineVersion]:
        async with info.context.reading() as session:
            found = await listing.versions(session, self.row.id, Window(first, after))
        return connection(found, PipelineVersion.of, self._count_versions)

    async def _count_versions(self, info: Info) -> int:
        async with info.context.reading() as session:
            return await listing.total_versions(session, self.row.id)

    @computed("The execution that was accepted last, dry runs aside.", shown=Execution | None)
    def last_execution(self, info: Info) -> Execution | Awaitable[Execution | None] | None:
        return self._recently(info, lambda recent: None if recent.last is None else Execution.of(recent.last))

    @computed(
        "The share of the executions of the last 7 days that completed, 0-100; 0 without any.",
        shown=float,
        known_by="known_success_rate",
    )
    def success_rate_7d(self, info: Info) -> float | Awaitable[float]:
        return self._recently(info, lambda recent: recent.figures.success_rate)

    @property
    def known_success_rate(self) -> float | None:
        """The success rate where it was read beforehand, 0-100."""
        return None if self.recent is None else self.recent.figures.success_rate

    @computed(
        "The mean duration of those of the last 7 days that completed, in minutes; 0 without any.",
        shown=float,
        known_by="known_minutes",
    )
    def avg_execution_time_minutes(self, info: Info) -> float | Awaitable[float]:
        return self._recently(info, lambda recent: recent.figures.average_minutes)

    @property
    def known_minutes(self) -> float | None:
        """The mean duration where it was read beforehand, in minutes."""
        return None if self.recent is None else self.recent.figures.average_minutes

    @computed(
        "When it starts by itself next; null without a schedule, while paused, and where an event starts it.",
        shown=datetime | None,
    )
    def next_scheduled_run(self, info: Info) -> datetime | Awaitable[datetime | None] | None:
        return self._recently(info, lambda recent: recent.figures.next_run)

    @computed("Its schedule, and how far it has come; null without one.")
    async def schedule(self, info: Info) -> Schedule | None:
        found = await info.context.load(schedules.of_pipelines, self.row.id)
        return None if found is None else Schedule.of(found)

    def _recently(self, info: Info, of: Callable[["Recent"], A]) -> A | Awaitable[A]:
        if self.recent is not None:
            return of(self.recent)

        async def later() -> A:
            return of(await info.context.load(recents, self.row.id))

        return later()

    @computed("Its executions, those accepted last first.")
    async def executions(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        status: ExecutionStatus | None = None,
        execution_type: ExecutionType | None = None,
    ) -> Connection[Execution]:
        window, wanted = Window(first, after), executions.ExecutionFilter(self.row.id, status, execution_type)
        if after is None:
            key = executions.FirstPage(self.row.id, window.first, status, execution_type)
            found = await info.context.load(executions.first_pages, key)
        else:
            async with info.context.reading() as session:
                found = await executions.page(session, wanted, window)

        async def count(info: Info) -> int:
            async with info.context.reading() as session:
                return await executions.total(session, wanted)

        return connection(found, Execution.of, count)

    @computed("What its next execution is expected to take, in minutes; null while none has completed.")
    async def estimated_duration_minutes(self, info: Info) -> float | None:
        return await info.context.load(estimates, self.row.id)

    @computed("Its backfills, those requested last first.")
    async def backfills(self, info: Info, first: First = 20, after: After = None) -> Connection[Backfill]:
        return await backfills_of(info, self.row.id, Window(first, after))

    @computed("How all of its executions did, dry runs aside.")
    async def execution_stats(self, info: Info) -> ExecutionStats:
        found = await info.context.load(executions.stats, self.row.id)
        return ExecutionStats(
            total_executions=Long(found.total),
            success_rate=found.success_rate,
            avg_duration_minutes=found.average_minutes,
            total_records_processed=Long(found.records),
        )


@dataclass(frozen=True, slots=True)
class Recent:
    """What lists show of a pipeline's executions, past and next."""

    figures: listing.Figures
    last: listing.Latest | None


async def recents(session: Session, ids: list[UUID]) -> list[Recent]:
    """A batch for `Context.load`: two statements for any number of pipelines."""
    figures, last = await listing.figures(session, ids), await listing.last_executions(session, ids)
    return [Recent(*found) for found in zip(figures, last, strict=True)]


async def pipelines_by_id(session: AsyncSession, ids: list[UUID]) -> list[DataPipeline | None]:
    """A batch for `Context.load`."""
    return await store.by_ids(session, ids)


async def pipeline_of(info: Info, identity: UUID) -> Pipeline:
    """The pipeline of an execution; raises `NotFound` when it was removed meanwhile."""
    return Pipeline.of(await _found(info, identity))


async def _found(info: Info, identity: UUID) -> DataPipeline:
    row = await info.context.load(pipelines_by_id, identity)
    if row is None:
        raise NotFound(f"there is no pipeline {identity}")
    return row


async def _whole(info: Info, row: DataPipeline | listing.Listed) -> DataPipeline:
    return row if isinstance(row, DataPipeline) else await _found(info, row.id)


async def identified(context: Context, reference: str) -> UUID:
    """The id of the pipeline that a person names by its id or name; raises `NotFound`."""
    async with context.reading() as session:
        return (await store.find(session, reference)).id


async def _find(info: Info, identity: UUID) -> Node | None:
    row = await info.context.load(pipelines_by_id, identity)
    return None if row is None else Pipeline.of(row)


FINDERS.append(_find)


def _plan(stored: JsonObject | None) -> Plan | None:
    return None if stored is None else Plan.of(parse(compiled.Plan, stored))
