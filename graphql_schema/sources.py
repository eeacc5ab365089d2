"""Sources: what is known of them, never their configurations; adding, changing, testing and discovering them."""

from datetime import datetime
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from graphql_schema.connectors import ConnectionCheck, Dataset, check, document, done, place_payload
from graphql_schema.context import Info
from graphql_schema.fields import computed, mutation, query
from graphql_schema.nodes import FINDERS, Node
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json, uuid_of
from models.errors import Invalid
from models.fields import parse
from models.schemas import SchemaConfig
from models.sources import DataSource, HealthStatus, MonitoringConfig, RateLimitConfig, SourceType
from runtime.connectors import store
from runtime.connectors.configs import SOURCE, plugin_of
from runtime.connectors.discoveries import versions_by_source
from runtime.paging import Window
from runtime.queue.kinds import WorkKind


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A place data comes from. Its connection and authentication are sealed and never shown.")
class Source(Node):
    """A row of `data_sources`."""

    source_name: str = strawberry.field(description="Its name, unique among sources.")
    source_type: SourceType = strawberry.field(description="What kind of place it is.")
    kind: str = strawberry.field(description="Which connector reads it.")
    schema_config: Json = strawberry.field(description="The schema expected of it, by dataset.")
    monitoring_config: Json = strawberry.field(description="How often it is checked.")
    rate_limit_config: Json = strawberry.field(description="How much may be asked of it.")
    is_active: bool = strawberry.field(description="Whether pipelines may read it.")
    health_status: HealthStatus = strawberry.field(description="How its last check went.")
    last_health_check: datetime | None = strawberry.field(description="When it was checked last.")
    archived_at: datetime | None = strawberry.field(description="When it was taken out of use.")
    created_by: strawberry.ID | None = strawberry.field(description="The user who added it.")
    created_at: datetime = strawberry.field(description="When it was added.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @classmethod
    def of(cls, row: DataSource) -> "Source":
        """Show a row."""
        return cls(
            id=strawberry.ID(str(row.id)),
            source_name=row.source_name,
            source_type=row.source_type,
            kind=row.kind,
            schema_config=Json(row.schema_config.model_dump(mode="json", exclude_none=True)),
            monitoring_config=Json(row.monitoring_config.model_dump(mode="json")),
            rate_limit_config=Json(row.rate_limit_config.model_dump(mode="json")),
            is_active=row.is_active,
            health_status=row.health_status,
            last_health_check=row.last_health_check,
            archived_at=row.archived_at,
            created_by=None if row.created_by is None else strawberry.ID(str(row.created_by)),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @computed("What was discovered in it, by name; empty before the first discovery.")
    async def datasets(self, info: Info) -> list[Dataset]:
        versions = await info.context.load(versions_by_source, UUID(self.id))
        return [Dataset.of(version) for version in versions]


async def sources_by_id(session: AsyncSession, ids: list[UUID]) -> list[DataSource | None]:
    """A batch for `Context.load`."""
    return await store.by_ids(session, DataSource, ids)


async def _find(info: Info, identity: UUID) -> Node | None:
    row = await info.context.load(sources_by_id, identity)
    return None if row is None else Source.of(row)


FINDERS.append(_find)


async def _count(info: Info) -> int:
    async with info.context.reading() as session:
        return await store.total(session, DataSource)


@strawberry.input(description="A source to add.")
class CreateSourceInput:
    """WS-269's columns, and the connector."""

    source_name: str = strawberry.field(description="Its name, unique among sources.")
    kind: str = strawberry.field(description="Which connector reads it; see `connectorKinds`.")
    connection_config: Json = strawberry.field(description="Its configuration, as the connector's JSON Schema says.")
    source_type: SourceType | None = strawberry.field(default=None, description="Must be the connector's, if given.")
    authentication_config: Json | None = strawberry.field(default=None, description="Its credentials.")
    schema_config: Json | None = strawberry.field(default=None, description="The schema expected of it, by dataset.")
    monitoring_config: Json | None = strawberry.field(default=None, description="How often it is checked.")
    rate_limit_config: Json | None = strawberry.field(default=None, description="How much may be asked of it.")
    is_active: bool | None = strawberry.field(
        default=None, description="Whether pipelines may read it; true if absent."
    )


@strawberry.input(description="What to change of a source; what is absent or null stays.")
class UpdateSourceInput:
    """As `CreateSourceInput`, all optional; the connector stays."""

    source_name: str | None = strawberry.field(default=None, description="Its new name.")
    connection_config: Json | None = strawberry.field(default=None, description="Replaces both sealed parts.")
    authentication_config: Json | None = strawberry.field(default=None, description="Given with `connectionConfig`.")
    schema_config: Json | None = strawberry.field(default=None, description="The schema expected of it, by dataset.")
    monitoring_config: Json | None = strawberry.field(default=None, description="How often it is checked.")
    rate_limit_config: Json | None = strawberry.field(default=None, description="How much may be asked of it.")
    is_active: bool | None = strawberry.field(default=None, description="Whether pipelines may read it.")


def _draft(given: CreateSourceInput | UpdateSourceInput) -> store.SourceDraft:
    schema = document(given.schema_config, "schema_config")
    monitoring = document(given.monitoring_config, "monitoring_config")
    rate_limit = document(given.rate_limit_config, "rate_limit_config")
    return store.SourceDraft(
        name=given.source_name,
        connection=document(given.connection_config, "connection_config"),
        authentication=document(given.authentication_config, "authentication_config"),
        schema_config=None if schema is None else parse(SchemaConfig, schema, "schema_config"),
        monitoring_config=None if monitoring is None else parse(MonitoringConfig, monitoring, "monitoring_config"),
        rate_limit_config=None if rate_limit is None else parse(RateLimitConfig, rate_limit, "rate_limit_config"),
        is_active=given.is_active,
    )


@strawberry.type
class SourceQueries:
    """Reads sources."""

    @query(Permission.SIGNED_IN, "The sources, by name.")
    async def sources(self, info: Info, first: First = 20, after: After = None) -> Connection[Source]:
        async with info.context.reading() as session:
            found = await store.page(session, DataSource, Window(first, after))
        return connection(found, Source.of, _count)

    @query(Permission.SIGNED_IN, "The source of that id or name.")
    async def source(self, info: Info, reference: str) -> Source:
        async with info.context.reading() as session:
            return Source.of(await store.find(session, DataSource, reference))


@strawberry.type
class SourceMutations:
    """Changes sources."""

    @mutation(Permission.ENGINEERS, "Add a source. Its configuration is checked, sealed and never shown again.")
    async def create_source(self, info: Info, input: CreateSourceInput) -> Source:
        context = info.context
        plugin = plugin_of(SOURCE, input.kind)
        if input.source_type is not None and input.source_type.value != getattr(plugin, "source_type", None):
            hint = f"leave it out, or say {getattr(plugin, 'source_type', None)}"
            raise Invalid(f"is not the type of the connector {input.kind!r}", hint=hint, path="source_type")
        async with context.writing() as session:
            sealer, by = context.services.sealer, context.signed_in
            row = await store.create_source(session, sealer, by, input.kind, _draft(input))
            context.note("create", SOURCE, row.id, name=row.source_name, kind=row.kind)
        return Source.of(row)

    @mutation(Permission.ENGINEERS, "Change a source.")
    async def update_source(self, info: Info, id: strawberry.ID, input: UpdateSourceInput) -> Source:
        context = info.context
        async with context.writing() as session:
            row = await store.update_source(session, context.services.sealer, uuid_of(id), _draft(input))
            changed = [name for name, value in vars(input).items() if value is not None]
            context.note("update", SOURCE, row.id, name=row.source_name, changed=[*changed])
        return Source.of(row)

    @mutation(Permission.ENGINEERS, "Take a source out of use and free its name; refused while a pipeline reads it.")
    async def archive_source(self, info: Info, id: strawberry.ID) -> Source:
        async with info.context.writing() as session:
            row = await store.archive(session, DataSource, uuid_of(id))
            info.context.note("archive", SOURCE, row.id, name=row.source_name)
        return Source.of(row)

    @mutation(Permission.ENGINEERS, "Have the runtime reach a source, and keep how it went as its health.")
    async def test_source(self, info: Info, id: strawberry.ID) -> ConnectionCheck:
        payload = place_payload(SOURCE, await _existing(info, id))
        info.context.note("test", SOURCE, id)
        return await check(info.context, payload)

    @mutation(Permission.ENGINEERS, "Have the runtime look which datasets a source has; answers it with them.")
    async def discover_source(self, info: Info, id: strawberry.ID) -> Source:
        identity = await _existing(info, id)
        info.context.note("discover", SOURCE, identity)
        await done(info.context, WorkKind.DISCOVER, place_payload(SOURCE, identity))
        async with info.context.reading() as session:
            return Source.of(await store.find(session, DataSource, identity))


async def _existing(info: Info, id: strawberry.ID) -> UUID:
    async with info.context.reading() as session:
        return (await store.find(session, DataSource, uuid_of(id))).id
