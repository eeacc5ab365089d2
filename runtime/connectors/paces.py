"""One pace for each source across all processes, kept in Redis; where that is away, each process keeps its own."""

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from time import monotonic, sleep
from typing import Final
from uuid import UUID, uuid4

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from models.base import StrictModel
from models.sources import RateLimitConfig
from runtime.connectors._contract import Source
from runtime.connectors._pace import OwnPace, Pace, Unpaced, Wait
from runtime.connectors.configs import RATE_LIMIT

log = logging.getLogger(__name__)

AWAY: Final = (RedisError, OSError)
CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 2.0
RESTING_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05

# Redis keeps the time, so that processes need not agree on one. A place is a lease: what was killed gives it back.
_ENTER: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local rate, burst, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease = tonumber(ARGV[5])
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= most then return '-1' end
  redis.call('ZADD', KEYS[2], now + lease, ARGV[4])
  redis.call('EXPIRE', KEYS[2], math.ceil(lease))
end
if rate <= 0 then return '0' end
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1] or burst), tonumber(known[2] or now)
tokens = math.min(burst, tokens + (now - at) * rate) - 1
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil((burst - tokens) / rate) + 1)
return string.format('%.6f', math.max(0, -tokens / rate))
"""
_RENEW: Final = """
local clock = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'XX', tonumber(clock[1]) + tonumber(ARGV[2]), ARGV[1])
return redis.call('EXPIRE', KEYS[1], math.ceil(tonumber(ARGV[2])))
"""


class SharedPace(Pace):
    """The pace of one source, which all processes with the same Redis keep together.

    Tokens are given in order of asking; a place that is not free is looked for again after a moment.
    """

    def __init__(
        self,
        redis: Redis,
        source: UUID,
        limits: RateLimitConfig,
        lease_seconds: float = LEASE_SECONDS,
        wait: Wait = sleep,
    ) -> None:
        self._redis, self._limits = redis, limits
        self._bucket, self._places = (f"wedsync:pace:{{{source}}}:{part}" for part in ("tokens", "places"))
        self._lease, self._wait = lease_seconds, wait
        self._own = OwnPace(limits)
        self._away_until = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a place and a token; by this process's own pace while Redis is away."""
        member = uuid4().hex
        if not self._enter(member):
            with self._own.turn():
                yield
            return
        ended = threading.Event()
        if self._limits.max_concurrent is not None:
            threading.Thread(target=self._keep, args=(member, ended), name="pace", daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self._leave(member)

    def _enter(self, member: str) -> bool:
        """Wait until a request may be sent; False when Redis is away."""
        limits = self._limits
        arguments = (limits.requests_per_second or 0, limits.burst, limits.max_concurrent or 0, member, self._lease)
        while monotonic() >= self._away_until:
            try:
                owed = float(self._redis.eval(_ENTER, 2, self._bucket, self._places, *map(str, arguments)))
            except AWAY as error:
                log.warning("the shared pace is away, this process keeps its own meanwhile: %s", error)
                self._away_until = monotonic() + RESTING_SECONDS
                return False
            if owed >= 0:
                self._wait_for(owed)
                return True
            self._wait(LOOK_SECONDS * (0.5 + random.random()))
        return False

    def _wait_for(self, owed: float) -> None:
        if owed > 0:
            self._wait(owed)

    def _keep(self, member: str, ended: threading.Event) -> None:
        """Renew the lease of a place while its request lasts."""
        while not ended.wait(self._lease / 3):
            with suppress(*AWAY):
                self._redis.eval(_RENEW, 1, self._places, member, str(self._lease))

    def _leave(self, member: str) -> None:
        if self._limits.max_concurrent is not None:
            with suppress(*AWAY):
                self._redis.zrem(self._places, member)


@dataclass(frozen=True)
class Paces:
    """The paces of one process; `url` is that of Redis, None where there is none."""

    url: str | None = None

    @cached_property
    def _known(self) -> dict[tuple[UUID, str], Pace]:
        return {}

    @cached_property
    def _redis(self) -> Redis | None:
        if self.url is None:
            return None
        return Redis.from_url(
            self.url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    def set(self, source: Source[StrictModel], identity: UUID) -> Source[StrictModel]:
        """Have a saved source keep to the pace that it shares with every other use of it."""
        limits = getattr(source.config, RATE_LIMIT, None)
        if isinstance(limits, RateLimitConfig):
            source.pace = self.of(identity, limits)
        return source

    def of(self, source: UUID, limits: RateLimitConfig) -> Pace:
        """The pace of a source; the same one for all that use it in this process."""
        if limits.requests_per_second is None and limits.max_concurrent is None:
            return Unpaced()
        key = (source, limits.model_dump_json())
        if key not in self._known:
            redis = self._redis
            self._known[key] = OwnPace(limits) if redis is None else SharedPace(redis, source, limits)
        return self._known[key]

    def close(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            self._redis.close()
