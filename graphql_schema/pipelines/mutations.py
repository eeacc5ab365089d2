"""Changes pipelines, and tries definitions out."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.connectors import document, done
from graphql_schema.context import Info
from graphql_schema.fields import mutation
from graphql_schema.permissions import Permission, permitted
from graphql_schema.pipelines.types import DefinitionChange, Pipeline, identified
from graphql_schema.plans import Plan, StepType
from graphql_schema.scalars import Json, Long
from models.base import StrictModel
from models.errors import Invalid
from models.fields import Json as JsonValue
from models.fields import JsonObject, parse
from runtime.bus import SCHEDULES
from runtime.pipelines import listing, store
from runtime.queue.kinds import WorkKind
from runtime.schedules import store as schedules

PIPELINE = "pipeline"
PREVIEW_ROWS = 20

strawberry.enum(store.Action, name="ApplyAction", description="What applying a definition did, or would do.")

PipelineId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="Its id or its name.")]
Definition: TypeAlias = Annotated[
    Json, strawberry.argument(description="A definition, in the simple or the explicit form; see `definitionSchema`.")
]


@strawberry.input(description="A pipeline to add.")
class CreatePipelineInput:
    """A definition, and why."""

    definition: Json = strawberry.field(description="What it does; its keys as in WS-269, in snake_case.")
    message: str | None = strawberry.field(default=None, description="Why, for the version's history.")


@strawberry.input(description="What to change of a pipeline; what is absent stays.")
class UpdatePipelineInput:
    """A whole definition or some of its keys, and what is not part of it."""

    definition: Json | None = strawberry.field(default=None, description="Replaces the whole definition.")
    changes: Json | None = strawberry.field(
        default=None, description="Replaces these top-level keys of the definition; null removes one."
    )
    is_active: bool | None = strawberry.field(default=None, description="Whether it may run.")
    is_paused: bool | None = strawberry.field(default=None, description="Whether it starts nothing new for now.")
    expected_version: int | None = strawberry.field(
        default=None, description="Refuse with a conflict if it is not at this version any more."
    )
    message: str | None = strawberry.field(default=None, description="Why, for the version's history.")

    def edit(self) -> store.Edit:
        """What the store takes; raises `Invalid`."""
        if self.definition is not None and self.changes is not None:
            raise Invalid("cannot come with `definition`", hint="give one of them", path="changes")
        return store.Edit(
            document=document(self.definition, "definition"),
            changes=document(self.changes, "changes"),
            is_active=self.is_active,
            is_paused=self.is_paused,
            expected_version=self.expected_version,
            message=self.message,
        )


@strawberry.input(description="A definition, or a saved pipeline, to try out; nothing is committed.")
class PreviewPipelineInput:
    """What to preview."""

    definition: Json | None = strawberry.field(default=None, description="A definition that need not be saved.")
    id: strawberry.ID | None = strawberry.field(default=None, description="The id or name of a saved pipeline.")
    parameters: Json | None = strawberry.field(default=None, description="The parameters of its queries, by name.")
    limit: int = strawberry.field(default=PREVIEW_ROWS, description="How many rows to read of each source.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A column of previewed rows.")
class PreviewColumn:
    """Name and type."""

    name: str = strawberry.field(description="Its name.")
    type: str = strawberry.field(description="Its type, as DuckDB names it.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="The first rows after one step, masked; or why there are none.")
class PreviewStep:
    """One step of a preview."""

    name: str = strawberry.field(description="The step's name.")
    type: StepType = strawberry.field(description="The part it plays.")
    columns: list[PreviewColumn] = strawberry.field(description="What it gives.")
    rows: Json = strawberry.field(description="Rows, each a list of values in the order of the columns.")
    records_in: Long = strawberry.field(description="Rows that went in.")
    records_out: Long = strawberry.field(description="Rows that came out.")
    error: str | None = strawberry.field(description="What went wrong in it.")
    hint: str | None = strawberry.field(description="What to do about it, where known.")
    path: str | None = strawberry.field(description="Where in the definition its cause is, where known.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a definition would do with the first rows of its sources.")
class Preview:
    """The result of a `preview` work item."""

    steps: list[PreviewStep] = strawberry.field(description="Its steps, in the plan's order.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What applying a definition did, or would do.")
class AppliedPipeline:
    """`runtime.pipelines.store.Applied`."""

    action: store.Action = strawberry.field(description="Whether a pipeline was added or changed, or was so already.")
    changes: list[DefinitionChange] = strawberry.field(description="What differs from the version before.")
    plan: Plan = strawberry.field(description="What it is compiled to.")
    pipeline: Pipeline | None = strawberry.field(description="The pipeline; null after a dry run.")


class _Failure(StrictModel):
    """Why a step of a preview has no rows."""

    message: str
    code: str | None = None
    hint: str | None = None
    path: str | None = None


class _Column(StrictModel):
    """A column of a preview."""

    name: str
    type: str
    nullable: bool = True


class _Step(StrictModel):
    """A step of a preview, as the runtime answers it."""

    name: str
    type: StepType
    columns: tuple[_Column, ...] = ()
    rows: tuple[JsonValue, ...] = ()
    records_in: int = 0
    records_out: int = 0
    error: _Failure | None = None

    def shown(self) -> PreviewStep:
        """As GraphQL shows it."""
        return PreviewStep(
            name=self.name,
            type=self.type,
            columns=[PreviewColumn(name=column.name, type=column.type) for column in self.columns],
            rows=Json(list(self.rows)),
            records_in=Long(self.records_in),
            records_out=Long(self.records_out),
            error=self.error.message if self.error else None,
            hint=self.error.hint if self.error else None,
            path=self.error.path if self.error else None,
        )


class _Preview(StrictModel):
    """What a `preview` work item results in."""

    steps: tuple[_Step, ...]


@strawberry.type
class PipelineMutations:
    """Changes pipelines."""

    @mutation(Permission.ENGINEERS, "Add a pipeline: its definition is checked, compiled and saved as version 1.")
    async def create_pipeline(self, info: Info, input: CreatePipelineInput) -> Pipeline:
        async with info.context.writing(SCHEDULES) as session:
            given = _required(input.definition)
            row = await store.create(session, given, info.context.signed_in, input.message)
            await schedules.follow(session, row, info.context.services.clock())
            info.context.note("create", PIPELINE, row.id, name=row.pipeline_name, version=row.version)
        return Pipeline.of(row)

    @mutation(Permission.ENGINEERS, "Change a pipeline; a changed definition becomes a new version.")
    async def update_pipeline(self, info: Info, id: PipelineId, input: UpdatePipelineInput) -> Pipeline:
        return await _updated(info, id, "update", input.edit())

    @mutation(Permission.ENGINEERS, "Start nothing new of a pipeline; what runs goes on.")
    async def pause_pipeline(self, info: Info, id: PipelineId) -> Pipeline:
        return await _updated(info, id, "pause", store.Edit(is_paused=True))

    @mutation(Permission.ENGINEERS, "Let a paused pipeline start again.")
    async def resume_pipeline(self, info: Info, id: PipelineId) -> Pipeline:
        return await _updated(info, id, "resume", store.Edit(is_paused=False))

    @mutation(Permission.ENGINEERS, "Save an earlier version of a pipeline as its newest.")
    async def rollback_pipeline(
        self, info: Info, id: PipelineId, version: int, expected_version: int | None = None
    ) -> Pipeline:
        identity = await identified(info.context, id)
        async with info.context.writing(SCHEDULES) as session:
            row = await store.rollback(session, identity, version, info.context.signed_in, expected_version)
            await schedules.follow(session, row, info.context.services.clock())
            info.context.note("rollback", PIPELINE, row.id, name=row.pipeline_name, version=row.version, to=version)
        return Pipeline.of(row)

    @mutation(Permission.ENGINEERS, "Take a pipeline out of use and free its name; its history stays.")
    async def archive_pipeline(self, info: Info, id: PipelineId) -> Pipeline:
        identity = await identified(info.context, id)
        async with info.context.writing() as session:
            row = await store.archive(session, identity)
            await schedules.follow(session, row, info.context.services.clock())
            info.context.note("archive", PIPELINE, row.id, name=row.pipeline_name)
        return Pipeline.of(row)

    @mutation(Permission.ENGINEERS, "Make the pipeline of the definition's name be so: add it, change it, or leave it.")
    async def apply_pipeline(self, info: Info, definition: Definition, dry_run: bool = False) -> AppliedPipeline:
        async with info.context.writing(SCHEDULES) as session:
            by, given = info.context.signed_in, _required(definition)
            applied = await store.apply(session, given, by, dry_run=dry_run)
            if applied.pipeline is None:
                await schedules.check(session, given)
            else:
                row = applied.pipeline
                await schedules.follow(session, row, info.context.services.clock())
                info.context.note("apply", PIPELINE, row.id, name=row.pipeline_name, did=applied.action.value)
        return AppliedPipeline(
            action=applied.action,
            changes=[DefinitionChange.of(change) for change in applied.changes],
            plan=Plan.of(applied.plan),
            pipeline=None if applied.pipeline is None else Pipeline.of(applied.pipeline),
        )

    @mutation(Permission.SIGNED_IN, "Check and compile a definition without saving it.")
    async def validate_pipeline(self, info: Info, definition: Definition) -> Plan:
        async with info.context.reading() as session:
            given = _required(definition)
            plan = Plan.of((await store.compiled(session, given)).plan)
            await schedules.check(session, given)
            return plan

    @mutation(Permission.ENGINEERS, "Run a definition on the first rows of its sources, without committing anything.")
    async def preview_pipeline(self, info: Info, input: PreviewPipelineInput) -> Preview:
        parameters = document(input.parameters, "parameters") or {}
        definition = await _previewed(info, input)
        payload: JsonObject = {"definition": definition, "parameters": parameters, "limit": input.limit}
        info.context.note("preview", PIPELINE, input.id, name=definition.get("pipeline_name"))
        found = parse(_Preview, await done(info.context, WorkKind.PREVIEW, payload))
        return Preview(steps=[step.shown() for step in found.steps])


async def _updated(info: Info, id: strawberry.ID, action: str, edit: store.Edit) -> Pipeline:
    identity = await identified(info.context, id)
    async with info.context.writing(SCHEDULES) as session:
        row = await store.update(session, identity, edit, info.context.signed_in)
        await schedules.follow(session, row, info.context.services.clock())
        info.context.note(action, PIPELINE, row.id, name=row.pipeline_name, version=row.version)
    return Pipeline.of(row)


async def _previewed(info: Info, input: PreviewPipelineInput) -> JsonObject:
    """The definition to preview, compiled already, so that what is wrong with it is told at once."""
    if (input.definition is None) == (input.id is None):
        raise Invalid("give either a definition or an id", path="definition")
    async with info.context.reading() as session:
        if input.id is not None:
            row = await store.find(session, input.id)
            return (await listing.documents(session, [row.id]))[0]
        return (await store.compiled(session, _required(input.definition))).document


def _required(definition: Json | None) -> JsonObject:
    """The definition as an object; the paths of its own errors begin inside it."""
    given = document(definition, "definition")
    if given is None:
        raise Invalid("is required", path="definition")
    return given
