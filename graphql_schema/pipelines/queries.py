"""Reads pipelines, their summary and their plans."""

import asyncio
from typing import Annotated, TypeAlias

import strawberry
from strawberry.utils.str_converters import to_camel_case

from graphql_schema.context import Info
from graphql_schema.fields import asks_for, query
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission, permitted
from graphql_schema.pipelines.types import Pipeline, PipelineSummary, recents
from graphql_schema.plans import Plan
from graphql_schema.scalars import Json
from models.errors import NotFound
from models.executions import ExecutionStatus
from models.fields import parse
from models.pipelines import PipelineType
from runtime.paging import Window
from runtime.pipelines import listing, store
from runtime.pipelines import plan as compiled
from runtime.pipelines.definition import PipelineDefinition
from runtime.transforms._contract import TRANSFORMS

RECENT = frozenset({"lastExecution", "successRate7d", "avgExecutionTimeMinutes", "nextScheduledRun"})
"""Fields that a list reads beforehand: waiting for them pipeline by pipeline would take longer than reading them."""

DOCUMENTS = frozenset(to_camel_case(name) for name in listing.DOCUMENTS)
"""Fields that are read only when asked for: decoding them takes as long as all others together."""

Reference: TypeAlias = Annotated[str, strawberry.argument(description="An id or a name.")]


@strawberry.input(description="Which pipelines are wanted; what is absent asks for all.")
class PipelineFilter:
    """`runtime.pipelines.listing.PipelineFilter`."""

    search: str | None = strawberry.field(default=None, description="Part of the name or the description.")
    tags: list[str] | None = strawberry.field(default=None, description="Tags that must all be there.")
    pipeline_type: PipelineType | None = strawberry.field(default=None, description="What it does.")
    is_active: bool | None = strawberry.field(default=None, description="Whether it may run.")
    is_paused: bool | None = strawberry.field(default=None, description="Whether it is paused.")
    last_status: ExecutionStatus | None = strawberry.field(default=None, description="How its last execution stands.")

    def wanted(self) -> listing.PipelineFilter:
        """What the store takes."""
        return listing.PipelineFilter(
            search=self.search,
            tags=self.tags or (),
            pipeline_type=self.pipeline_type,
            is_active=self.is_active,
            is_paused=self.is_paused,
            last_status=self.last_status,
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A kind of transform.")
class TransformKind:
    """A registered plugin."""

    kind: str = strawberry.field(description="Its name, as `type` of a transformation.")
    description: str = strawberry.field(description="What it gives.")
    config_schema: Json = strawberry.field(description="The JSON Schema of its `config`; a form can be drawn of it.")
    row_wise: bool = strawberry.field(description="Whether each row is made of one row, so that it fuses.")


Filter: TypeAlias = Annotated[PipelineFilter | None, strawberry.argument(description="Which are wanted.")]


@strawberry.type
class PipelineQueries:
    """Reads pipelines."""

    @query(Permission.SIGNED_IN, "The pipelines, by name.")
    async def pipelines(
        self, info: Info, first: First = 20, after: After = None, filter: Filter = None
    ) -> Connection[Pipeline]:
        wanted = (filter or PipelineFilter()).wanted()
        async with info.context.glancing() as session:
            documents = asks_for(info, DOCUMENTS)
            found = await listing.page(session, wanted, Window(first, after), documents=documents)
            read = await recents(session, [row.id for row in found.rows]) if asks_for(info, RECENT) else []
        known = dict(zip([row.id for row in found.rows], read, strict=False))

        async def count(info: Info) -> int:
            async with info.context.glancing() as session:
                return await listing.total(session, wanted)

        return connection(found, lambda row: Pipeline.of(row, known.get(row.id)), count)

    @query(Permission.SIGNED_IN, "The pipeline of that id or name.")
    async def pipeline(self, info: Info, reference: Reference) -> Pipeline:
        async with info.context.reading() as session:
            return Pipeline.of(await store.find(session, reference))

    @query(Permission.SIGNED_IN, "All pipelines in four numbers.")
    async def pipeline_summary(self, info: Info) -> PipelineSummary:
        async with info.context.glancing() as session:
            found = await listing.summary(session)
        return PipelineSummary(
            total_pipelines=found.total,
            active_pipelines=found.active,
            running_pipelines=found.running,
            failed_pipelines_24h=found.failed_24h,
        )

    @query(Permission.SIGNED_IN, "The JSON Schema of definitions; that of a transform's `config` is in its kind.")
    def definition_schema(self) -> Json:
        return Json(PipelineDefinition.model_json_schema())

    @query(Permission.SIGNED_IN, "The transforms there are, with the JSON Schema of what each wants to know.")
    async def transform_kinds(self) -> list[TransformKind]:
        """Finding plugins imports their libraries, so it happens beside the event loop."""
        return await asyncio.to_thread(_transform_kinds)

    @query(Permission.SIGNED_IN, "What a pipeline was compiled to, in its newest version or another.")
    async def plan(self, info: Info, pipeline: Reference, version: int | None = None) -> Plan:
        async with info.context.reading() as session:
            row = await store.find(session, pipeline)
            found = await store.version_of(session, row.id, row.version if version is None else version)
        if found.plan is None:
            raise NotFound("this version has no plan", hint="save the pipeline again")
        return Plan.of(parse(compiled.Plan, found.plan))


def _transform_kinds() -> list[TransformKind]:
    return [
        TransformKind(
            kind=kind,
            description=" ".join((plugin.__doc__ or "").split()),
            config_schema=Json(plugin.Config.model_json_schema()),
            row_wise=plugin.row_wise,
        )
        for kind, plugin in sorted(TRANSFORMS.all().items())
    ]
