"""A worker for tests: does what the queue holds beside executions, in a thread, as the runtime's workers do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from runtime.access.sealing import sealer_of
from runtime.batches.engine import Engine, EngineLimits
from runtime.bus import WORK, Bus
from runtime.cluster.work import Tools, perform
from runtime.cluster.worker import Background, StoredConnections
from runtime.database import Database
from runtime.executions.steps import Worker
from runtime.queue import store as queue
from runtime.settings import Settings
from tests.kit.database import Postgres
from tests.kit.identities import RUNTIME

POLL_SECONDS = 0.02


@pytest.fixture
async def working(
    settings: Settings, database: Database, postgres: Postgres, database_name: str
) -> AsyncIterator[None]:
    """While this lasts, all work but executions is done."""
    background, own = Background(), Database(postgres.server.url(database_name), pool_size=1)
    sealer = sealer_of(settings)
    engine = Engine(EngineLimits(threads=1, memory_mb=128, spill_folder=settings.home / "spill"))
    tools = Tools(Worker(StoredConnections(own, sealer, background), engine), own, background, sealer)

    async def work() -> None:
        async for _ in Bus(None).wakeups(WORK, every=POLL_SECONDS):
            async with database.transaction(RUNTIME) as session:
                claims = await queue.claim(session, "the tests", others=1, lease_seconds=30)
            for claim in claims:
                await asyncio.to_thread(perform, claim, tools)

    worker = asyncio.create_task(work())
    yield
    worker.cancel()
    with suppress(asyncio.CancelledError):
        await worker
    await asyncio.to_thread(background.wait, own.close())
