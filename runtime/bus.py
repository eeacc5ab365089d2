"""Wake-ups over Redis or Valkey: they say `look`, PostgreSQL says what; without them everything works by polling."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Final
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from runtime.resets import resets_told

log = logging.getLogger(__name__)

WORK: Final = "wedsync:work"
SCHEDULES: Final = "wedsync:schedules"
FIRES: Final = "wedsync:fires"
ALL_EVENTS: Final = "wedsync:events"
ALL_CONTROL: Final = "wedsync:control:*"
RECONNECT_SECONDS: Final = 0.5
CONNECT_SECONDS: Final = 2.0


def events_topic(execution_id: UUID) -> str:
    """Told when an execution has new events."""
    return f"wedsync:events:{execution_id}"


def control_topic(execution_id: UUID) -> str:
    """Told when somebody wants something of a running execution: to stop, say."""
    return f"wedsync:control:{execution_id}"


def outcome_topic(work_id: UUID) -> str:
    """Told when a work item has ended."""
    return f"wedsync:outcome:{work_id}"


class Bus:
    """One client of the wake-up bus. `Bus(None)` has no server: publishing is nothing, waiting is polling."""

    def __init__(self, url: str | None) -> None:
        self._redis: Redis | None = None
        if url is not None:
            # No retries of the client's own: a listener must learn that it was away, a publisher must not wait.
            self._redis = Redis.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=None, retry=Retry(NoBackoff(), 0)
            )
        self._away_since: float | None = None

    async def publish(self, *topics: str) -> None:
        """Wake whoever listens to these topics; a bus that is away costs time, never correctness, so it never raises.

        While it is away, one call in `RECONNECT_SECONDS` looks whether it is back; the others return at once.
        """
        if self._redis is None or not topics or self._is_resting():
            return
        try:
            await self._publish(self._redis, topics)
        except (RedisError, OSError) as error:
            if self._away_since is None:
                log.warning("the wake-up bus is away, readers poll meanwhile: %s", error)
            self._away_since = monotonic()
            return
        if self._away_since is not None:
            log.info("the wake-up bus is back")
        self._away_since = None

    async def _publish(self, redis: Redis, topics: tuple[str, ...]) -> None:
        """Once more over a new connection, as the pooled one may be older than the server."""
        for attempt in (1, 2):
            try:
                with resets_told():
                    async with redis.pipeline(transaction=False) as pipe:
                        for topic in topics:
                            pipe.publish(topic, "")
                        await pipe.execute()
                return
            except (RedisConnectionError, OSError):
                if attempt == 2 or self._away_since is not None:
                    raise
                await redis.connection_pool.disconnect(inuse_connections=False)

    def _is_resting(self) -> bool:
        return self._away_since is not None and monotonic() - self._away_since < RECONNECT_SECONDS

    async def wakeups(self, *topics: str, every: float) -> AsyncIterator[str | None]:
        """Yield at once, then the topic of each wake-up, and None whenever `every` seconds passed without one.

        A topic that ends in `*` is a pattern. A lost connection is made again in the background; the first yield
        after it is None, since wake-ups may have been missed.
        """
        yield None
        while True:
            if self._redis is None:
                await asyncio.sleep(every)
                yield None
                continue
            try:
                with resets_told():
                    async for topic in self._subscribed(self._redis, topics, every):
                        yield topic
            except (RedisError, OSError):
                await asyncio.sleep(min(every, RECONNECT_SECONDS))
                yield None

    async def _subscribed(self, redis: Redis, topics: tuple[str, ...], every: float) -> AsyncIterator[str | None]:
        async with redis.pubsub() as channel:
            exact = [topic for topic in topics if not topic.endswith("*")]
            patterns = [topic for topic in topics if topic.endswith("*")]
            if exact:
                await channel.subscribe(*exact)
            if patterns:
                await channel.psubscribe(*patterns)
            for _ in topics:
                await _next(channel, _CONFIRMATIONS, CONNECT_SECONDS)
            # Only now does a wake-up reach us, so whoever reads on this one misses nothing that comes after it.
            yield None
            while True:
                yield await _next(channel, _MESSAGES, every)

    async def reachable(self) -> bool:
        """Whether the server answers; True without one, since nothing is missing then."""
        if self._redis is None:
            return True
        with suppress(RedisError, OSError):
            return bool(await self._redis.ping())
        return False

    async def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            await self._redis.aclose()


_CONFIRMATIONS: Final = ("subscribe", "psubscribe")
_MESSAGES: Final = ("message", "pmessage")


async def _next(channel: PubSub, kinds: tuple[str, ...], within: float) -> str | None:
    """The topic of the next reply of one of these kinds; None when none came within the seconds."""
    end = monotonic() + within
    while (left := end - monotonic()) > 0:
        reply = await channel.get_message(timeout=left)
        if reply is not None and reply["type"] in kinds:
            return str(reply["channel"].decode())
    return None
