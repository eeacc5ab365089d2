"""A TCP proxy that plays a bad network, told at run time what is wrong with it: to PostgreSQL, Valkey or HTTP."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

CHUNK_BYTES: Final = 64 * 1024
QUEUED_CHUNKS: Final = 16
LOOPBACK: Final = "127.0.0.1"
_NO_LINGER: Final = struct.pack("ii", 1, 0)

Ends: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Upstream: TypeAlias = Callable[[], Awaitable[Ends]]


@dataclass(frozen=True, slots=True)
class Weather:
    """How a link behaves: seconds on the way in each direction, a random part more, and bytes a second each way."""

    latency: float = 0.0
    jitter: float = 0.0
    sent_per_second: float | None = None
    received_per_second: float | None = None


@dataclass(slots=True)
class Trap:
    """Waits for bytes that a client sends, one after the other; the link then falls silent towards the client."""

    patterns: tuple[bytes, ...]
    caught: "asyncio.Future[Link]"
    delivers: bool = True
    heard: dict["Link", int] = field(default_factory=dict)

    def is_sprung(self, link: "Link", chunk: bytes) -> bool:
        """Note what a link carries; whether it has carried all of the patterns."""
        place = 0
        while (count := self.heard.get(link, 0)) < len(self.patterns):
            found = chunk.find(self.patterns[count], place)
            if found < 0:
                return False
            self.heard[link], place = count + 1, found + len(self.patterns[count])
        return True


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: "FaultProxy", client: Ends, server: Ends) -> None:
        self._proxy = proxy
        self._ends = (client, server)
        self._audible = asyncio.Event()
        self._audible.set()
        self._ended = asyncio.Event()

    @property
    def port(self) -> int:
        """The port of the client's end, by which its process can be told."""
        return int(self._ends[0][1].get_extra_info("peername")[1])

    def silence(self) -> None:
        """Let nothing more reach the client."""
        self._audible.clear()

    def release(self) -> None:
        """Let what was held reach the client after all."""
        self._audible.set()

    def cut(self) -> None:
        """Close both ends, as a server does that stops in order."""
        self._close(reset=False)

    def reset(self) -> None:
        """Reset both ends, as a machine does that knows nothing of the connection."""
        self._close(reset=True)

    def _close(self, *, reset: bool) -> None:
        self._ended.set()
        for _, writer in self._ends:
            if reset:
                with suppress(OSError, ValueError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            if reset or not self._audible.is_set():
                writer.transport.abort()
            else:
                with suppress(OSError, RuntimeError):
                    writer.close()

    async def carry(self) -> None:
        """Carry both ways until either side ends."""
        client, server = self._ends
        there = _Way(self, client[0], server[1], sends=True)
        back = _Way(self, server[0], client[1], sends=False)
        ways = [asyncio.create_task(work) for way in (there, back) for work in (way.take(), way.give())]
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait([*ways[1::2], ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*ways, ended):
                task.cancel()
            await asyncio.gather(*ways, ended, return_exceptions=True)
            self.cut()

    async def passable(self, *, sends: bool) -> None:
        """Wait until something may go this way."""
        await self._proxy.flowing.wait()
        if not sends:
            await self._audible.wait()

    async def pause(self, seconds: float) -> None:
        """Let time pass, unless the link ends meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    @property
    def weather(self) -> Weather:
        """How it behaves now."""
        return self._proxy.weather

    def trapped(self, chunk: bytes) -> bool:
        """Spring the traps that wait for what is in a chunk; whether it may be delivered."""
        return self._proxy.spring(self, chunk)


class _Way:
    """One direction of a link: what comes is given on in order, each when it is due."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sends: bool) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._sends = sends
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)

    async def take(self) -> None:
        """Read, and note when each chunk is due; an empty chunk is the end."""
        loop, chunk = asyncio.get_running_loop(), b"?"
        while chunk:
            try:
                chunk = await self._reader.read(CHUNK_BYTES)
            except OSError:
                chunk = b""
            weather = self._link.weather
            await self._queue.put((loop.time() + weather.latency + random.random() * weather.jitter, chunk))

    async def give(self) -> None:
        """Write each chunk when it is due and the link is passable."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while True:
                due, chunk = await self._queue.get()
                if due > loop.time():
                    await self._link.pause(due - loop.time())
                await self._link.passable(sends=self._sends)
                if not chunk:
                    return
                if self._sends and not self._link.trapped(chunk):
                    await self._link.passable(sends=False)
                await self._write(chunk)

    async def _write(self, chunk: bytes) -> None:
        weather = self._link.weather
        rate = weather.sent_per_second if self._sends else weather.received_per_second
        size = len(chunk) if rate is None else max(1, int(rate / 10))
        for start in range(0, len(chunk), size):
            part = chunk[start : start + size]
            self._writer.write(part)
            await self._writer.drain()
            if rate is not None:
                await self._link.pause(len(part) / rate)


@dataclass
class FaultProxy:
    """Listens on a free port of the loopback and carries each connection to `upstream`, in the weather it is told."""

    upstream: Upstream
    weather: Weather = Weather()
    port: int = 0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    links: dict[asyncio.Task[None], Link] = field(default_factory=dict)
    _traps: list[Trap] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, on the same port as before if it has done so."""
        self.flowing.set()
        self._server = await asyncio.start_server(self._carry, LOOPBACK, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def away(self) -> None:
        """Reset every link and refuse new ones, until `start`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def half_open(self) -> None:
        """Take connections and bytes, and let nothing through, until `heal`."""
        self.flowing.clear()

    def heal(self) -> None:
        """Let everything through again, at full speed."""
        self.weather = Weather()
        self.flowing.set()

    def cut(self) -> None:
        """Close every link; new ones are taken."""
        for link in list(self.links.values()):
            link.cut()

    def reset(self) -> None:
        """Reset every link; new ones are taken."""
        for link in list(self.links.values()):
            link.reset()

    def trap(self, *patterns: bytes, delivers: bool = True) -> "asyncio.Future[Link]":
        """The next link on which a client has sent all of these bytes, in this order; it hears nothing until released.

        The last reach the server at once if `delivers`: so it may have committed what its client knows nothing of.
        """
        trap = Trap(patterns, asyncio.get_running_loop().create_future(), delivers)
        self._traps.append(trap)
        return trap.caught

    def spring(self, link: Link, chunk: bytes) -> bool:
        """Spring the traps for a chunk; whether it is delivered."""
        self._traps = [trap for trap in self._traps if not trap.caught.done()]
        sprung = [trap for trap in self._traps if trap.is_sprung(link, chunk)]
        for trap in sprung:
            link.silence()
            trap.caught.set_result(link)
        return all(trap.delivers for trap in sprung)

    async def close(self) -> None:
        """End everything."""
        await self.away()
        await asyncio.gather(*self.links, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await self.upstream()
        except OSError:
            writer.transport.abort()
            return
        link, task = Link(self, (reader, writer), server), asyncio.current_task()
        assert task is not None
        self.links[task] = link
        try:
            await link.carry()
        finally:
            del self.links[task]


def to_socket(path: Path) -> Upstream:
    """The way to a server on a Unix socket."""
    return lambda: asyncio.open_unix_connection(path)


def to_port(port: int) -> Upstream:
    """The way to a server on a port of the loopback."""
    return lambda: asyncio.open_connection(LOOPBACK, port)


@asynccontextmanager
async def proxied(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    """A proxy that listens, in fair weather."""
    proxy = FaultProxy(upstream)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
