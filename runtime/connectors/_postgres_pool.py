"""Connections that a process keeps open between tasks: making one takes 5-10 ms, taking a kept one none."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Keeping:
    """How many connections to one place are kept, and until which age in seconds."""

    most: int
    age: float


class Pool(Generic[T]):
    """Idle connections by the text that opens them."""

    def __init__(self, close: Callable[[T], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._close = close
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[str, list[T]] = {}
        self._born: dict[int, float] = {}

    def take(self, key: str, keeping: Keeping, make: Callable[[], T], begins: Callable[[T], bool]) -> T:
        """A kept connection that is young enough and whose transaction `begins`, or a new one as `make` begins it."""
        while (kept := self._pop(key)) is not None:
            if self._clock() - self._born[id(kept)] <= keeping.age and begins(kept):
                return kept
            self.discard(kept)
        made = make()
        self._born[id(made)] = self._clock()
        return made

    def give(self, key: str, keeping: Keeping, connection: T) -> None:
        """Keep a connection that was reset, if there is room; else close it."""
        with self._lock:
            idle = self._idle.setdefault(key, [])
            if len(idle) < keeping.most:
                idle.append(connection)
                return
        self.discard(connection)

    def discard(self, connection: T) -> None:
        """Close a connection for good."""
        self._born.pop(id(connection), None)
        self._close(connection)

    def forget(self, key: str | None = None) -> None:
        """Close the idle connections to a place whose server went away, or to all places."""
        with self._lock:
            keys = list(self._idle) if key is None else [key]
            idle = [connection for one in keys for connection in self._idle.pop(one, [])]
        for connection in idle:
            self.discard(connection)

    def _pop(self, key: str) -> T | None:
        with self._lock:
            idle = self._idle.get(key)
            return idle.pop() if idle else None
