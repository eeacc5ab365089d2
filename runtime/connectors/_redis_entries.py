"""Entries of a Redis stream by their positions, read in pages, and how many there should be."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import TimeoutError as LateError
from redis.retry import Retry

from models.errors import Invalid, Retryable, Terminal
from runtime.connectors._redis_config import RedisConfig

AUTHENTICATION: Final = "unauthenticated"
CONNECTION: Final = "connection"
_MOST: Final = 10**16
_WRITTEN: Final = re.compile(r"(\d{13}\.\d{3})000-(\d{20})(?:\+(\d+))?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Fields: TypeAlias = dict[bytes, bytes]
Entry: TypeAlias = tuple[bytes, Fields]


@dataclass(frozen=True, order=True, slots=True)
class Position:
    """The place of an entry in its stream, as its id has it: milliseconds since 1970, and a number within them."""

    milliseconds: int = 0
    number: int = 0

    @classmethod
    def of_id(cls, identity: bytes) -> "Position":
        """That of an entry's id, as `1526919030474-0`; raises `Terminal` for one that is not made of time."""
        milliseconds, _, number = identity.decode().partition("-")
        if int(milliseconds) >= _MOST:
            hint = "read a stream whose ids the server makes, or those of milliseconds"
            raise Terminal(f"the entry id {identity.decode()} is no time in milliseconds", hint=hint, code="bad_id")
        return cls(int(milliseconds), int(number))

    @classmethod
    def of_text(cls, text: str) -> "Position":
        """What `text` wrote, or the first of a moment in ISO 8601; raises `Invalid` for what is neither."""
        written = _WRITTEN.fullmatch(text)
        if written is not None:
            return cls(int(written[1].replace(".", "")), int(written[2]))
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            hint = "write a moment, such as 2026-06-01T00:00:00Z"
            raise Invalid(f"{text!r} is no place in a stream", hint=hint, path="cursor") from None
        since = moment.replace(tzinfo=moment.tzinfo or UTC) - _EPOCH
        return cls(max(-(-since // timedelta(milliseconds=1)), 0))

    @property
    def text(self) -> str:
        """It as a cursor: in order as text, also beside moments as cursors are compared with them."""
        return f"{self.milliseconds // 1000:013d}.{self.milliseconds % 1000:03d}000-{self.number:020d}"

    @property
    def id(self) -> str:
        """It as the server reads it."""
        return f"{self.milliseconds}-{self.number}"

    @property
    def next(self) -> "Position":
        """The first one after it."""
        return Position(self.milliseconds, self.number + 1)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a stream at some time: the last entry it ever had, and how many it ever had, removed ones too.

    `added` is None for a server before Redis 7, which does not count.
    """

    last: Position = Position()
    added: int | None = None

    @property
    def text(self) -> str:
        """The place behind its last entry as a cursor, which keeps how many came before it."""
        return self.last.next.text + ("" if self.added is None else f"+{self.added}")


def added_before(text: str) -> int | None:
    """How many entries the stream had when an `End` wrote this text; None where that is not known, as of a moment."""
    written = _WRITTEN.fullmatch(text)
    return int(written[3]) if written is not None and written[3] is not None else None


class StreamClient:
    """One connection to a server, by which entries are read; made when it is first used."""

    def __init__(self, config: RedisConfig) -> None:
        given = {"username": config.username, "password": config.password and config.password.get_secret_value()}
        self._place = config.place
        self._page = config.page_entries
        self._redis = Redis.from_url(
            config.url.get_secret_value(),
            socket_timeout=config.timeout_seconds,
            socket_connect_timeout=config.connect_timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            **{name: value for name, value in given.items() if value},
        )

    def version(self) -> str:
        """The server's, of Valkey or else of Redis."""
        with self._told():
            about = self._redis.info("server")
        return str(about.get("valkey_version") or about.get("redis_version"))

    def end(self, key: str) -> End | None:
        """Where a stream ends now; None where there is none. Raises `Terminal` for a key of another kind."""
        try:
            with self._told():
                found = self._redis.xinfo_stream(key)
        except _Missing:
            return None
        return End(Position.of_id(found["last-generated-id"]), found.get("entries-added"))

    def pages(self, key: str, first: Position, before: Position) -> Iterator[list[Entry]]:
        """The entries from `first` on and before `before`, in order."""
        begin = first.id
        while True:
            with self._told():
                page = cast(list[Entry], self._redis.xrange(key, begin, f"({before.id}", self._page))
            if page:
                yield page
            if len(page) < self._page:
                return
            begin = f"({page[-1][0].decode()}"

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the server or the network says into typed errors."""
        try:
            yield
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            hint = "check the user, the password, and that it may run INFO, XINFO and XRANGE"
            raise Terminal(f"{self._place}: {error}", hint=hint, code=AUTHENTICATION) from error
        except (LostError, LateError, BusyLoadingError, OSError) as error:
            hint = "see that the server is up, and that host, port and firewall let this machine reach it"
            raise Retryable(f"{self._place} cannot be reached: {error}", hint=hint, code=CONNECTION) from error
        except ResponseError as error:
            if str(error).startswith("no such key"):
                raise _Missing from error
            hint = "name the key of a stream, and a database that the server has"
            raise Terminal(f"{self._place}: {error}", hint=hint, code="redis") from error
        except RedisError as error:
            raise Terminal(f"{self._place}: {error}", hint="see the message of the server", code="redis") from error


class _Missing(Exception):
    """There is no such key."""
