"""One world for all scenarios of a session; each leaves it in order for the next."""

from collections.abc import AsyncIterator

import pytest

from tests.chaos.world import World, world

LEASE_SECONDS = 5.0


@pytest.fixture(scope="session")
async def shaken() -> AsyncIterator[World]:
    """The world, with leases short enough for CI."""
    async with world(LEASE_SECONDS) as made:
        yield made
