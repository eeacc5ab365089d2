"""Destinations: what is known of them, never their configurations; changing, testing, discovering, restoring."""

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
from graphql_schema.scalars import Json, Long, uuid_of
from models.base import StrictModel
from models.destinations import (
    BackupConfig,
    DataDestination,
    DestinationType,
    IndexingConfig,
    PartitionConfig,
    WriteMode,
)
from models.errors import Invalid
from models.fields import parse
from models.schemas import SchemaConfig
from models.sources import HealthStatus
from runtime.connectors import store
from runtime.connectors.configs import DESTINATION, plugin_of
from runtime.connectors.discoveries import versions_by_destination
from runtime.paging import Window
from runtime.queue.kinds import WorkKind

strawberry.enum(WriteMode, description="What a load does to the rows that are there.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A place data goes to. Its connection is sealed and never shown.")
class Destination(Node):
    """A row of `data_destinations`."""

    destination_name: str = strawberry.field(description="Its name, unique among destinations.")
    destination_type: DestinationType = strawberry.field(description="What kind of place it is.")
    kind: str = strawberry.field(description="Which connector writes it.")
    schema_config: Json = strawberry.field(description="The schema expected of it, by table.")
    write_mode: WriteMode = strawberry.field(
        description="What a load does to the rows there, unless it says otherwise."
    )
    partition_config: Json = strawberry.field(description="How its tables are partitioned.")
    indexing_config: Json = strawberry.field(description="The indexes that loads make sure of.")
    backup_config: Json = strawberry.field(description="What an overwrite keeps of what it replaces.")
    is_active: bool = strawberry.field(description="Whether pipelines may write to it.")
    health_status: HealthStatus = strawberry.field(description="How its last check went.")
    last_health_check: datetime | None = strawberry.field(description="When it was checked last.")
    archived_at: datetime | None = strawberry.field(description="When it was taken out of use.")
    created_by: strawberry.ID | None = strawberry.field(description="The user who added it.")
    created_at: datetime = strawberry.field(description="When it was added.")
    updated_at: datetime = strawberry.field(description="When it was changed last.")

    @classmethod
    def of(cls, row: DataDestination) -> "Destination":
        """Show a row."""
        return cls(
            id=strawberry.ID(str(row.id)),
            destination_name=row.destination_name,
            destination_type=row.destination_type,
            kind=row.kind,
            schema_config=Json(row.schema_config.model_dump(mode="json", exclude_none=True)),
            write_mode=row.write_mode,
            partition_config=Json(row.partition_config.model_dump(mode="json")),
            indexing_config=Json(row.indexing_config.model_dump(mode="json", exclude_none=True)),
            backup_config=Json(row.backup_config.model_dump(mode="json")),
            is_active=row.is_active,
            health_status=row.health_status,
            last_health_check=row.last_health_check,
            archived_at=row.archived_at,
            created_by=None if row.created_by is None else strawberry.ID(str(row.created_by)),
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @computed("The tables that were discovered in it, by name; empty before the first discovery.")
    async def datasets(self, info: Info) -> list[Dataset]:
        versions = await info.context.load(versions_by_destination, UUID(self.id))
        return [Dataset.of(version) for version in versions]


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="An earlier version of a table that can be restored.")
class TableVersion:
    """What a destination keeps of a table that a load replaced."""

    version: str = strawberry.field(description="Its name, as `restoreDestination` takes it.")
    rows: Long = strawberry.field(description="How many rows it has.")
    replaced_at: datetime = strawberry.field(description="When it was replaced.")
    replaced_by: strawberry.ID = strawberry.field(description="The execution that replaced it.")
    expires_at: datetime = strawberry.field(description="Until when it is kept, unless newer ones take its place.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A table whose earlier version is in its place again.")
class RestoredTable:
    """What a restore did."""

    destination: Destination = strawberry.field(description="Where the table is.")
    table: str = strawberry.field(description="The table.")
    version: str = strawberry.field(description="The version that it has again.")
    rows: Long = strawberry.field(description="How many rows it has now.")


class _Kept(StrictModel):
    version: str
    rows: int
    replaced_at: datetime
    replaced_by: UUID
    expires_at: datetime


class _Versions(StrictModel):
    """What a `versions` work item results in."""

    versions: tuple[_Kept, ...]


class _Restored(StrictModel):
    """What a `restore` work item results in."""

    rows: int


async def destinations_by_id(session: AsyncSession, ids: list[UUID]) -> list[DataDestination | None]:
    """A batch for `Context.load`."""
    return await store.by_ids(session, DataDestination, ids)


async def _find(info: Info, identity: UUID) -> Node | None:
    row = await info.context.load(destinations_by_id, identity)
    return None if row is None else Destination.of(row)


FINDERS.append(_find)


async def _count(info: Info) -> int:
    async with info.context.reading() as session:
        return await store.total(session, DataDestination)


@strawberry.input(description="A destination to add.")
class CreateDestinationInput:
    """WS-269's columns, and the connector."""

    destination_name: str = strawberry.field(description="Its name, unique among destinations.")
    kind: str = strawberry.field(description="Which connector writes it; see `connectorKinds`.")
    connection_config: Json = strawberry.field(description="Its configuration, as the connector's JSON Schema says.")
    destination_type: DestinationType | None = strawberry.field(
        default=None, description="Must be the connector's, if given."
    )
    schema_config: Json | None = strawberry.field(default=None, description="The schema expected of it, by table.")
    write_mode: WriteMode | None = strawberry.field(default=None, description="How loads write; append if absent.")
    partition_config: Json | None = strawberry.field(default=None, description="How its tables are partitioned.")
    indexing_config: Json | None = strawberry.field(default=None, description="The indexes that loads make sure of.")
    backup_config: Json | None = strawberry.field(default=None, description="What an overwrite keeps.")
    is_active: bool | None = strawberry.field(default=None, description="Whether it may be written; true if absent.")


@strawberry.input(description="What to change of a destination; what is absent or null stays.")
class UpdateDestinationInput:
    """As `CreateDestinationInput`, all optional; the connector stays."""

    destination_name: str | None = strawberry.field(default=None, description="Its new name.")
    connection_config: Json | None = strawberry.field(default=None, description="Replaces the sealed configuration.")
    schema_config: Json | None = strawberry.field(default=None, description="The schema expected of it, by table.")
    write_mode: WriteMode | None = strawberry.field(default=None, description="How loads write.")
    partition_config: Json | None = strawberry.field(default=None, description="How its tables are partitioned.")
    indexing_config: Json | None = strawberry.field(default=None, description="The indexes that loads make sure of.")
    backup_config: Json | None = strawberry.field(default=None, description="What an overwrite keeps.")
    is_active: bool | None = strawberry.field(default=None, description="Whether it may be written.")


def _draft(given: CreateDestinationInput | UpdateDestinationInput) -> store.DestinationDraft:
    schema = document(given.schema_config, "schema_config")
    partition = document(given.partition_config, "partition_config")
    indexing = document(given.indexing_config, "indexing_config")
    backup = document(given.backup_config, "backup_config")
    return store.DestinationDraft(
        name=given.destination_name,
        connection=document(given.connection_config, "connection_config"),
        schema_config=None if schema is None else parse(SchemaConfig, schema, "schema_config"),
        write_mode=given.write_mode,
        partition_config=None if partition is None else parse(PartitionConfig, partition, "partition_config"),
        indexing_config=None if indexing is None else parse(IndexingConfig, indexing, "indexing_config"),
        backup_config=None if backup is None else parse(BackupConfig, backup, "backup_config"),
        is_active=given.is_active,
    )


@strawberry.type
class DestinationQueries:
    """Reads destinations."""

    @query(Permission.SIGNED_IN, "The destinations, by name.")
    async def destinations(self, info: Info, first: First = 20, after: After = None) -> Connection[Destination]:
        async with info.context.reading() as session:
            found = await store.page(session, DataDestination, Window(first, after))
        return connection(found, Destination.of, _count)

    @query(Permission.SIGNED_IN, "The destination of that id or name.")
    async def destination(self, info: Info, reference: str) -> Destination:
        async with info.context.reading() as session:
            return Destination.of(await store.find(session, DataDestination, reference))

    @query(Permission.ENGINEERS, "The earlier versions that a destination keeps of a table, the newest first.")
    async def destination_versions(self, info: Info, id: strawberry.ID, table: str) -> list[TableVersion]:
        payload = place_payload(DESTINATION, (await _existing(info, id)).id)
        found = parse(_Versions, await done(info.context, WorkKind.VERSIONS, {**payload, "table": table}))
        return [
            TableVersion(
                version=kept.version,
                rows=Long(kept.rows),
                replaced_at=kept.replaced_at,
                replaced_by=strawberry.ID(str(kept.replaced_by)),
                expires_at=kept.expires_at,
            )
            for kept in found.versions
        ]


@strawberry.type
class DestinationMutations:
    """Changes destinations."""

    @mutation(Permission.ENGINEERS, "Add a destination. Its configuration is checked, sealed and never shown again.")
    async def create_destination(self, info: Info, input: CreateDestinationInput) -> Destination:
        context = info.context
        plugin = plugin_of(DESTINATION, input.kind)
        wanted = getattr(plugin, "destination_type", None)
        if input.destination_type is not None and input.destination_type.value != wanted:
            hint = f"leave it out, or say {wanted}"
            raise Invalid(f"is not the type of the connector {input.kind!r}", hint=hint, path="destination_type")
        async with context.writing() as session:
            sealer, by = context.services.sealer, context.signed_in
            row = await store.create_destination(session, sealer, by, input.kind, _draft(input))
            context.note("create", DESTINATION, row.id, name=row.destination_name, kind=row.kind)
        return Destination.of(row)

    @mutation(Permission.ENGINEERS, "Change a destination.")
    async def update_destination(self, info: Info, id: strawberry.ID, input: UpdateDestinationInput) -> Destination:
        context = info.context
        async with context.writing() as session:
            row = await store.update_destination(session, context.services.sealer, uuid_of(id), _draft(input))
            changed = [name for name, value in vars(input).items() if value is not None]
            context.note("update", DESTINATION, row.id, name=row.destination_name, changed=[*changed])
        return Destination.of(row)

    @mutation(Permission.ENGINEERS, "Take a destination out of use and free its name; refused while it is loaded.")
    async def archive_destination(self, info: Info, id: strawberry.ID) -> Destination:
        async with info.context.writing() as session:
            row = await store.archive(session, DataDestination, uuid_of(id))
            info.context.note("archive", DESTINATION, row.id, name=row.destination_name)
        return Destination.of(row)

    @mutation(Permission.ENGINEERS, "Have the runtime reach a destination, and keep how it went as its health.")
    async def test_destination(self, info: Info, id: strawberry.ID) -> ConnectionCheck:
        payload = place_payload(DESTINATION, (await _existing(info, id)).id)
        info.context.note("test", DESTINATION, id)
        return await check(info.context, payload)

    @mutation(Permission.ENGINEERS, "Have the runtime look which tables a destination has; answers it with them.")
    async def discover_destination(self, info: Info, id: strawberry.ID) -> Destination:
        identity = (await _existing(info, id)).id
        info.context.note("discover", DESTINATION, identity)
        await done(info.context, WorkKind.DISCOVER, place_payload(DESTINATION, identity))
        async with info.context.reading() as session:
            return Destination.of(await store.find(session, DataDestination, identity))

    @mutation(Permission.ENGINEERS, "Put an earlier version in the place of a table. What was loaded stays known.")
    async def restore_destination(self, info: Info, id: strawberry.ID, table: str, version: str) -> RestoredTable:
        row = await _existing(info, id)
        payload = {**place_payload(DESTINATION, row.id), "table": table, "version": version}
        info.context.note("restore", DESTINATION, row.id, name=row.destination_name, table=table, version=version)
        found = parse(_Restored, await done(info.context, WorkKind.RESTORE, payload))
        return RestoredTable(destination=Destination.of(row), table=table, version=version, rows=Long(found.rows))


async def _existing(info: Info, id: strawberry.ID) -> DataDestination:
    async with info.context.reading() as session:
        return await store.find(session, DataDestination, uuid_of(id))
