"""The fault proxy itself: each fault is what a client of a real server sees."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

import pytest

from tests.kit.faults import LOOPBACK, Ends, FaultProxy, Weather, proxied, to_port

PATIENCE = 0.2
WORD = b"0123456789"


async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says what it hears."""
    try:
        while heard := await reader.read(1024):
            writer.write(heard)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(repeat, LOOPBACK)
    async with proxied(to_port(server.sockets[0].getsockname()[1])) as made:
        yield made
    server.close()


Call = Callable[[], Awaitable[Ends]]


@pytest.fixture
async def call(proxy: FaultProxy) -> AsyncIterator[Call]:
    """Connects to the proxy."""
    made: list[asyncio.StreamWriter] = []

    async def called() -> Ends:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        made.append(writer)
        return reader, writer

    yield called
    for writer in made:
        writer.close()


async def said(ends: Ends, word: bytes = WORD) -> bytes:
    """What comes back for a word."""
    ends[1].write(word)
    return await ends[0].readexactly(len(word))


async def is_silent(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a while."""
    try:
        async with asyncio.timeout(PATIENCE):
            return not await reader.read(1) and False
    except TimeoutError:
        return True


async def test_in_fair_weather_what_is_said_comes_back_whole(call: Call) -> None:
    word = WORD * 50_000
    ends = await call()
    ends[1].write(word)
    assert await ends[0].readexactly(len(word)) == word


async def test_latency_is_spent_both_ways_and_keeps_the_order(proxy: FaultProxy, call: Call) -> None:
    ends = await call()
    proxy.weather = Weather(latency=0.1, jitter=0.01)
    began = monotonic()
    for number in range(10):
        ends[1].write(b"%d" % number)
    assert await ends[0].readexactly(10) == WORD
    assert monotonic() - began >= 0.2


async def test_a_slow_link_takes_its_time(proxy: FaultProxy, call: Call) -> None:
    ends = await call()
    proxy.weather = Weather(received_per_second=1000)
    began = monotonic()
    assert await said(ends, WORD * 30) == WORD * 30
    assert monotonic() - began >= 0.19


async def test_a_link_that_is_cut_ends_in_order(proxy: FaultProxy, call: Call) -> None:
    ends = await call()
    await said(ends)
    proxy.cut()
    assert await ends[0].read() == b""
    assert await said(await call()) == WORD


async def test_a_link_that_is_reset_is_an_error(proxy: FaultProxy, call: Call) -> None:
    ends = await call()
    await said(ends)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await ends[0].read()


async def test_a_server_that_is_away_refuses_and_comes_back_on_its_port(proxy: FaultProxy, call: Call) -> None:
    ends, port = await call(), proxy.port
    await said(ends)
    await proxy.away()
    with pytest.raises(ConnectionResetError):
        await ends[0].read()
    with pytest.raises(ConnectionRefusedError):
        await call()
    await proxy.start()
    assert proxy.port == port
    assert await said(await call()) == WORD


async def test_a_half_open_link_takes_bytes_and_says_nothing(proxy: FaultProxy, call: Call) -> None:
    ends = await call()
    await said(ends)
    proxy.half_open()
    ends[1].write(WORD)
    assert await is_silent(ends[0])
    proxy.heal()
    assert await ends[0].readexactly(len(WORD)) == WORD


async def test_a_trap_delivers_what_was_said_and_holds_the_answer(proxy: FaultProxy, call: Call) -> None:
    caught = proxy.trap(b"COMMIT")
    free, held = await call(), await call()
    assert await said(free) == WORD
    held[1].write(b"COMMIT")
    link = await caught
    assert link.port == held[1].get_extra_info("sockname")[1]
    assert await is_silent(held[0])
    assert await said(free, b"COMMIT") == b"COMMIT", "a trap springs once"
    link.release()
    assert await held[0].readexactly(6) == b"COMMIT"


async def test_a_trap_that_does_not_deliver_holds_what_was_said_until_it_is_released(
    proxy: FaultProxy, call: Call
) -> None:
    caught = proxy.trap(b"COM", b"MIT", delivers=False)
    late, lost = await call(), await call()
    assert await said(late, b"COM") == b"COM"
    late[1].write(b"MIT")
    link = await caught
    assert await is_silent(late[0])
    link.release()
    assert await late[0].readexactly(3) == b"MIT"
    caught = proxy.trap(b"COMMIT", delivers=False)
    lost[1].write(b"COMMIT")
    (await caught).reset()
    with pytest.raises(ConnectionResetError):
        await lost[0].read()
