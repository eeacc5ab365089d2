"""Sources and destinations with their unsealed configurations, read by the runtime's own role."""

from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.base import StrictModel
from models.destinations import DataDestination
from models.errors import NotFound, Terminal
from models.fields import JsonObject
from models.sources import DataSource
from runtime.access.sealing import Sealer
from runtime.connectors.configs import (
    AUTHENTICATION,
    CONNECTION,
    DESTINATION,
    SOURCE,
    Parts,
    documents,
    dumped,
    plugin_of,
    unseal,
    whole,
)


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source with its unsealed configuration, ready for its plugin; never printed."""

    kind: str
    config: StrictModel = field(repr=False)
    name: str
    is_active: bool

    def require_active(self) -> None:
        """Raise `Terminal` where it is switched off."""
        if not self.is_active:
            raise _inactive(SOURCE, self.name)


@dataclass(frozen=True, slots=True)
class OpenedDestination:
    """An opened destination, with how it partitions, indexes and keeps earlier versions."""

    kind: str
    config: StrictModel = field(repr=False)
    name: str
    is_active: bool
    partition: JsonObject
    indexing: JsonObject
    backup: JsonObject

    def require_active(self) -> None:
        """Raise `Terminal` where it is switched off."""
        if not self.is_active:
            raise _inactive(DESTINATION, self.name)


def _inactive(noun: str, name: str) -> Terminal:
    hint = f"set is_active of the {noun} to true, or let the pipeline use another"
    return Terminal(f"the {noun} {name!r} is switched off", hint=hint, code="inactive")


async def open_source(session: AsyncSession, sealer: Sealer, source_id: UUID) -> OpenedSource:
    """A source with its configuration, for the runtime's own role; raises `NotFound`."""
    columns = (
        col(DataSource.kind),
        col(DataSource.source_name),
        col(DataSource.is_active),
        col(DataSource.connection_config),
        col(DataSource.authentication_config),
        col(DataSource.schema_config),
        col(DataSource.rate_limit_config),
    )
    row = (await session.execute(select(*columns).where(col(DataSource.id) == source_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no source {source_id}", hint="was it removed since?")
    parts = Parts(
        unseal(sealer, source_id, CONNECTION, row.connection_config),
        unseal(sealer, source_id, AUTHENTICATION, row.authentication_config),
        documents(schema_config=row.schema_config, rate_limit_config=row.rate_limit_config),
    )
    return OpenedSource(row.kind, whole(plugin_of(SOURCE, row.kind), parts), row.source_name, row.is_active)


async def open_destination(session: AsyncSession, sealer: Sealer, destination_id: UUID) -> OpenedDestination:
    """A destination with its configuration, for the runtime's own role; raises `NotFound`."""
    columns = (
        col(DataDestination.kind),
        col(DataDestination.destination_name),
        col(DataDestination.is_active),
        col(DataDestination.connection_config),
        col(DataDestination.schema_config),
        col(DataDestination.partition_config),
        col(DataDestination.indexing_config),
        col(DataDestination.backup_config),
    )
    found = await session.execute(select(*columns).where(col(DataDestination.id) == destination_id))
    row = found.one_or_none()
    if row is None:
        raise NotFound(f"there is no destination {destination_id}", hint="was it removed since?")
    connection = unseal(sealer, destination_id, CONNECTION, row.connection_config)
    parts = Parts(connection, documents=documents(schema_config=row.schema_config))
    return OpenedDestination(
        row.kind,
        whole(plugin_of(DESTINATION, row.kind), parts),
        row.destination_name,
        row.is_active,
        partition=dumped(row.partition_config),
        indexing=dumped(row.indexing_config),
        backup=dumped(row.backup_config),
    )
