"""Earlier versions of the tables of destinations: listed and restored."""

from datetime import datetime
from uuid import UUID

from pydantic import TypeAdapter

from api.client import operations, places
from api.client.transport import Transport
from api.client.values import Value
from runtime.pipelines.files import EntryKind


class TableVersion(Value):
    """An earlier version of a table: its rows, when and by which execution it was replaced, until when it is kept."""

    version: str
    rows: int
    replaced_at: datetime
    replaced_by: UUID
    expires_at: datetime


class RestoredTable(Value):
    """A table that has an earlier version's rows again."""

    table: str
    version: str
    rows: int


_VERSIONS = TypeAdapter(list[TableVersion])


class Backups:
    """What destinations keep of tables that loads replaced."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def versions(self, destination: str, table: str) -> list[TableVersion]:
        """The earlier versions of a table, the newest first; raises `NotFound` where there is no such destination."""
        identity = await self._identity(destination)
        return _VERSIONS.validate_python(await self._transport.ask(operations.VERSIONS, id=identity, table=table))

    async def restore(self, destination: str, table: str, version: str) -> RestoredTable:
        """Put a version in the place of the table; raises `NotFound` where there is none of that name."""
        identity = await self._identity(destination)
        answer = await self._transport.ask(operations.RESTORE, id=identity, table=table, version=version)
        return RestoredTable.model_validate(answer)

    async def _identity(self, destination: str) -> str:
        found = await places.find(self._transport, EntryKind.DESTINATION, destination)
        if found is None:
            raise places.missing(EntryKind.DESTINATION, destination)
        return str(found.id)
