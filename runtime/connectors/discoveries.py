"""The schemas that discovery found, as versions, and the catalog that definitions are compiled against."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, Text, cast, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped
from sqlmodel import col

from models.destinations import DataDestination
from models.schemas import ChangeKind, ColumnDefinition, SchemaChange, SchemaDefinition, SchemaVersion
from models.sources import DataSource
from runtime.batches.types import Column, Columns
from runtime.connectors.catalog import Catalog, DestinationEntry, SourceEntry

P = TypeVar("P", DataSource, DataDestination)


async def record_discovery(
    session: AsyncSession,
    kind: type[P],
    place_id: UUID,
    found: Mapping[str, Columns],
    primary_keys: Mapping[str, tuple[str, ...]] | None = None,
) -> list[SchemaVersion]:
    """Keep what a discovery found: a new version of each dataset that changed; those that vanished become inactive.

    Answers the new versions.
    """
    keys = primary_keys or {}
    known = {version.dataset: version for version in await active_versions(session, kind, [place_id])}
    numbers = await _last_numbers(session, kind, place_id)
    made: list[SchemaVersion] = []
    for dataset, columns in found.items():
        definition = _definition(columns, keys.get(dataset, ()))
        before = known.get(dataset)
        if before is not None and before.schema_definition == definition:
            continue
        version = SchemaVersion(
            source_id=place_id if kind is DataSource else None,
            destination_id=None if kind is DataSource else place_id,
            dataset=dataset,
            version_number=numbers.get(dataset, 0) + 1,
            schema_definition=definition,
            schema_changes=differences(before.schema_definition, definition) if before else [],
            applied_at=datetime.now(UTC),
        )
        made.append(version)
    outdated = [known[name].id for name in known if name not in found or name in {one.dataset for one in made}]
    if outdated:
        ended = update(SchemaVersion).where(col(SchemaVersion.id).in_(outdated))
        await session.execute(ended.values(is_active=False))
    session.add_all(made)
    await session.flush()
    return made


async def active_versions(session: AsyncSession, kind: type[P], ids: Sequence[UUID]) -> Sequence[SchemaVersion]:
    """The current version of each dataset of these sources or destinations, by name."""
    wanted = select(SchemaVersion).where(_owner(kind).in_(ids), col(SchemaVersion.is_active))
    return (await session.scalars(wanted.order_by(col(SchemaVersion.dataset)))).all()


async def versions_by_source(session: AsyncSession, ids: list[UUID]) -> list[list[SchemaVersion]]:
    """For each source its datasets' current versions, in the order of the ids."""
    return _grouped(await active_versions(session, DataSource, ids), ids)


async def versions_by_destination(session: AsyncSession, ids: list[UUID]) -> list[list[SchemaVersion]]:
    """For each destination its tables' current versions, in the order of the ids."""
    return _grouped(await active_versions(session, DataDestination, ids), ids)


async def columns(session: AsyncSession, kind: type[P], place_id: UUID, dataset: str) -> Columns | None:
    """The discovered columns of a dataset; None before discovery."""
    wanted = select(SchemaVersion).where(
        _owner(kind) == place_id, col(SchemaVersion.dataset) == dataset, col(SchemaVersion.is_active)
    )
    found = await session.scalar(wanted)
    return None if found is None else columns_of(found.schema_definition)


async def catalog(session: AsyncSession, references: Sequence[str] | None = None) -> Catalog:
    """What a definition may name: everything that is not archived, or only what `references` name by id or name."""
    sources = (await session.scalars(_wanted(DataSource, references))).all()
    destinations = (await session.scalars(_wanted(DataDestination, references))).all()
    read: dict[UUID, dict[str, Columns]] = {row.id: {} for row in [*sources, *destinations]}
    versions = [
        *await active_versions(session, DataSource, [row.id for row in sources]),
        *await active_versions(session, DataDestination, [row.id for row in destinations]),
    ]
    keys: dict[UUID, dict[str, tuple[str, ...]]] = {identity: {} for identity in read}
    for version in versions:
        owner = version.source_id or version.destination_id
        if owner is not None and version.dataset is not None:
            read[owner][version.dataset] = columns_of(version.schema_definition)
            keys[owner][version.dataset] = version.schema_definition.primary_key
    return Catalog(
        sources=[
            SourceEntry(
                row.id, row.source_name, row.source_type, row.kind, row.is_active, read[row.id], _known(keys[row.id])
            )
            for row in sources
        ],
        destinations=[
            DestinationEntry(
                row.id,
                row.destination_name,
                row.destination_type,
                row.kind,
                row.is_active,
                row.write_mode,
                read[row.id],
                _known(keys[row.id]),
            )
            for row in destinations
        ],
    )


def _known(keys: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The keys of those datasets that have one."""
    return {dataset: key for dataset, key in keys.items() if key}


def columns_of(definition: SchemaDefinition) -> Columns:
    """The columns of a stored schema."""
    return tuple(Column(column.name, column.type, column.nullable) for column in definition.columns)


def differences(before: SchemaDefinition, after: SchemaDefinition) -> list[SchemaChange]:
    """What happened to the columns between two versions; losing a column or its type breaks those who read it."""
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    changes = [
        SchemaChange(kind=ChangeKind.COLUMN_REMOVED, column=name, before=column.type, breaking=True)
        for name, column in old.items()
        if name not in new
    ]
    for name, column in new.items():
        earlier = old.get(name)
        if earlier is None:
            changes.append(SchemaChange(kind=ChangeKind.COLUMN_ADDED, column=name, after=column.type))
        elif earlier.type != column.type:
            changed = ChangeKind.TYPE_CHANGED
            change = SchemaChange(kind=changed, column=name, before=earlier.type, after=column.type, breaking=True)
            changes.append(change)
        elif earlier.nullable != column.nullable:
            changed, was, now = ChangeKind.NULLABILITY_CHANGED, _nullability(earlier), _nullability(column)
            changes.append(SchemaChange(kind=changed, column=name, before=was, after=now))
    return changes


def _nullability(column: ColumnDefinition) -> str:
    return "nullable" if column.nullable else "required"


def _definition(columns: Columns, primary_key: tuple[str, ...]) -> SchemaDefinition:
    defined = tuple(ColumnDefinition(name=one.name, type=one.type, nullable=one.nullable) for one in columns)
    return SchemaDefinition(columns=defined, primary_key=primary_key)


def _owner(kind: type[P]) -> Mapped[UUID | None]:
    return col(SchemaVersion.source_id if kind is DataSource else SchemaVersion.destination_id)


def _wanted(kind: type[P], references: Sequence[str] | None) -> Select[P]:
    statement = select(kind).where(col(kind.archived_at).is_(None))
    if references is None:
        return statement
    name = col(DataSource.source_name) if kind is DataSource else col(DataDestination.destination_name)
    return statement.where(or_(name.in_(references), cast(col(kind.id), Text).in_(references)))


async def _last_numbers(session: AsyncSession, kind: type[P], place_id: UUID) -> Mapping[str | None, int]:
    highest = func.max(col(SchemaVersion.version_number))
    grouped = select(col(SchemaVersion.dataset), highest).where(_owner(kind) == place_id)
    rows = (await session.execute(grouped.group_by(col(SchemaVersion.dataset)))).all()
    return {row[0]: row[1] for row in rows}


def _grouped(versions: Sequence[SchemaVersion], ids: list[UUID]) -> list[list[SchemaVersion]]:
    groups: dict[UUID, list[SchemaVersion]] = {identity: [] for identity in ids}
    for version in versions:
        owner = version.source_id or version.destination_id
        if owner is not None:
            groups[owner].append(version)
    return [groups[identity] for identity in ids]
