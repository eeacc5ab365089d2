"""Valkey for tests: one server a session, emptied before each test that asks for it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from runtime.bus import Bus
from runtime.embedded.guard import Guard
from runtime.embedded.valkey import EmbeddedValkey


@pytest.fixture(scope="session")
def valkey(guard: Guard) -> Iterator[EmbeddedValkey]:
    """The session's server."""
    server = EmbeddedValkey()
    guard.remove(server.folder)
    server.start()
    if server.pid is not None:
        guard.end(server.pid)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
async def redis_url(valkey: EmbeddedValkey) -> str:
    """The URL of the session's server, emptied."""
    client = Redis.from_url(valkey.url)
    await client.flushall()
    await client.aclose()
    return valkey.url


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """A client of the wake-up bus."""
    made = Bus(redis_url)
    yield made
    await made.close()
