"""The rows of sources and destinations; their secret parts go in sealed and come out only for the runtime."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar, cast
from uuid import UUID, uuid4

from sqlalchemy import Select, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from sqlmodel import col

from models.base import StrictModel
from models.destinations import BackupConfig, DataDestination, IndexingConfig, PartitionConfig, WriteMode
from models.errors import Conflict, Invalid, NotFound
from models.fields import Envelope, JsonObject
from models.parsing import as_uuid
from models.schemas import SchemaConfig
from models.sources import DataSource, HealthStatus, MonitoringConfig, RateLimitConfig
from runtime.access.principal import Principal
from runtime.access.sealing import Sealer
from runtime.connectors._contract import Destination, Source
from runtime.connectors.configs import (
    AUTHENTICATION,
    CONNECTION,
    DESTINATION,
    SOURCE,
    Parts,
    Plugin,
    documents,
    plugin_of,
    refuse_indexes,
    refuse_limits,
    seal,
    whole,
)
from runtime.paging import Order, Page, Window, count, fetch

Place: TypeAlias = DataSource | DataDestination
P = TypeVar("P", DataSource, DataDestination)

LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """What a person says of a source. In a change, None leaves a value as it is; `kind` cannot change.

    The secret parts are replaced together, since nobody may read them back: a change of `authentication` needs
    `connection` as well.
    """

    name: str | None = None
    connection: JsonObject | None = None
    authentication: JsonObject | None = None
    schema_config: SchemaConfig | None = None
    monitoring_config: MonitoringConfig | None = None
    rate_limit_config: RateLimitConfig | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class DestinationDraft:
    """What a person says of a destination; as `SourceDraft`."""

    name: str | None = None
    connection: JsonObject | None = None
    schema_config: SchemaConfig | None = None
    write_mode: WriteMode | None = None
    partition_config: PartitionConfig | None = None
    indexing_config: IndexingConfig | None = None
    backup_config: BackupConfig | None = None
    is_active: bool | None = None


async def create_source(
    session: AsyncSession, sealer: Sealer, by: Principal, kind: str, draft: SourceDraft
) -> DataSource:
    """Add a source; raises `Invalid` with the path of the bad key, and `Conflict` for a name that is taken."""
    plugin = plugin_of(SOURCE, kind)
    refuse_limits(plugin, draft.rate_limit_config)
    identity = uuid4()
    connection, authentication = _seal_source(identity, plugin, sealer, draft)
    row = DataSource(
        id=identity,
        source_name=await _free_name(session, DataSource, draft.name),
        source_type=_source_plugin(plugin).source_type,
        kind=kind,
        connection_config=connection,
        authentication_config=authentication,
        created_by=by.user_id,
    )
    return await _insert(session, row, _said(draft, _SOURCE_DOCUMENTS))


async def create_destination(
    session: AsyncSession, sealer: Sealer, by: Principal, kind: str, draft: DestinationDraft
) -> DataDestination:
    """Add a destination; raises as `create_source` does."""
    plugin = plugin_of(DESTINATION, kind)
    refuse_indexes(plugin, draft.indexing_config)
    identity = uuid4()
    row = DataDestination(
        id=identity,
        destination_name=await _free_name(session, DataDestination, draft.name),
        destination_type=_destination_plugin(plugin).destination_type,
        kind=kind,
        connection_config=_seal_destination(identity, plugin, sealer, draft),
        created_by=by.user_id,
    )
    return await _insert(session, row, _said(draft, _DESTINATION_DOCUMENTS))


async def update_source(session: AsyncSession, sealer: Sealer, source_id: UUID, draft: SourceDraft) -> DataSource:
    """Change a source; raises `NotFound`, and as `create_source` does."""
    row = await _locked(session, DataSource, source_id)
    refuse_limits(plugin_of(SOURCE, row.kind), draft.rate_limit_config)
    values = _said(draft, _SOURCE_DOCUMENTS)
    if draft.name is not None and draft.name != row.source_name:
        values["source_name"] = await _free_name(session, DataSource, draft.name)
    if draft.connection is not None:
        plugin = plugin_of(SOURCE, row.kind)
        values[CONNECTION], values[AUTHENTICATION] = _seal_source(row.id, plugin, sealer, draft)
    elif draft.authentication is not None:
        raise Invalid(
            "cannot be replaced alone",
            hint="give `connection_config` too: sealed parts cannot be read back, so they are replaced together",
            path=AUTHENTICATION,
        )
    return await _update(session, row, values)


async def update_destination(
    session: AsyncSession, sealer: Sealer, destination_id: UUID, draft: DestinationDraft
) -> DataDestination:
    """Change a destination; raises as `update_source` does."""
    row = await _locked(session, DataDestination, destination_id)
    refuse_indexes(plugin_of(DESTINATION, row.kind), draft.indexing_config)
    values = _said(draft, _DESTINATION_DOCUMENTS)
    if draft.name is not None and draft.name != row.destination_name:
        values["destination_name"] = await _free_name(session, DataDestination, draft.name)
    if draft.connection is not None:
        values[CONNECTION] = _seal_destination(row.id, plugin_of(DESTINATION, row.kind), sealer, draft)
    return await _update(session, row, values)


_USED = text("""
    SELECT DISTINCT pipeline.pipeline_name
    FROM pipeline_steps AS step JOIN data_pipelines AS pipeline ON pipeline.id = step.pipeline_id
    WHERE pipeline.archived_at IS NULL AND step.is_enabled
        AND jsonb_path_exists(
            step.step_config,
            '$.**.keyvalue() ? (@.key == $key && (@.value == $id || @.value == $name))',
            jsonb_build_object('key', CAST(:key AS text), 'id', CAST(:id AS text), 'name', CAST(:name AS text)),
            true)
    ORDER BY pipeline.pipeline_name LIMIT 5
""")


async def archive(session: AsyncSession, kind: type[P], place_id: UUID) -> P:
    """Take a source or destination out of use and free its name; raises `Conflict` while a pipeline uses it."""
    row = await _locked(session, kind, place_id)
    name = str(getattr(row, f"{_noun(kind)}_name"))
    await _refuse_used(session, _noun(kind), place_id, name)
    archived = f"{name}~archived~{secrets.token_hex(4)}"
    values = {f"{_noun(kind)}_name": archived, "archived_at": datetime.now(UTC), "is_active": False}
    return await _update(session, row, values)


async def find(session: AsyncSession, kind: type[P], reference: str | UUID) -> P:
    """The source or destination of a UUID or a name, unless it is archived; raises `NotFound`."""
    statement = _listed(kind)
    by_id = None if (identity := as_uuid(reference)) is None else statement.where(col(kind.id) == identity)
    found = None if by_id is None else await session.scalar(by_id)
    if found is None:
        found = await session.scalar(statement.where(_name_column(kind) == str(reference)))
    if found is None:
        noun = _noun(kind)
        raise NotFound(f"there is no {noun} {str(reference)!r}", hint=f"see the {noun}s there are, by id or name")
    return found


async def by_ids(session: AsyncSession, kind: type[P], ids: Sequence[UUID]) -> list[P | None]:
    """The rows of ids, in their order; None where there is none. Archived ones too, for history."""
    rows = (await session.scalars(select(kind).where(col(kind.id).in_(ids)))).all()
    known = {row.id: row for row in rows}
    return [known.get(identity) for identity in ids]


async def page(session: AsyncSession, kind: type[P], window: Window) -> Page[P]:
    """One page of what is not archived, in the order of names."""
    return await fetch(session, _listed(kind), Order((_name_column(kind),)), window)


async def total(session: AsyncSession, kind: type[P]) -> int:
    """How many are not archived."""
    return await count(session, _listed(kind))


async def record_health(
    session: AsyncSession, kind: type[P], place_id: UUID, health: HealthStatus, now: datetime
) -> None:
    """Note how a check went."""
    changed = update(kind).where(col(kind.id) == place_id)
    await session.execute(changed.values(health_status=health, last_health_check=now))


_SOURCE_DOCUMENTS = ("schema_config", "monitoring_config", "rate_limit_config", "is_active")
_DESTINATION_DOCUMENTS = (
    "schema_config",
    "write_mode",
    "partition_config",
    "indexing_config",
    "backup_config",
    "is_active",
)


def _said(draft: SourceDraft | DestinationDraft, names: Sequence[str]) -> dict[str, object]:
    """What a draft says of these columns."""
    return {name: value for name in names if (value := getattr(draft, name)) is not None}


def _seal_source(row: UUID, plugin: Plugin, sealer: Sealer, draft: SourceDraft) -> tuple[Envelope, Envelope | None]:
    said = documents(schema_config=draft.schema_config, rate_limit_config=draft.rate_limit_config)
    parts = Parts(_required(draft.connection), draft.authentication or {}, said)
    whole(plugin, parts)
    return seal(sealer, row, parts)


def _seal_destination(row: UUID, plugin: Plugin, sealer: Sealer, draft: DestinationDraft) -> Envelope:
    parts = Parts(_required(draft.connection), documents=documents(schema_config=draft.schema_config))
    whole(plugin, parts)
    return seal(sealer, row, parts)[0]


async def _insert(session: AsyncSession, row: P, values: Mapping[str, object]) -> P:
    for name, value in values.items():
        setattr(row, name, value)
    session.add(row)
    await session.flush()
    return row


async def _update(session: AsyncSession, row: P, values: Mapping[str, object]) -> P:
    """Write and read again. Not through the unit of work, which would read the sealed columns to see what they were."""
    kind = type(row)
    if values:
        changed = update(kind).where(col(kind.id) == row.id).values(**values)
        await session.execute(changed, execution_options={"synchronize_session": False})
        await session.scalar(select(kind).where(col(kind.id) == row.id).execution_options(populate_existing=True))
    return row


async def _locked(session: AsyncSession, kind: type[P], place_id: UUID) -> P:
    found = await session.scalar(_listed(kind).where(col(kind.id) == place_id).with_for_update())
    if found is None:
        noun = _noun(kind)
        raise NotFound(f"there is no {noun} {place_id}", hint=f"see the {noun}s there are", path="id")
    return found


async def _free_name(session: AsyncSession, kind: type[P], name: str | None) -> str:
    noun = _noun(kind)
    wanted = _name(name, f"{noun}_name")
    if await session.scalar(select(col(kind.id)).where(_name_column(kind) == wanted)) is not None:
        hint = f"choose another name, or change the {noun} that has it"
        raise Conflict(f"there is a {noun} named {wanted!r} already", hint=hint, path=f"{noun}_name")
    return wanted


async def _refuse_used(session: AsyncSession, noun: str, place_id: UUID, name: str) -> None:
    parameters = {"key": f"{noun}_id", "id": str(place_id), "name": name}
    users = (await session.scalars(_USED, parameters)).all()
    if users:
        listed = ", ".join(repr(user) for user in users)
        hint = f"archive or change these first, or set is_active to false: {listed}"
        raise Conflict(f"the {noun} {name!r} is used by a pipeline", hint=hint, code="in_use")


def _listed(kind: type[P]) -> Select[P]:
    return select(kind).where(col(kind.archived_at).is_(None))


def _name_column(kind: type[P]) -> InstrumentedAttribute[str]:
    return cast("InstrumentedAttribute[str]", getattr(kind, f"{_noun(kind)}_name"))


def _noun(kind: type[P]) -> str:
    return SOURCE if kind is DataSource else DESTINATION


def _source_plugin(plugin: Plugin) -> type[Source[StrictModel]]:
    return cast("type[Source[StrictModel]]", plugin)


def _destination_plugin(plugin: Plugin) -> type[Destination[StrictModel]]:
    return cast("type[Destination[StrictModel]]", plugin)


def _name(name: str | None, path: str) -> str:
    if name is None or not name.strip():
        raise Invalid("is required", path=path)
    if len(name) > LONGEST_NAME or name != name.strip() or not name.isprintable():
        hint = f"at most {LONGEST_NAME} printable letters, no blanks at the ends"
        raise Invalid("cannot be a name", hint=hint, path=path)
    if as_uuid(name) is not None:
        raise Invalid("cannot be a UUID", hint="references take a UUID for an id", path=path)
    return name


def _required(connection: JsonObject | None) -> JsonObject:
    if connection is None:
        raise Invalid("is required", path=CONNECTION)
    return connection
