"""The warm pool of supervisors: how many there should be, and which of them are idle."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)


class Lost(Exception):
    """A member has died."""


class Member(Protocol):
    """What a pool is made of."""

    def lives(self) -> Awaitable[None]:
        """Wait until it has died."""

    def end(self) -> None:
        """End it."""


T = TypeVar("T", bound=Member)

GROW_AFTER_SECONDS = 2.0
SHRINK_AFTER_SECONDS = 30.0


def wanted_size(
    waiting: int, waited: float, busy: int, size: int, *, limits: tuple[int, int], has_room: bool = True
) -> int:
    """How many supervisors there should be for `waiting` executions, the oldest of which waits `waited` seconds.

    A short burst is served by the warm ones: a new actor costs more than most executions. When work keeps waiting
    the pool grows by a quarter at a time, unless the processors have no room: then more would only take them from
    those at work (measured on 2 cores, 300 queued: 4 supervisors end 26 executions a second, 13 when growing to 10).
    When it idles it shrinks by a quarter of its idle members at a time.
    """
    least, most = limits
    needed = busy + waiting
    if waiting and waited >= GROW_AFTER_SECONDS and needed > size and has_room:
        return max(least, min(most, needed, size + max(1, size // 4)))
    if not waiting and needed < size:
        return max(least, needed, size - max(1, (size - busy) // 4))
    return max(least, size)


class Pool(Generic[T]):
    """Members made by `make`; each does one thing at a time, none before it is ready.

    One that dies is replaced at once, whether it was at work or not; one that `make` could not make, because it was
    `Lost`, with the next `resize`. `on_ready` is told when one more is free.
    `has_room` says whether the machines could run more of them at work; a pool shrinks only when nobody was taken for a
    while, so that a pause between two bursts does not empty it.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        *,
        least: int,
        most: int,
        has_room: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._limits = (least, most)
        self.on_ready: Callable[[], None] = lambda: None
        self._has_room = has_room
        self._clock = clock
        self._taken_at = clock()
        self._idle: list[T] = []
        self._busy: list[T] = []
        self._starting: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> int:
        """How many are free now."""
        return len(self._idle)

    @property
    def size(self) -> int:
        """How many there are, those that start included."""
        return len(self._idle) + len(self._busy) + len(self._starting)

    def resize(self, waiting: int, waited: float) -> None:
        """Grow or shrink for what waits; a busy member is never ended."""
        busy, now = len(self._busy), self._clock()
        size = wanted_size(waiting, waited, busy, self.size, limits=self._limits, has_room=self._has_room())
        if size < self.size and now < self._taken_at + SHRINK_AFTER_SECONDS:
            return
        self._grow(size)
        while self.size > size and self._idle:
            self._idle.pop(0).end()

    def _grow(self, size: int) -> None:
        while self.size < size:
            task = asyncio.create_task(self._start())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start(self) -> None:
        try:
            member = await self._make()
        except Lost as error:
            log.warning("a member of the pool died before it was ready: %s", error)
            return
        self._idle.insert(0, member)
        task = asyncio.create_task(self._watch(member))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        self.on_ready()

    async def _watch(self, member: T) -> None:
        """Replace a member that dies while it is idle; of one at work its work is heard to fail."""
        await member.lives()
        if member in self._idle:
            self._idle.remove(member)
            member.end()
            self._grow(self._limits[0])

    def take(self) -> T:
        """An idle member, the one used last first: its caches are warm. IndexError when none is idle."""
        self._taken_at = self._clock()
        member = self._idle.pop()
        self._busy.append(member)
        return member

    def give_back(self, member: T, *, broken: bool = False) -> None:
        """Return a member; a broken one is ended, and replaced where there are too few."""
        self._busy.remove(member)
        if broken:
            member.end()
            self._grow(self._limits[0])
        else:
            self._idle.append(member)

    def close(self) -> None:
        """End them all."""
        for task in (*self._starting, *self._watching):
            task.cancel()
        for member in [*self._idle, *self._busy]:
            member.end()
        self._idle.clear()
        self._busy.clear()
