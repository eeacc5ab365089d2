"""Streams of Redis: entries as rows, ranges by their ids, what was removed unread, and what does not fit."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast
from uuid import uuid4

import pyarrow as pa
import pytest
from redis import Redis

from models.errors import DomainError, Invalid, Retryable, Terminal, Unauthenticated, Unavailable
from models.fields import Json, JsonObject, parse
from runtime.batches.types import sql_type
from runtime.connectors._contract import CursorRange, ReadRequest, Split, primary_key_of
from runtime.connectors._redis_config import RedisConfig
from runtime.connectors._redis_entries import Position
from runtime.connectors._row_writers import JsonLinesWriter
from runtime.connectors.redis_streams import RedisSource
from runtime.embedded.valkey import EmbeddedValkey
from tests.kit.contracts.connector_rows import SCHEMA
from tests.kit.contracts.connectors import DATASET, NestedSourceContract, SourceHarness


@pytest.fixture
def server(valkey: EmbeddedValkey) -> Iterator[Redis]:
    """A client of the session's server, emptied."""
    client = Redis.from_url(valkey.url)
    client.flushall()
    yield client
    client.close()


def source(valkey: EmbeddedValkey, dataset: JsonObject | None = None, **config: Json) -> RedisSource:
    return RedisSource(parse(RedisConfig, {"url": valkey.url, "streams": {DATASET: dataset or {}}, **config}))


def read(found: RedisSource, lower: str | None = None, upper: str | None = None) -> pa.Table:
    """All of the stream, or what is between two places; the source is closed."""
    cursor = None if upper is None else CursorRange(lower, upper, "_id")
    try:
        return found.read(ReadRequest(DATASET, cursor=cursor), Split(0)).read_all()
    finally:
        found.close()


class RedisHarness(SourceHarness):
    """A stream of JSON objects whose columns are declared."""

    kind = "redis"

    def __init__(self, server: Redis, url: str, folder: Path) -> None:
        self.server, self.url, self.folder = server, url, folder
        self.schema = SCHEMA

    def config(self) -> JsonObject:
        columns: JsonObject = {field.name: sql_type(field.type) for field in self.schema}
        dataset: JsonObject = {"key": "app:guests", "json_field": "body", "columns": columns}
        return {"url": self.url, "streams": {DATASET: dataset}, "entry_columns": False, "page_entries": 7}

    def put(self, rows: pa.Table) -> None:
        self.schema = rows.schema
        self.server.delete("app:guests")
        self.add(rows)

    def add(self, rows: pa.Table) -> None:
        path = self.folder / f"{uuid4()}.jsonl"
        writer = JsonLinesWriter(path, rows.schema)
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()
        for line in path.read_bytes().splitlines():
            self.server.xadd("app:guests", {"body": line})

    def bad_configs(self) -> Mapping[str, JsonObject]:
        good = self.config()
        return {
            "url": {**good, "url": "http://localhost:6379"},
            "streams": {**good, "streams": {}},
            "streams.guests.columns": {**good, "streams": {DATASET: {"columns": {"id": "BIGG INT"}}}},
            "streams.guests.feild": {**good, "streams": {DATASET: {"feild": "body"}}},
            "on_trimmed": {**good, "on_trimmed": "weep"},
        }


class TestRedisSource(NestedSourceContract):
    @pytest.fixture
    def harness(self, server: Redis, valkey: EmbeddedValkey, tmp_path: Path) -> RedisHarness:
        return RedisHarness(server, valkey.url, tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:s3cret@host:port", "the port is not a number"),
        ("redis://:s3cret@", "should be redis://host:6379/0"),
        ("redis://:s3cret@host/first", "the database is a number"),
        ("redis://:s3cret@host?socket_timeout=soon", "does not take socket_timeout"),
        ("unix://", "should be redis://host:6379/0"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        parse(RedisConfig, {"url": url, "streams": {DATASET: {}}})
    assert refused.value.path == "url"
    assert "s3cret" not in str(refused.value)


def test_the_fields_of_an_entry_are_its_columns_and_its_id_tells_it_apart(
    server: Redis, valkey: EmbeddedValkey
) -> None:
    server.xadd(DATASET, {"name": "Ñandú", "seats": "2"}, id="1526919030474-0")
    server.xadd(DATASET, {"name": "王小明", "table": "7"}, id="1526919030474-1")
    found = source(valkey)
    schema = found.discover()[DATASET]
    assert (schema.names, primary_key_of(schema)) == (["_id", "_at", "name", "seats", "table"], ("_id",))
    table = read(found)
    assert table.column("_id").to_pylist() == ["1526919030474-0", "1526919030474-1"]
    assert [str(at) for at in table.column("_at").to_pylist()] == ["2018-05-21 16:10:30.474000+00:00"] * 2
    assert table.column("seats").to_pylist() == ["2", None]
    typed = source(valkey, {"columns": {"name": "VARCHAR", "seats": "BIGINT"}}, entry_columns=False)
    assert read(typed).to_pylist() == [{"name": "Ñandú", "seats": 2}, {"name": "王小明", "seats": None}]


def test_a_run_reads_what_came_since_the_one_before(server: Redis, valkey: EmbeddedValkey) -> None:
    names: list[list[str]] = []
    lower = None
    for batch in (["Ada", "Ben"], ["Cid"], []):
        for name in batch:
            server.xadd(DATASET, {"name": name})
        upper = source(valkey).watermark(ReadRequest(DATASET), "_id")
        server.xadd(DATASET, {"name": f"after {len(names)}"})
        names.append(read(source(valkey), lower, upper).column("name").to_pylist())
        lower = upper
    assert names == [["Ada", "Ben"], ["after 0", "Cid"], ["after 1"]]


def test_the_ends_of_a_range_may_be_moments(server: Redis, valkey: EmbeddedValkey) -> None:
    for second in range(3):
        server.xadd(DATASET, {"second": str(second)}, id=f"{1_780_000_000_000 + second * 1000}-0")
    found = read(source(valkey), "2026-05-28T20:26:41Z", "2026-05-28T20:26:42+00:00")
    assert found.column("second").to_pylist() == ["1"]
    with pytest.raises(Invalid, match="no place in a stream"):
        read(source(valkey), "yesterday", "2026-05-28T20:26:42Z")


def test_positions_are_in_order_as_text_and_beside_moments() -> None:
    ids = [b"0-1", b"999-0", b"1526919030474-9", b"1526919030474-10", b"1526919030475-0", b"1700000000000000-0"]
    positions = [Position.of_id(identity) for identity in ids]
    assert positions == sorted(positions)
    texts = [position.text for position in positions]
    assert texts == sorted(texts)
    assert [Position.of_text(text) for text in texts] == positions
    assert Position.of_text("2018-05-21T16:10:30.474") == Position(1526919030474)
    assert Position.of_text("2018-05-21T16:10:30.4740001Z") == Position(1526919030474)
    assert Position.of_text("2018-05-21T16:10:30.474001Z") == Position(1526919030475)
    with pytest.raises(Terminal, match="no time in milliseconds"):
        Position.of_id(b"1526919030474000000-0")


def names_of(server: Redis) -> dict[str, str]:
    """The entries that are there: their names by their ids."""
    found = cast(list[tuple[bytes, dict[bytes, bytes]]], server.xrange(DATASET))
    return {identity.decode(): fields[b"name"].decode() for identity, fields in found}


def trimmed(server: Redis) -> None:
    server.xtrim(DATASET, maxlen=1, approximate=False)


def emptied(server: Redis) -> None:
    server.xtrim(DATASET, maxlen=0, approximate=False)


def deleted(server: Redis) -> None:
    server.xdel(DATASET, list(names_of(server))[-1])


def made_anew(server: Redis) -> None:
    server.delete(DATASET)
    server.xadd(DATASET, {"name": "other"})


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (trimmed, "1 of 2 entries of guests were removed"),
        (emptied, "2 of 2 entries of guests were removed"),
        (deleted, "1 of 2 entries of guests were removed"),
        (made_anew, "may be lost: the stream was made anew"),
    ],
)
def test_what_is_gone_unread_is_told_unless_it_is_to_be_passed_over(
    server: Redis, valkey: EmbeddedValkey, remove: Callable[[Redis], None], said: str
) -> None:
    for name in "abc":
        server.xadd(DATASET, {"name": name})
    lower = source(valkey).watermark(ReadRequest(DATASET), "_id")
    for name in "de":
        server.xadd(DATASET, {"name": name})
    remove(server)
    columns: JsonObject = {"columns": {"name": "VARCHAR"}}
    upper = source(valkey, columns).watermark(ReadRequest(DATASET), "_id")
    with pytest.raises(Terminal, match=said) as gone:
        read(source(valkey, columns), lower, upper)
    assert (gone.value.specific_code, gone.value.path) == ("messages_lost", "on_trimmed")
    left = list(names_of(server).values())
    passed = read(source(valkey, columns, on_trimmed="continue"), lower, upper).column("name").to_pylist()
    assert passed == [name for name in left if name not in "abc"]
    assert read(source(valkey, columns), "2020-01-01T00:00:00Z", upper).column("name").to_pylist() == left


def test_what_is_removed_while_it_is_read_is_told(server: Redis, valkey: EmbeddedValkey) -> None:
    server.xadd(DATASET, {"name": "a"})
    lower = source(valkey).watermark(ReadRequest(DATASET), "_id")
    for name in "bcde":
        server.xadd(DATASET, {"name": name})
    found = source(valkey, page_entries=2)
    upper = found.watermark(ReadRequest(DATASET), "_id")
    reader = found.read(ReadRequest(DATASET, cursor=CursorRange(lower, upper, "_id")), Split(0))
    assert reader.read_next_batch().column("name").to_pylist() == ["b", "c"]
    trimmed(server)
    with pytest.raises(Terminal, match="1 of 4 entries of guests were removed"):
        reader.read_all()
    limited = found.read(ReadRequest(DATASET, cursor=CursorRange(lower, upper, "_id"), limit=1), Split(0))
    assert limited.read_all().column("name").to_pylist() == ["e"]
    found.close()


def test_what_was_read_may_be_removed(server: Redis, valkey: EmbeddedValkey) -> None:
    for name in "abc":
        server.xadd(DATASET, {"name": name})
    lower = source(valkey).watermark(ReadRequest(DATASET), "_id")
    deleted(server)
    server.xadd(DATASET, {"name": "d"})
    trimmed(server)
    upper = source(valkey).watermark(ReadRequest(DATASET), "_id")
    assert read(source(valkey), lower, upper).column("name").to_pylist() == ["d"]
    emptied(server)
    assert read(source(valkey, {"columns": {"name": "VARCHAR"}}), upper, upper).num_rows == 0


BAD: Sequence[tuple[str, dict[str, bytes | str], str]] = [
    ("json", {"body": "{"}, "body is not JSON"),
    ("json", {"body": "[1]"}, "body is not an object"),
    ("json", {"other": "x"}, "it has no field body"),
    ("json", {"body": '{"id": "x"}'}, "id: "),
    ("fields", {"id": "x"}, "column id: 'x' is not a BIGINT"),
    ("fields", {"id": b"\xff"}, "column id is not utf-8"),
]


@pytest.mark.parametrize(("form", "entry", "reason"), BAD)
def test_an_entry_that_does_not_fit_ends_the_read_or_is_set_aside(
    server: Redis, valkey: EmbeddedValkey, form: str, entry: dict[str, bytes | str], reason: str
) -> None:
    field: JsonObject = {"json_field": "body"} if form == "json" else {}
    dataset: JsonObject = {"columns": {"id": "BIGINT"}, **field}
    good = {"body": '{"id": 1, "more": 2}', "id": "1"}
    for fields in (good, entry, good):
        server.xadd(DATASET, fields)  # type: ignore[arg-type]
    with pytest.raises(Terminal, match="guests, entry ") as broken:
        read(source(valkey, dataset))
    assert reason in broken.value.message
    for policy, kept in (("skip", []), ("quarantine", [broken.value.message])):
        found = source(valkey, dataset, on_bad_row=policy)
        table = read(found)
        assert (table.column("id").to_pylist(), len(set(table.column("_id").to_pylist()))) == ([1, 1], 2)
        assert found.rejections.count == 1
        assert [f"{row.place}: {row.reason}" for row in found.rejections.rows] == kept


def test_streams_that_are_not_there_are_told(server: Redis, valkey: EmbeddedValkey) -> None:
    server.set("guests", "no stream")
    with pytest.raises(Invalid, match="WRONGTYPE"):
        source(valkey).check()
    server.delete("guests")
    found = source(valkey)
    assert found.discover() == {}
    assert "without an entry yet: guests" in found.check().message
    assert found.marks(DATASET, 1) == {}
    with pytest.raises(Terminal, match="there is no stream 'guests'"):
        read(found)
    with pytest.raises(Invalid, match="no query language"):
        source(valkey).read(ReadRequest(query="XRANGE"), Split(0))
    with pytest.raises(Invalid, match="not read incrementally by _at"):
        source(valkey, {"columns": {"id": "BIGINT"}}).watermark(ReadRequest(DATASET), "_at")
    server.xadd(DATASET, {"a": "1"}, id="7-1")
    assert source(valkey).marks(DATASET, 1) == {DATASET: "7-1"}
    with pytest.raises(Invalid, match="there is no stream 'gifts'"):
        source(valkey).marks("gifts", 1)


def test_a_user_who_may_not_is_told_what_to_mend(server: Redis, valkey: EmbeddedValkey) -> None:
    with pytest.raises(Unauthenticated, match="invalid username-password"):
        source(valkey, username="analyst", password="wrong").check()
    server.acl_setuser("analyst", enabled=True, passwords=["+right"], commands=["+info"], keys=["*"])
    try:
        with pytest.raises(Unauthenticated, match="xinfo"):
            source(valkey, username="analyst", password="right").check()
    finally:
        server.acl_deluser("analyst")


def test_a_server_that_is_away_or_silent_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        config: JsonObject = {"url": f"redis://127.0.0.1:{port}", "streams": {DATASET: {}}, "timeout_seconds": 0.2}
        failures: list[DomainError] = []
        for kind, ask in ((Retryable, read), (Unavailable, RedisSource.check)):
            with pytest.raises(kind, match="cannot be reached") as away:
                ask(RedisSource(parse(RedisConfig, config)))
            failures.append(away.value)
    assert all("server is up" in (failure.hint or "") for failure in failures)
    with pytest.raises(Retryable, match="cannot be reached"):
        read(RedisSource(parse(RedisConfig, config)))


def test_a_read_ends_with_the_entry_that_was_the_last_when_it_began(server: Redis, valkey: EmbeddedValkey) -> None:
    for index in range(20):
        server.xadd(DATASET, {"n": str(index)})
    found = source(valkey, page_entries=5)
    reader = found.read(ReadRequest(DATASET), Split(0))
    first = reader.read_next_batch()
    server.xadd(DATASET, {"n": "later"})
    assert first.num_rows + sum(batch.num_rows for batch in reader) == 20
    found.close()


def test_the_columns_of_json_are_told_by_the_first_entries(server: Redis, valkey: EmbeddedValkey) -> None:
    for line in ('{"id": 1, "at": {"table": 3}}', '{"id": 2, "paid": 1.5}'):
        server.xadd(DATASET, {"body": line})
    found = source(valkey, {"json_field": "body"}, entry_columns=False)
    assert found.schema(ReadRequest(DATASET)).names == ["id", "at", "paid"]
    assert read(found).column("at").to_pylist() == [{"table": 3}, None]


def test_columns_named_as_those_of_the_entry_are_told_apart(server: Redis, valkey: EmbeddedValkey) -> None:
    server.xadd(DATASET, {"_id": "guest-7"})
    with pytest.raises(Terminal, match="columns of its own named _id") as clash:
        read(source(valkey))
    assert clash.value.hint == "set entry_columns to false: what is new is read by the entry's id all the same"
    upper = source(valkey).watermark(ReadRequest(DATASET), "_id")
    own = source(valkey, entry_columns=False)
    assert read(own, None, upper).to_pylist() == [{"_id": "guest-7"}]
