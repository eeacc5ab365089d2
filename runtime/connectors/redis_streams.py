"""Streams of Redis or Valkey as a source: what has come since the last run, each message once, in order."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from time import monotonic

import pyarrow as pa

from models.errors import DomainError, Invalid, Retryable, RunError, Terminal, Unauthenticated, Unavailable
from models.sources import SourceType
from runtime.connectors._contract import (
    SOURCES,
    CursorRange,
    Health,
    ReadRequest,
    Source,
    Split,
    Watchable,
    with_primary_key,
)
from runtime.connectors._redis_config import OnTrimmed, RedisConfig
from runtime.connectors._redis_entries import AUTHENTICATION, End, Entry, Position, StreamClient, added_before
from runtime.connectors._redis_rows import AT, ID, StreamRows
from runtime.connectors._selection import after, before_all, greatest, select


class RedisSource(Source[RedisConfig], Watchable):
    """Reads the entries that the streams of a server hold.

    With the cursor column `_id` a run reads what has come since the one before: ids only grow, so none is missed and
    none is read twice. The ends of such a range may be moments too, as those of a backfill are. A read ends with the
    entry that was the last when it began.
    """

    kind = "redis"
    source_type = SourceType.STREAM
    Config = RedisConfig
    incremental = True

    def __init__(self, config: RedisConfig) -> None:
        super().__init__(config)
        self._client = StreamClient(config)
        self._streams = {name: StreamRows(name, config, self.rejections) for name in config.streams}
        self._schemas: dict[str, pa.Schema] = {}

    def check(self) -> Health:
        """Sign in, and say which streams are there."""
        began = monotonic()
        try:
            version = self._client.version()
            missing = [name for name, stream in self._streams.items() if self._client.end(stream.key) is None]
        except RunError as error:
            raise _checked(error) from error
        message = f"{version} at {self.config.place}, {len(self._streams)} streams"
        if missing:
            message += f", without an entry yet: {', '.join(missing)}"
        return Health(True, message, (monotonic() - began) * 1000, version)

    def discover(self) -> dict[str, pa.Schema]:
        """The columns of each stream, declared or shown by its first entries; not of those that have none yet."""
        found: dict[str, pa.Schema] = {}
        for name, stream in self._streams.items():
            if stream.declared is None and self._client.end(stream.key) is None:
                continue
            definition = self.config.schema_config.datasets.get(name)
            keys = definition.primary_key if definition else (ID,) if self.config.entry_columns else ()
            found[name] = with_primary_key(self._schema(name), keys)
        return found

    def schema(self, request: ReadRequest) -> pa.Schema:
        """The stream's columns: declared, or told by its first entries."""
        return self._schema(self._name(request))

    def watermark(self, request: ReadRequest, cursor_column: str | None) -> str:
        """The place behind the last entry there ever was, for `_id`; else just past the column's greatest value."""
        name = self._name(request)
        if cursor_column == ID:
            return self._end(name).text
        schema = self._schema(name)
        if cursor_column is None or cursor_column == AT or cursor_column not in schema.names:
            hint = f"go by {ID}, which tells entries of one millisecond apart; where it begins may be a moment"
            raise Invalid(f"a stream is not read incrementally by {cursor_column}", hint=hint, path="cursor")
        with closing(type(self)(self.config)) as scout:
            most = greatest(scout.read(ReadRequest(dataset=name), Split(0)), cursor_column)
        return before_all(schema.field(cursor_column).type) if most is None else after(most)

    def read(self, request: ReadRequest, split: Split) -> pa.RecordBatchReader:
        """Stream the entries in order."""
        name = self._name(request)
        end, schema, stream = self._end(name), self._schema(name), self._streams[name]
        first, before, expected = Position(), end.last.next, None
        if request.cursor is not None and request.cursor.column == ID:
            before = min(Position.of_text(request.cursor.upper), before)
            if request.cursor.lower is not None:
                first = Position.of_text(request.cursor.lower)
            expected = _Expected.of(name, request.cursor, end) if self.config.on_trimmed is OnTrimmed.FAIL else None
            request = replace(request, cursor=None)
        pages = self._client.pages(stream.key, first, before)
        whole = pages if expected is None else expected.counted(pages)
        return select((stream.batch(page, schema) for page in whole), schema, request)

    def marks(self, subject: str, most: int) -> Mapping[str, str]:
        """The id of the last entry that a stream ever had, under its name."""
        end = self._client.end(self._streams[self._name(ReadRequest(dataset=subject))].key)
        return {} if end is None else {subject: end.last.id}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _name(self, request: ReadRequest) -> str:
        if request.query is not None:
            hint = "name a stream, and add a `sql` step after it"
            raise Invalid("streams have no query language", hint=hint, path="query")
        if request.dataset is None and len(self._streams) == 1:
            return next(iter(self._streams))
        if request.dataset is None or request.dataset not in self._streams:
            known = ", ".join(sorted(self._streams))
            raise Invalid(f"there is no stream {request.dataset!r}", hint=f"streams: {known}", path="dataset")
        return request.dataset

    def _end(self, name: str) -> End:
        """Where a stream ends now; one whose columns are declared may have no entry yet."""
        stream = self._streams[name]
        end = self._client.end(stream.key)
        if end is None and stream.declared is None:
            hint = f"wait for its first entry, correct the key, or declare streams.{name}.columns"
            raise Terminal(f"there is no stream {stream.key!r}", hint=hint, code="no_such_stream")
        return end or End()

    def _schema(self, name: str) -> pa.Schema:
        if name not in self._schemas:
            stream = self._streams[name]
            columns = stream.declared
            if columns is None:
                pages = self._client.pages(stream.key, Position(), self._end(name).last.next)
                columns = stream.inferred(
                    list(islice((one for page in pages for one in page), self.config.sample_entries))
                )
            self._schemas[name] = stream.whole(columns)
        return self._schemas[name]


@dataclass(frozen=True, slots=True)
class _Expected:
    """How many entries a read is to come to, so that it ends with an error where some of them are gone.

    The stream counts what was ever added to it, and a cursor keeps that number: so the read counts too, whatever
    removed them, and when.
    """

    name: str
    count: int

    @classmethod
    def of(cls, name: str, cursor: CursorRange, end: End) -> "_Expected | None":
        """None where nobody has counted. Raises `Terminal` for a stream that has had fewer than were read of it."""
        begin, until = added_before(cursor.lower or ""), added_before(cursor.upper)
        if begin is not None and end.added is not None and end.added < begin:
            raise _lost(f"entries of {name} may be lost: the stream was made anew")
        return None if begin is None or until is None else cls(name, until - begin)

    def counted(self, pages: Iterator[list[Entry]]) -> Iterator[list[Entry]]:
        """The pages; raises `Terminal` at their end where they are too few."""
        found = 0
        for page in pages:
            found += len(page)
            yield page
        if found < self.count:
            gone = self.count - found
            raise _lost(f"{gone} of {self.count} entries of {self.name} were removed before they were read")


def _lost(message: str) -> Terminal:
    hint = "let the stream keep more, or run more often; with on_trimmed: continue what is left is read"
    return Terminal(message, hint=hint, code="messages_lost", path="on_trimmed")


def _checked(error: RunError) -> DomainError:
    """The same failure as a check raises it."""
    if isinstance(error, Retryable):
        return Unavailable(error.message, hint=error.hint)
    if error.specific_code == AUTHENTICATION:
        return Unauthenticated(error.message, hint=error.hint)
    return Invalid(error.message, hint=error.hint, path="streams")


SOURCES.register(RedisSource)
