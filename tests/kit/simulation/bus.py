"""A wake-up bus whose messages are lost, repeated, delayed and so reordered."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from runtime.bus import Bus

if TYPE_CHECKING:
    from tests.kit.simulation.world import World


class Exchange:
    """All who listen, in the whole world."""

    def __init__(self) -> None:
        self.listeners: list[tuple[tuple[str, ...], asyncio.Queue[str]]] = []

    def tell(self, topic: str) -> None:
        """Give a message to everyone who listens."""
        for wanted, waiting in self.listeners:
            if any(one == topic or (one[-1:] == "*" and topic.startswith(one[:-1])) for one in wanted):
                waiting.put_nowait(topic)


class SimulatedBus(Bus):
    """One process's client of it."""

    def __init__(self, world: "World") -> None:
        super().__init__(None)
        self._world = world

    async def publish(self, *topics: str) -> None:
        """Send wake-ups; nobody learns whether they arrive."""
        for topic in topics:
            self._world.send(topic)

    async def wakeups(self, *topics: str, every: float) -> AsyncIterator[str | None]:
        """Yield at once, then each wake-up, and None whenever `every` seconds passed without one."""
        waiting: asyncio.Queue[str] = asyncio.Queue()
        self._world.exchange.listeners.append((topics, waiting))
        yield None
        while True:
            try:
                async with asyncio.timeout(every):
                    topic = await waiting.get()
            except TimeoutError:
                yield None
            else:
                yield topic
