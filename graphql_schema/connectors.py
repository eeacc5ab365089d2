"""Connectors: which kinds there are and what they want to know, what a test of one answers, what is discovered."""

import asyncio
from datetime import datetime
from enum import Enum
from typing import Annotated, TypeAlias, cast

import strawberry

from graphql_schema.context import Context, Info
from graphql_schema.fields import mutation, query
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json
from models.base import StrictModel
from models.destinations import DestinationType
from models.errors import Invalid
from models.fields import JsonObject, parse
from models.schemas import SchemaVersion
from models.sources import HealthStatus, SourceType
from runtime.bus import WORK
from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.connectors.configs import DESTINATION, SOURCE, Parts, seal_inline
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind

strawberry.enum(HealthStatus, description="How the last checks of a source or destination went.")
strawberry.enum(SourceType, description="What kind of place data comes from.")
strawberry.enum(DestinationType, description="What kind of place data goes to.")

ANSWER_MARGIN_SECONDS = 1.0


@strawberry.enum(description="Whether something is a source or a destination.")
class Entity(Enum):
    """The two ends of a pipeline."""

    SOURCE = SOURCE
    DESTINATION = DESTINATION


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A kind of source or destination: one connector.")
class ConnectorKind:
    """A registered plugin."""

    entity: Entity = strawberry.field(description="Whether it reads or writes.")
    kind: str = strawberry.field(description="Its name, as `kind` of a source or destination.")
    type: str = strawberry.field(description="The `sourceType` or `destinationType` it belongs to.")
    description: str = strawberry.field(description="What it does.")
    config_schema: Json = strawberry.field(
        description="The JSON Schema of its configuration; a form can be drawn of it."
    )
    incremental: bool = strawberry.field(description="Whether it can read only what changed; false for destinations.")
    write_modes: list[str] = strawberry.field(description="How it can write; empty for sources.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A column of a dataset.")
class DatasetColumn:
    """A discovered column."""

    name: str = strawberry.field(description="Its name.")
    type: str = strawberry.field(description="Its type, as DuckDB names it.")
    nullable: bool = strawberry.field(description="Whether it may be null.")
    description: str | None = strawberry.field(description="What it means, where the source says so.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A dataset of a source, or a table of a destination, as it was discovered last.")
class Dataset:
    """The active version of a dataset's schema."""

    name: str = strawberry.field(description="The table, endpoint or file pattern.")
    version: int = strawberry.field(description="How many schemas it has had.")
    columns: list[DatasetColumn] = strawberry.field(description="Its columns, in order.")
    primary_key: list[str] = strawberry.field(description="The columns that identify a row, where known.")
    discovered_at: datetime | None = strawberry.field(description="When this version was found.")

    @classmethod
    def of(cls, version: SchemaVersion) -> "Dataset":
        """Show a schema version."""
        definition = version.schema_definition
        return cls(
            name=version.dataset or "",
            version=version.version_number,
            columns=[DatasetColumn(**column.model_dump()) for column in definition.columns],
            primary_key=list(definition.primary_key),
            discovered_at=version.applied_at,
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a connection test found.")
class ConnectionCheck:
    """The answer of a connector's `check`."""

    ok: bool = strawberry.field(description="Whether it can be used.")
    message: str = strawberry.field(description="What was reached, or what is wrong.")
    latency_ms: float = strawberry.field(description="How long the answer took, in milliseconds.")
    version: str | None = strawberry.field(description="The version of what was reached, where it tells.")


@strawberry.input(description="A connection to try out before it is saved.")
class TestConnectionInput:
    """The configuration of a source or destination that has no row."""

    entity: Entity = strawberry.field(description="Whether to try it as a source or as a destination.")
    kind: str = strawberry.field(description="The connector.")
    connection_config: Json = strawberry.field(description="Its configuration.")
    authentication_config: Json | None = strawberry.field(default=None, description="Its credentials.")


class _Check(StrictModel):
    """What a `check` work item results in."""

    ok: bool
    message: str
    latency_ms: float
    version: str | None = None


EntityFilter: TypeAlias = Annotated[
    Entity | None, strawberry.argument(description="Only sources, or only destinations.")
]


@strawberry.type
class ConnectorQueries:
    """Reads which connectors there are."""

    @query(Permission.SIGNED_IN, "The connectors there are, with the JSON Schema of what each wants to know.")
    async def connector_kinds(self, entity: EntityFilter = None) -> list[ConnectorKind]:
        """Finding plugins imports their libraries, so it happens beside the event loop."""
        kinds = await asyncio.to_thread(_kinds)
        return [kind for kind in kinds if entity is None or kind.entity is entity]


@strawberry.type
class ConnectorMutations:
    """Tries connections."""

    @mutation(Permission.ENGINEERS, "Try a connection that is not saved; nothing of it is kept.")
    async def test_connection(self, info: Info, input: TestConnectionInput) -> ConnectionCheck:
        connection = parse(JsonObject, input.connection_config, "connection_config")
        authentication = parse(JsonObject, input.authentication_config or {}, "authentication_config")
        parts = Parts(connection, authentication)
        payload = seal_inline(info.context.services.sealer, str(input.entity.value), input.kind, parts)
        info.context.note("test", str(input.entity.value), kind=input.kind)
        return await check(info.context, payload)


async def check(context: Context, payload: JsonObject) -> ConnectionCheck:
    """Have the runtime test a connection and wait for its answer; raises what the connector raised."""
    found = parse(_Check, await done(context, WorkKind.CHECK, payload))
    return ConnectionCheck(ok=found.ok, message=found.message, latency_ms=found.latency_ms, version=found.version)


async def done(context: Context, kind: WorkKind, payload: JsonObject) -> object:
    """Enqueue work and wait for its result; raises its typed error, or `Unavailable` when nobody does it in time."""
    services = context.services
    async with context.writing(WORK) as session:
        item = await queue.enqueue(session, kind, by=context.signed_in.user_id, payload=payload)
    longest = services.settings.graphql_timeout_seconds - ANSWER_MARGIN_SECONDS
    timeout = min(services.settings.work_timeout_seconds, max(longest, ANSWER_MARGIN_SECONDS))
    return await queue.outcome(services.database, services.bus, context.signed_in, item, timeout)


def place_payload(entity: str, place_id: object) -> JsonObject:
    """The payload of work on a saved source or destination."""
    return {"entity": entity, "id": str(place_id)}


def document(value: Json | None, path: str) -> JsonObject | None:
    """A JSON object of an input; raises `Invalid` for other JSON."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Invalid("should be an object", path=path)
    return cast(JsonObject, value)


def _kinds() -> list[ConnectorKind]:
    sources = [
        ConnectorKind(
            entity=Entity.SOURCE,
            kind=kind,
            type=plugin.source_type.value,
            description=_summary(plugin),
            config_schema=Json(plugin.Config.model_json_schema()),
            incremental=plugin.incremental,
            write_modes=[],
        )
        for kind, plugin in sorted(SOURCES.all().items())
    ]
    destinations = [
        ConnectorKind(
            entity=Entity.DESTINATION,
            kind=kind,
            type=plugin.destination_type.value,
            description=_summary(plugin),
            config_schema=Json(plugin.Config.model_json_schema()),
            incremental=False,
            write_modes=sorted(mode.value for mode in plugin.write_modes),
        )
        for kind, plugin in sorted(DESTINATIONS.all().items())
    ]
    return sources + destinations


def _summary(plugin: type) -> str:
    return " ".join((plugin.__doc__ or "").strip().split("\n\n")[0].split())
