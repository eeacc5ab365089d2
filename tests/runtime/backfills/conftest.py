"""A pipeline that takes ranges, and hands that claim and end its executions as the runtime does."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import text

from models.backfills import Backfill
from models.executions import ExecutionState
from models.fields import Json, JsonObject
from models.pipelines import DataPipeline
from runtime.backfills import control, requests, store
from runtime.backfills.requests import Request
from runtime.backfills.store import BackfillProgress
from runtime.database import Database
from runtime.queue import store as queue
from runtime.queue.store import Claim
from tests.kit.factories import pipelines as make
from tests.kit.identities import ENGINEER, RUNTIME


def ranged(name: str = "bookings-by-day", **changes: Json) -> JsonObject:
    """A pipeline that reads `bookings` incrementally over `updated_at`."""
    read: JsonObject = {
        "source_id": "wedding-api-db",
        "dataset": "bookings",
        "incremental": {"cursor_column": "updated_at"},
    }
    write: JsonObject = {"destination_id": "analytics-warehouse", "table_name": "copies", "write_mode": "append"}
    return {
        "pipeline_name": name,
        "pipeline_type": "etl",
        "source_config": read,
        "destination_config": write,
        **changes,
    }


@dataclass
class Yard:
    """A database with one pipeline, and what a runtime would do to its backfills."""

    database: Database
    pipeline: DataPipeline

    async def request(self, start: str, end: str, chunk: str = "1d", **how: object) -> Backfill:
        wanted = Request(self.pipeline.id, start, end, chunk, **how)  # type: ignore[arg-type]
        async with self.database.statements(ENGINEER) as session:
            identity = await requests.request(session, wanted, ENGINEER)
        return await self.backfill(identity)

    async def backfill(self, identity: UUID) -> Backfill:
        async with self.database.transaction(ENGINEER) as session:
            return await store.find(session, identity)

    async def progress(self, identity: UUID) -> BackfillProgress:
        async with self.database.statements(ENGINEER) as session:
            return (await store.progress(session, [identity]))[0]

    async def keep(self) -> control.Kept:
        async with self.database.statements(RUNTIME, lasting=False) as session:
            return await control.keep(session)

    async def claim(self, limit: int = 1_000) -> list[Claim]:
        async with self.database.statements(RUNTIME) as session:
            return await queue.claim(session, "yard", executions=limit, lease_seconds=60)

    async def end(self, *claims: Claim, state: ExecutionState = ExecutionState.COMPLETED) -> None:
        """End the executions of claims, as a journal does."""
        async with self.database.statements(RUNTIME) as session:
            await session.execute(_END, {"ids": [claim.subject for claim in claims], "state": state.value})

    async def ranges(self, claims: Sequence[Claim]) -> list[tuple[str, str]]:
        """The ranges of claimed executions, in their order."""
        async with self.database.statements(RUNTIME) as session:
            rows = (await session.execute(_RANGES, {"ids": [claim.subject for claim in claims]})).all()
        return [(row.range["start"], row.range["end"]) for row in rows]

    async def through(self, state: ExecutionState = ExecutionState.COMPLETED) -> None:
        """Run everything there is to its end."""
        while claims := await self.claim():
            await self.end(*claims, state=state)
            await self.keep()


_END = text("""
    WITH ended AS (
        UPDATE pipeline_executions
        SET state = CAST(:state AS text), status = CAST(:state AS text), completed_at = now()
        WHERE id = ANY(CAST(:ids AS uuid[])) RETURNING id
    )
    UPDATE work_items SET state = 'done', finished_at = now() FROM ended WHERE subject = ended.id
    RETURNING work_items.id
""")
_RANGES = text("""
    SELECT execution_context -> 'date_range' AS range FROM pipeline_executions
    WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY array_position(CAST(:ids AS uuid[]), id)
""")


@pytest.fixture
async def yard(database: Database) -> Yard:
    await make.places(database)
    return Yard(database, await make.pipeline(database, ranged()))
