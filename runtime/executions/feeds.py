"""Streams that several watch: each is read by one loop, which hands what it reads to bounded queues."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

import structlog

from models.errors import DomainError
from runtime.bus import Bus
from runtime.executions.events import Event

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often streams are read when nobody wakes the reader, how many events wait for a watcher, and how long the
    reader stays subscribed when nobody watches any more; times in seconds.
    """

    poll_seconds: float = 1.0
    backlog: int = 1000
    linger_seconds: float = 10.0


class Watcher:
    """One who watches: the events that wait for them, and why no more come."""

    def __init__(self, backlog: int) -> None:
        self._waiting: asyncio.Queue[Event | None] = asyncio.Queue(backlog)
        self._is_behind = False
        self._failure: Exception | None = None

    def offer(self, event: Event | None) -> None:
        """Hand over an event; one who has no room for it is left behind."""
        try:
            if not self._is_behind:
                self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._is_behind = True

    def fail(self, failure: Exception) -> None:
        """Say that no more events can come."""
        self._failure = failure
        self.offer(None)

    async def take(self) -> list[Event]:
        """All events that wait, at least one; none for one who was left behind and has got all that was kept."""
        if self._is_behind and self._waiting.empty():
            return []
        taken = [await self._waiting.get()]
        while not self._waiting.empty():
            taken.append(self._waiting.get_nowait())
        events = [event for event in taken if event is not None]
        if self._failure is not None and not events:
            raise self._failure
        return events


@dataclass(slots=True, eq=False)
class Feed:
    """A followed stream: everything up to `cursor` was handed to its watchers; `since` is when it began."""

    cursor: int
    since: datetime | None = None
    watchers: set[Watcher] = field(default_factory=set)

    def hand_out(self, event: Event, cursor: int) -> None:
        """Give the event at a cursor to all watchers."""
        self.cursor = cursor
        for watcher in self.watchers:
            watcher.offer(event)


class Feeds(Generic[K]):
    """Streams of one kind by key, read by one loop that runs while somebody watches any of them, and a while longer.

    `look` reads what is new in some streams and hands it out. The loop calls it for the streams that a wake-up names,
    and for all of them at least every `poll_seconds`, since wake-ups may be lost.
    """

    def __init__(
        self,
        bus: Bus,
        topic: str,
        key_of: Callable[[str], K | None],
        look: Callable[[Mapping[K, Feed]], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._bus = bus
        self._topic = topic
        self._key_of = key_of
        self._look = look
        self._pace = pace
        self._feeds: dict[K, Feed] = {}
        self._woken: set[K | None] = set()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_running = False

    def cursor(self, key: K) -> int | None:
        """How far a stream has been handed out; None for one that nobody watches."""
        feed = self._feeds.get(key)
        return None if feed is None else feed.cursor

    @contextmanager
    def watching(self, key: K, cursor: int, since: datetime | None = None) -> Iterator[tuple[Watcher, int]]:
        """Join a stream, or begin to follow it from `cursor`: gives the watcher, and the cursor it is served after."""
        feed = self._feeds.setdefault(key, Feed(cursor, since))
        watcher = Watcher(self._pace.backlog)
        feed.watchers.add(watcher)
        self._woken.add(key)
        self._run()
        try:
            yield watcher, feed.cursor
        finally:
            feed.watchers.discard(watcher)
            if not feed.watchers and self._feeds.get(key) is feed:
                del self._feeds[key]
            if not self._feeds:
                self._news.set()

    async def close(self) -> None:
        """Stop the loop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _run(self) -> None:
        self._news.set()
        if not self._is_running:
            self._is_running = True
            task = asyncio.create_task(self._follow())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _follow(self) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            await self._follow_all()
        except Exception as failure:
            log.exception("the reader of events failed")
            for feed in self._feeds.values():
                for watcher in feed.watchers:
                    watcher.fail(failure)
            self._feeds.clear()
        finally:
            self._is_running = False
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _follow_all(self) -> None:
        loop = asyncio.get_running_loop()
        due = end = loop.time()
        while self._feeds or loop.time() < end:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due if self._feeds else min(due, end)):
                    await self._news.wait()
            self._news.clear()
            woken, self._woken = self._woken, set()
            if self._feeds:
                end = loop.time() + self._pace.linger_seconds
            if loop.time() >= due:
                woken, due = set(self._feeds), loop.time() + self._pace.poll_seconds
            try:
                await self._look({key: self._feeds[key] for key in list(self._feeds) if key in woken})
            except DomainError as error:
                log.warning("events cannot be read now", reason=str(error))
                await asyncio.sleep(self._pace.poll_seconds)

    async def _listen(self) -> None:
        async for topic in self._bus.wakeups(self._topic, every=self._pace.poll_seconds):
            if topic is None:
                self._woken.update(self._feeds)
            else:
                self._woken.add(self._key_of(topic))
            self._news.set()
