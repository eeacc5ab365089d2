"""Wake-ups over Redis or Valkey: they say `look`, PostgreSQL says what; without them everything works by polling."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

WORK = "wedsync:work"
ALL_EVENTS = "wedsync:events"
RECONNECT_SECONDS = 0.5


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
            self._redis = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=None, health_check_interval=0)
        self._was_away = False

    async def publish(self, *topics: str) -> None:
        """Wake whoever listens to these topics. Never raises: a bus that is away costs time, not correctness."""
        if self._redis is None:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for topic in topics:
                    pipe.publish(topic, "")
                await pipe.execute()
            self._was_away = False
        except (RedisError, OSError) as error:
            if not self._was_away:
                log.warning("the wake-up bus is away, readers poll meanwhile: %s", error)
            self._was_away = True

    async def wakeups(self, *topics: str, every: float) -> AsyncIterator[str | None]:
        """Yield at once, then the topic of each wake-up, and None whenever `every` seconds passed without one.

        A lost connection is made again in the background; the first yield after it is None, since wake-ups
        may have been missed.
        """
        yield None
        while True:
            if self._redis is None:
                await asyncio.sleep(every)
                yield None
                continue
            try:
                async for topic in self._subscribed(self._redis, topics, every):
                    yield topic
            except (RedisError, OSError):
                await asyncio.sleep(min(every, RECONNECT_SECONDS))
                yield None

    async def _subscribed(self, redis: Redis, topics: tuple[str, ...], every: float) -> AsyncIterator[str | None]:
        async with redis.pubsub(ignore_subscribe_messages=True) as channel:
            exact = [topic for topic in topics if not topic.endswith("*")]
            if exact:
                await channel.subscribe(*exact)
            patterns = [topic for topic in topics if topic.endswith("*")]
            if patterns:
                await channel.psubscribe(*patterns)
            yield None
            while True:
                message = await channel.get_message(timeout=every)
                yield None if message is None else message["channel"].decode()

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
