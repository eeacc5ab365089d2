"""A queue of executions in bulk: pipelines with limits, pools with slots, and as many waiting items as a test wants."""

from collections import Counter
from collections.abc import Mapping
from uuid import UUID, uuid4

import asyncpg
import pytest

from runtime.database import Database
from runtime.queue import store
from runtime.queue.store import Claim
from tests.kit.identities import RUNTIME

LEASE = 15.0


class Lanes:
    """Executions of pipelines, written past row-level security, claimed as the runtime does."""

    def __init__(self, database: Database, owner: asyncpg.Connection) -> None:
        self.database = database
        self.owner = owner
        self.names: dict[UUID, str] = {}

    async def pipeline(self, name: str, *, max_active: int | None = None, pool: str = "default") -> UUID:
        """A pipeline of that name, with its limit."""
        identity = uuid4()
        self.names[identity] = name
        await self.owner.execute(
            """INSERT INTO data_pipelines
                   (id, pipeline_name, pipeline_type, source_config, destination_config, max_active, pool)
               VALUES ($1, $2, 'etl', '{}', '{}', $3, $4)""",
            identity,
            name,
            max_active,
            pool,
        )
        return identity

    async def slots(self, pool: str, slots: int) -> None:
        """Give a pool its size."""
        await self.owner.execute("INSERT INTO concurrency_pools (name, slots) VALUES ($1, $2)", pool, slots)

    async def submit(self, pipeline: UUID, count: int = 1, *, pool: str = "default", priority: int = 0) -> None:
        """Queue executions of a pipeline, each a millisecond younger than the one before."""
        await self.owner.execute(
            """INSERT INTO work_items (kind, subject, pipeline_id, pool, priority, created_at)
               SELECT 'execution', gen_random_uuid(), $1, $2, $3, clock_timestamp() + n * interval '1 ms'
               FROM generate_series(1, $4::int) AS n""",
            pipeline,
            pool,
            priority,
            count,
        )

    async def many(self, pipelines: int, each: int = 1) -> None:
        """Queue executions of as many pipelines that are not known otherwise."""
        await self.owner.execute(
            """INSERT INTO work_items (kind, subject, pipeline_id)
               SELECT 'execution', gen_random_uuid(), pipeline.id
               FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1::int)) AS pipeline,
                   generate_series(1, $2::int)""",
            pipelines,
            each,
        )

    async def claim(self, count: int, lease: float = LEASE) -> list[Claim]:
        """Claim executions in a transaction of its own."""
        async with self.database.statements(RUNTIME) as session:
            return await store.claim(session, "me", executions=count, lease_seconds=lease)

    async def turn(self, count: int = 1) -> list[str]:
        """Claim executions and end them at once: the names of their pipelines."""
        claims = await self.claim(count)
        async with self.database.statements(RUNTIME) as session:
            for claim in claims:
                await store.settle(session, claim)
        return [await self.name_of(claim) for claim in claims]

    async def name_of(self, claim: Claim) -> str:
        """The name of the pipeline of a claim; empty for one that is not known."""
        pipeline = await self.owner.fetchval("SELECT pipeline_id FROM work_items WHERE id = $1", claim.id)
        return self.names.get(pipeline, "")

    async def running(self) -> Mapping[str, int]:
        """How many executions of each pipeline are claimed."""
        rows = await self.owner.fetch("SELECT pipeline_id FROM work_items WHERE state = 'claimed'")
        return Counter(self.names.get(row["pipeline_id"], "") for row in rows)


@pytest.fixture
def lanes(database: Database, owner: asyncpg.Connection) -> Lanes:
    """An empty queue."""
    return Lanes(database, owner)
