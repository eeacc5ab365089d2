"""Backfills: a range of a pipeline's past, run chunk by chunk; requested, watched, paused, resumed and cancelled."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from graphql_schema.connectors import document
from graphql_schema.context import Info
from graphql_schema.executions.types import Execution
from graphql_schema.fields import computed, mutation, query, subscription
from graphql_schema.nodes import FINDERS, Node
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json, uuid_of
from models.backfills import Backfill as BackfillRow
from models.backfills import BackfillState
from models.executions import ExecutionState
from runtime.backfills import control, requests, store
from runtime.backfills.control import no_backfill
from runtime.backfills.following import follow
from runtime.backfills.store import BackfillProgress as Progress
from runtime.bus import ALL_EVENTS, WORK, control_topic
from runtime.executions import store as executions
from runtime.paging import Window

if TYPE_CHECKING:
    from graphql_schema.pipelines.types import Pipeline

BACKFILL = "backfill"

strawberry.enum(BackfillState, description="How a backfill stands.")

BackfillId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The backfill's id.")]
PipelineId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The pipeline's id or name.")]
FirstChunks: TypeAlias = Annotated[int, strawberry.argument(description="How many chunks to show, 1-100.")]


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="How many of a backfill's executions stand where.")
class BackfillProgress:
    """`runtime.backfills.store.BackfillProgress`."""

    waiting: int = strawberry.field(description="Wait for their turn, or for whoever runs them.")
    running: int = strawberry.field(description="Run now.")
    completed: int = strawberry.field(description="Have completed.")
    failed: int = strawberry.field(description="Have failed.")
    cancelled: int = strawberry.field(description="Were cancelled.")
    percent: float = strawberry.field(description="The share that has ended, 0-100.")

    @classmethod
    def of(cls, progress: Progress) -> "BackfillProgress":
        """Show a progress."""
        percent = round(100 * progress.ended / progress.total, 2) if progress.total else 100.0
        return cls(
            waiting=progress.waiting,
            running=progress.running,
            completed=progress.completed,
            failed=progress.failed,
            cancelled=progress.cancelled,
            percent=percent,
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A range of a pipeline's past, run in chunks: each chunk is an execution.")
class Backfill(Node):
    """A row of `backfills`."""

    row: strawberry.Private[BackfillRow]
    known: strawberry.Private[Progress | None]
    range_start: datetime = strawberry.field(description="Where the range begins.")
    range_end: datetime = strawberry.field(description="Where it ends; not part of it.")
    chunk: str = strawberry.field(description="How long a chunk is, such as `6h`, `1d` or `1mo`.")
    most_at_once: int = strawberry.field(description="How many chunks run at once at most.")
    priority: int = strawberry.field(description="Its executions' priority; that of live runs is 0.")
    total: int = strawberry.field(description="How many executions it has.")
    already: int = strawberry.field(description="How many chunks of the range had completed, or were under way.")
    state: BackfillState = strawberry.field(description="How it stands.")
    requested_by: strawberry.ID | None = strawberry.field(description="The user who asked for it.")
    created_at: datetime = strawberry.field(description="When it was requested.")
    finished_at: datetime | None = strawberry.field(description="When its last execution had ended.")

    @classmethod
    def of(cls, row: BackfillRow, known: Progress | None = None) -> "Backfill":
        """Show a row, with its progress where that was read beforehand."""
        return cls(
            id=strawberry.ID(str(row.id)),
            row=row,
            known=known,
            range_start=row.range_start,
            range_end=row.range_end,
            chunk=row.chunk,
            most_at_once=row.most_at_once,
            priority=row.priority,
            total=row.total,
            already=row.already,
            state=row.state,
            requested_by=None if row.requested_by is None else strawberry.ID(str(row.requested_by)),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )

    @computed("The parameters of its executions' queries, beside the range.")
    def parameters(self) -> Json:
        return Json(self.row.parameters)

    @computed("How far it is.")
    async def progress(self, info: Info) -> BackfillProgress:
        known = self.known
        return BackfillProgress.of(await info.context.load(progress_of, self.row.id) if known is None else known)

    @computed("Its pipeline.")
    async def pipeline(self, info: Info) -> Annotated["Pipeline", strawberry.lazy("graphql_schema.pipelines.types")]:
        from graphql_schema.pipelines.types import pipeline_of  # noqa: PLC0415 (the two show each other)

        return await pipeline_of(info, self.row.pipeline_id)

    @computed("Its executions, those of the latest chunks first.")
    async def executions(self, info: Info, first: First = 20, after: After = None) -> Connection[Execution]:
        wanted = executions.ExecutionFilter(backfill_id=self.row.id)
        async with info.context.reading() as session:
            found = await executions.page(session, wanted, Window(first, after))

        async def count(info: Info) -> int:
            async with info.context.reading() as session:
                return await executions.total(session, wanted)

        return connection(found, Execution.of, count)


@permitted(Permission.ENGINEERS)
@strawberry.type(description="A chunk that a backfill would have.")
class BackfillChunk:
    """`runtime.backfills.requests.Chunk`."""

    start: str = strawberry.field(description="Where it begins: a day, or a moment.")
    end: str = strawberry.field(description="Where it ends; not part of it.")
    will_run: bool = strawberry.field(description="Whether it would run.")
    state: ExecutionState | None = strawberry.field(description="How its last execution stands; null without one.")

    @classmethod
    def of(cls, chunk: requests.Chunk) -> "BackfillChunk":
        """Show a chunk."""
        bounds = chunk.range.model_dump(mode="json")
        return cls(start=bounds["start"], end=bounds["end"], will_run=chunk.will_run, state=chunk.state)


@permitted(Permission.ENGINEERS)
@strawberry.type(description="What a backfill would do; nothing is added.")
class BackfillPreview:
    """`runtime.backfills.requests.Prepared`."""

    total: int = strawberry.field(description="How many executions it would have.")
    already: int = strawberry.field(description="How many chunks have completed, or are under way.")
    chunks: list[BackfillChunk] = strawberry.field(description="The first chunks of the range, the earliest first.")


@strawberry.input(description="Which range of a pipeline's past to run, and how.")
class BackfillInput:
    """`runtime.backfills.requests.Request`."""

    range_start: str = strawberry.field(description="A day such as `2026-01-31`, or a moment; in UTC.")
    range_end: str = strawberry.field(description="A day or a moment; not part of the range.")
    chunk: str = strawberry.field(default="1d", description="A number and m, h, d, w or mo, such as `6h`.")
    most_at_once: int = strawberry.field(default=1, description="How many chunks run at once at most.")
    priority: int = strawberry.field(default=requests.BEHIND_LIVE, description="That of live runs is 0.")
    parameters: Json | None = strawberry.field(default=None, description="The parameters of its queries, by name.")
    again: bool = strawberry.field(default=False, description="Whether to run also what has completed before.")

    def wanted(self, pipeline: str) -> requests.Request:
        """What the runtime takes."""
        return requests.Request(
            pipeline=pipeline,
            range_start=self.range_start,
            range_end=self.range_end,
            chunk=self.chunk,
            most_at_once=self.most_at_once,
            priority=self.priority,
            parameters=document(self.parameters, "parameters") or {},
            again=self.again,
        )


@strawberry.type
class BackfillQueries:
    """Reads backfills."""

    @query(Permission.SIGNED_IN, "The backfill of that id.")
    async def backfill(self, info: Info, id: BackfillId) -> Backfill:
        return await backfill_of(info, uuid_of(id))

    @query(Permission.ENGINEERS, "What a backfill would do; what it would be refused for is told here too.")
    async def backfill_preview(
        self, info: Info, pipeline: PipelineId, input: BackfillInput, first: FirstChunks = 20
    ) -> BackfillPreview:
        window = Window(first)
        async with info.context.reading() as session:
            prepared = await requests.prepare(session, input.wanted(pipeline))
        due = len(prepared.due)
        chunks = [BackfillChunk.of(chunk) for chunk in prepared.chunks[: window.first]]
        return BackfillPreview(total=due, already=len(prepared.chunks) - due, chunks=chunks)


@strawberry.type
class BackfillMutations:
    """Requests backfills, and pauses, resumes and cancels them."""

    @mutation(
        Permission.ENGINEERS,
        "Run a range of a pipeline's past in chunks. Those that have completed or are under way are left as they are, "
        "so that the same request again adds only what is missing or failed.",
    )
    async def request_backfill(self, info: Info, pipeline: PipelineId, input: BackfillInput) -> Backfill:
        wanted = input.wanted(pipeline)
        async with info.context.stating(WORK, ALL_EVENTS) as session:
            identity = await requests.request(session, wanted, info.context.signed_in)
            told = {"pipeline": str(pipeline), "range": f"{wanted.range_start}/{wanted.range_end}"}
            info.context.note("request", BACKFILL, identity, **told, chunk=wanted.chunk, again=wanted.again)
        return await backfill_of(info, identity)

    @mutation(Permission.ENGINEERS, "Start no more chunks of a backfill; those that run go on.")
    async def pause_backfill(self, info: Info, id: BackfillId) -> Backfill:
        identity = uuid_of(id)
        async with info.context.stating(ALL_EVENTS) as session:
            await control.pause(session, identity)
            info.context.note("pause", BACKFILL, identity)
        return await backfill_of(info, identity)

    @mutation(Permission.ENGINEERS, "Go on with a paused backfill.")
    async def resume_backfill(self, info: Info, id: BackfillId) -> Backfill:
        identity = uuid_of(id)
        async with info.context.stating(WORK, ALL_EVENTS) as session:
            await control.resume(session, identity)
            info.context.note("resume", BACKFILL, identity)
        return await backfill_of(info, identity)

    @mutation(Permission.ENGINEERS, "End a backfill: chunks that wait are withdrawn, those that run are stopped.")
    async def cancel_backfill(self, info: Info, id: BackfillId) -> Backfill:
        identity = uuid_of(id)
        async with info.context.stating() as session:
            stopped = await control.cancel(session, identity)
            info.context.note("cancel", BACKFILL, identity, stopped=len(stopped))
        await info.context.services.bus.publish(*map(control_topic, stopped), ALL_EVENTS)
        return await backfill_of(info, identity)


@strawberry.type
class BackfillSubscriptions:
    """Follows backfills."""

    @subscription(Permission.SIGNED_IN, "How far a backfill is, at once and whenever that has changed, to its end.")
    async def backfill_progress(self, info: Info, id: BackfillId) -> AsyncGenerator[Backfill, None]:
        services = info.context.services
        following = follow(services.database, services.bus, info.context.signed_in, id)
        async with aclosing(following):
            async for standing in following:
                yield Backfill.of(standing.backfill, standing.progress)


async def backfills_by_id(session: AsyncSession, ids: list[UUID]) -> list[BackfillRow | None]:
    """A batch for `Context.load`."""
    return await store.by_ids(session, ids)


async def progress_of(session: AsyncSession, ids: list[UUID]) -> list[Progress]:
    """A batch for `Context.load`."""
    return await store.progress(session, ids)


async def backfill_of(info: Info, identity: UUID) -> Backfill:
    """The backfill of an id; raises `NotFound`, also for what is hidden."""
    row = await info.context.load(backfills_by_id, identity)
    if row is None:
        raise no_backfill(identity)
    return Backfill.of(row)


async def backfills_of(info: Info, pipeline_id: UUID, window: Window) -> Connection[Backfill]:
    """A page of a pipeline's backfills; the first ones of several pipelines are one statement."""
    if window.after is None:
        found = await info.context.load(store.first_pages, store.FirstPage(pipeline_id, window.first))
    else:
        async with info.context.reading() as session:
            found = await store.page(session, pipeline_id, window)

    async def count(info: Info) -> int:
        async with info.context.reading() as session:
            return await store.total(session, pipeline_id)

    return connection(found, Backfill.of, count)


async def _find(info: Info, identity: UUID) -> Node | None:
    row = await info.context.load(backfills_by_id, identity)
    return None if row is None else Backfill.of(row)


FINDERS.append(_find)
