"""The wake-up bus: what it tells, and what happens while it is away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from uuid import UUID

import pytest
import uvloop

from runtime.bus import ALL_EVENTS, WORK, Bus, control_topic, events_topic
from runtime.embedded.valkey import EmbeddedValkey
from tests.kit.eventually import eventually
from tests.kit.faults import LOOPBACK, proxied, to_socket

EXECUTION = UUID(int=7)
LONG = 30.0


@pytest.fixture
def server() -> Iterator[EmbeddedValkey]:
    """A server of the test's own, which it may stop."""
    made = EmbeddedValkey().start()
    yield made
    made.stop()


async def until(wakeups: AsyncIterator[str | None], topic: str | None) -> None:
    """Read until a topic comes."""
    async with asyncio.timeout(10):
        async for woken in wakeups:
            if woken == topic:
                return


async def listening(bus: Bus, *topics: str, every: float = LONG) -> AsyncIterator[str | None]:
    """Wake-ups of a subscription that the server has confirmed."""
    wakeups = bus.wakeups(*topics, every=every)
    assert await anext(wakeups) is None
    assert await anext(wakeups) is None
    return wakeups


async def test_whoever_listens_is_told_the_topic(bus: Bus) -> None:
    wakeups = await listening(bus, WORK, events_topic(EXECUTION))
    await bus.publish(control_topic(EXECUTION), ALL_EVENTS)
    await bus.publish(events_topic(EXECUTION), WORK)
    assert await anext(wakeups) == events_topic(EXECUTION)
    assert await anext(wakeups) == WORK


async def test_a_topic_may_be_a_pattern(bus: Bus) -> None:
    wakeups = await listening(bus, "wedsync:control:*", WORK)
    await bus.publish(control_topic(EXECUTION))
    assert await anext(wakeups) == control_topic(EXECUTION)


async def test_a_quiet_bus_says_look_every_so_often(bus: Bus) -> None:
    wakeups = await listening(bus, WORK, every=0.05)
    begun = monotonic()
    assert await anext(wakeups) is None
    assert 0.04 <= monotonic() - begun < 5


async def test_without_a_server_everything_works_by_polling() -> None:
    none = Bus(None)
    await none.publish(WORK)
    wakeups = none.wakeups(WORK, every=0.01)
    assert [await anext(wakeups) for _ in range(3)] == [None, None, None]
    assert await none.reachable()


async def test_a_server_that_is_away_hinders_nobody(caplog: pytest.LogCaptureFixture) -> None:
    away = Bus("redis://127.0.0.1:1")
    begun = monotonic()
    for _ in range(200):
        await away.publish(WORK)
    assert monotonic() - begun < 2
    assert [record.levelname for record in caplog.records if record.name == "runtime.bus"] == ["WARNING"]
    wakeups = away.wakeups(WORK, every=0.01)
    assert [await anext(wakeups) for _ in range(3)] == [None, None, None]
    assert not await away.reachable()
    await away.close()


async def test_a_listener_outlives_a_restart_of_the_server_and_looks_after_it(server: EmbeddedValkey) -> None:
    publisher, listener = Bus(server.url), Bus(server.url)
    wakeups = await listening(listener, WORK)
    await publisher.publish(WORK)
    assert await anext(wakeups) == WORK
    server.stop()
    await publisher.publish(WORK)
    server.start()
    await until(wakeups, None)
    subscribed = asyncio.create_task(until(wakeups, WORK))
    while not subscribed.done():
        await publisher.publish(WORK)
        await asyncio.wait([subscribed], timeout=0.05)
    await subscribed
    await publisher.close()
    await listener.close()


async def test_the_first_publication_after_a_restart_arrives(server: EmbeddedValkey) -> None:
    publisher, listener = Bus(server.url), Bus(server.url)
    await publisher.publish(WORK)
    server.stop()
    server.start()
    wakeups = await listening(listener, WORK)
    await publisher.publish(WORK)
    assert await anext(wakeups) == WORK
    await publisher.close()
    await listener.close()


async def test_a_connection_that_uvloop_has_closed_is_replaced_and_fails_nobody(valkey: EmbeddedValkey) -> None:
    await asyncio.to_thread(uvloop.run, published_after_a_reset(valkey))


async def published_after_a_reset(server: EmbeddedValkey) -> None:
    async with proxied(to_socket(server.folder / "socket")) as proxy:
        listener, bus = Bus(server.url), Bus(f"redis://{LOOPBACK}:{proxy.port}")
        wakeups = await listening(listener, "a")
        await bus.publish("a")
        await until(wakeups, "a")
        proxy.reset()

        async def is_closed() -> bool:
            return not proxy.links

        await eventually(is_closed, because="the connection ends")
        await bus.publish("a")
        await until(wakeups, "a")
        await listener.close()
        await bus.close()
