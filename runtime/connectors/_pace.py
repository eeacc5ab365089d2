"""How fast a source may be asked: the pace that a source keeps to, and that of one process alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import BoundedSemaphore, Lock
from time import monotonic, sleep

from models.sources import RateLimitConfig

Clock = Callable[[], float]
Wait = Callable[[float], None]


class Pace(ABC):
    """What requests keep to; safe to use from several threads."""

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """The time of one request; it begins when the request may be sent."""


class Unpaced(Pace):
    """No limit."""

    def turn(self) -> AbstractContextManager[None]:
        """At once."""
        return nullcontext()


class OwnPace(Pace):
    """A token bucket and a number of places: `requests_per_second`, at most `burst` at once, `max_concurrent` open."""

    def __init__(self, limits: RateLimitConfig, clock: Clock = monotonic, wait: Wait = sleep) -> None:
        self._rate, self._burst = limits.requests_per_second, limits.burst
        self._places = None if limits.max_concurrent is None else BoundedSemaphore(limits.max_concurrent)
        self._clock, self._wait = clock, wait
        self._tokens, self._at = float(limits.burst), clock()
        self._lock = Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place, then for a token."""
        with self._places or nullcontext():
            owed = self._take()
            if owed > 0:
                self._wait(owed)
            yield

    def _take(self) -> float:
        """Take a token; answers the seconds until there is one."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
            self._at = now
            return -self._tokens / self._rate
