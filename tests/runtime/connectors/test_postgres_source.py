"""PostgreSQL is read exactly, in bounded memory, and what Arrow cannot hold is refused by name."""

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import pyarrow as pa
import pytest

from models.errors import DomainError, Retryable, Terminal, Unauthenticated, Unavailable
from runtime.connectors._contract import CursorRange, ReadRequest, Split
from tests.runtime.connectors.postgres_place import Place


@pytest.fixture
def place(scratch: str) -> Place:
    return Place(scratch)


KILL_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
ODD_TYPES = """
CREATE TYPE mood AS ENUM ('calm', 'wild');
CREATE TYPE seat AS (hall text, number int);
CREATE DOMAIN price AS numeric(8, 2);
CREATE TABLE odd (
  small int2, real4 float4, fixed char(4), who uuid, doc jsonb, text_doc json, raw bytea, clock time,
  pause interval, feeling mood, place seat, cost price, wide numeric(40, 3), open numeric, prices numeric(8, 2)[],
  names text[], days date[], feelings mood[], span int4range, address inet, cash money, number oid, bits bit(3),
  zoned timetz, ids uuid[]);
INSERT INTO odd VALUES (
  -32768, 1.5, 'ab', 'c0ffee00-0000-4000-8000-000000000001', '{"a": [1, null]}', '{"b":1}', '\\x00ff',
  '23:59:59.999999',
  '1 mon 2 days 3.5 s', 'wild', ('A', 7), 12.50, 1234567890123456789012345678901234567.125, 1.5, '{1.25,NULL}',
  '{a,NULL,"b c"}', '{2024-02-29}', '{calm}', '[1,5)', '10.0.0.1', 12.34, 4000000000, '101',
  '12:00:00+02', '{c0ffee00-0000-4000-8000-000000000001}');
INSERT INTO odd DEFAULT VALUES;
"""


def test_every_type_is_read_as_its_equal_or_as_its_text(place: Place) -> None:
    place.execute(ODD_TYPES)
    source, request = place.source(), ReadRequest(dataset="odd")
    rows = source.read(request, Split(0)).read_all()
    row = {name: rows.column(name)[0].as_py() for name in rows.column_names if name != "pause"}
    assert row == {
        "small": -32768, "real4": 1.5, "fixed": "ab  ", "who": UUID("c0ffee00-0000-4000-8000-000000000001"),
        "doc": '{"a": [1, null]}', "text_doc": '{"b":1}', "raw": b"\x00\xff",
        "clock": datetime(1, 1, 1, 23, 59, 59, 999999).time(), "feeling": "wild",
        "place": '{"hall": "A", "number": 7}', "cost": Decimal("12.50"),
        "wide": "1234567890123456789012345678901234567.125", "open": Decimal("1.500000000"),
        "prices": [Decimal("1.250000000"), None], "names": ["a", None, "b c"], "days": [date(2024, 2, 29)],
        "feelings": ["calm"], "span": "[1,5)", "address": "10.0.0.1/32", "cash": Decimal("12.34"),
        "number": 4_000_000_000, "bits": "101", "zoned": "12:00:00+02",
        "ids": [UUID("c0ffee00-0000-4000-8000-000000000001")],
    }  # fmt: skip
    assert rows.column("pause")[0] == pa.scalar(pa.MonthDayNano([1, 2, 3_500_000_000]))
    assert all(rows.column(name)[1].as_py() is None for name in rows.column_names)
    assert source.schema(request).types == rows.schema.types == source.discover()["odd"].types


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::timestamp", "infinity"),
        ("'infinity'::date", "infinity"),
        ("'0044-03-15 BC'::date", "year"),
        ("array['infinity'::date]", "infinity"),
        ("'24:00'::time", "24:00"),
        ("'NaN'::numeric(10, 2)", "NaN"),
        ("'NaN'::numeric", "NaN"),
        ("'Infinity'::numeric", "inf"),
        ("array['NaN'::numeric]", "NaN"),
    ],
)
def test_a_value_that_arrow_cannot_hold_is_refused_by_name_or_made_null(
    place: Place, expression: str, shown: str
) -> None:
    query = f"select 1 as fine, {expression} as odd_one, 2.5::numeric(4, 1) as other"
    with pytest.raises(Terminal, match=shown) as raised:
        place.read(query)
    assert "odd_one" in raised.value.message
    assert "special_values" in str(raised.value.hint)
    kept = place.read(query, special_values="null").column("odd_one").to_pylist()
    assert kept in ([None], [[None]])


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("array[[1, 2], [3, 4]]", "special_value"),
        ("array[['a'], ['b']]", "special_value"),
        ("1e-12::numeric", "overflow"),
        ("1e35::numeric", "overflow"),
    ],
)
def test_a_value_that_would_lose_something_is_refused(place: Place, expression: str, code: str) -> None:
    with pytest.raises(Terminal, match="odd_one") as raised:
        place.read(f"select {expression} as odd_one")
    assert raised.value.specific_code == code
    assert raised.value.hint


def test_an_infinite_interval_is_refused(place: Place) -> None:
    with pytest.raises(Terminal, match="nterval") as raised:
        place.read("select 'infinity'::interval as pause")
    assert raised.value.specific_code == "special_value"


@pytest.mark.parametrize(
    ("query", "code", "shown"),
    [
        ("select nope from pg_class", "missing_column", "nope"),
        ("select 1 from no_such_table", "missing_table", "no_such_table"),
        ("selec 1", "bad_sql", "at: 1"),
        ("select 1 as a, 2 as a", "bad_sql", "called a"),
        ("select 1; drop table x", "bad_sql", ";"),
        ("insert into t values (1) returning 1", "bad_sql", "into"),
        ("with gone as (delete from pg_class returning 1) select * from gone", "postgres", "WITH"),
    ],
)
def test_sql_that_fails_says_where_and_why(place: Place, query: str, code: str, shown: str) -> None:
    with pytest.raises(Terminal, match=shown) as raised:
        place.source().schema(ReadRequest(query=query))
    assert raised.value.specific_code == code
    assert raised.value.hint


def test_a_query_cannot_write(place: Place) -> None:
    place.execute(
        "CREATE TABLE t (a int)",
        "CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING a'",
    )
    with pytest.raises(Terminal) as raised:
        place.read("select sneak()")
    assert raised.value.specific_code == "read_only"
    assert place.fetch("select count(*) from t") == [(0,)]


def test_an_error_in_the_middle_of_the_rows_is_typed(place: Place) -> None:
    with pytest.raises(Terminal, match="division by zero"):
        place.read("select 1 / (400000 - n) as x from generate_series(1, 500000) as n")


def test_discovery_shows_nullability_keys_views_and_domains(place: Place) -> None:
    place.execute(
        "CREATE TABLE stay (venue int, day date, note text NOT NULL, price numeric(9, 3), PRIMARY KEY (day, venue))",
        "CREATE VIEW seen AS SELECT day FROM stay",
        "CREATE TABLE parted (d date) PARTITION BY RANGE (d)",
        "CREATE TABLE parted_1 PARTITION OF parted DEFAULT",
        "CREATE SCHEMA other; CREATE TABLE other.hidden (a int)",
    )
    found = place.source().discover()
    assert set(found) == {"stay", "seen", "parted"}
    assert found["stay"].metadata == {b"primary_key": b'["day", "venue"]'}
    assert [field.nullable for field in found["stay"]] == [False, False, False, True]
    assert found["stay"].field("price").type == pa.decimal128(9, 3)
    assert set(place.source(schema="other").discover()) == {"hidden"}
    assert place.source().schema(ReadRequest(dataset="other.hidden")).names == ["a"]


def test_splits_hold_every_row_once_nulls_too(place: Place) -> None:
    place.execute(
        "CREATE TABLE booking (id int, score float8, day date, at timestamptz, price numeric(12, 4))",
        """INSERT INTO booking SELECT nullif(n % 97, 0), CASE WHEN n % 50 = 0 THEN 'NaN' ELSE n * 1.5 END,
           date '2024-01-01' + n % 400, timestamptz '2024-01-01' + n * interval '1 hour', n / 7.0
           FROM generate_series(1, 2000) AS n""",
        "INSERT INTO booking VALUES (NULL, NULL, NULL, NULL, NULL)",
    )
    for analyzed in (False, True):
        if analyzed:
            place.execute("ANALYZE booking")
        for column in ("id", "day", "at", "price", "score"):
            source = place.source()
            request = ReadRequest(dataset="booking", partition_column=column)
            splits = source.split(request, 4)
            rows = [source.read(request, split).read_all().num_rows for split in splits]
            assert sum(rows) == 2001, (column, analyzed)
            assert len(splits) > 1 or column == "score"


def test_a_query_with_parameters_and_filters_is_divided(place: Place) -> None:
    source = place.source()
    request = ReadRequest(
        query="select n as id, n % 3 as kind from generate_series(1, :most) as n",
        parameters={"most": 1000},
        filters={"kind": [0, 1]},
        partition_column="id",
    )
    parts = [source.read(request, split).read_all().num_rows for split in source.split(request, 3)]
    assert len(parts) == 3
    assert sum(parts) == 667
    assert source.split(ReadRequest(query="select 'x' as id", partition_column="id"), 3) == [Split(0)]


def test_a_watermark_is_the_servers_clock_and_stays_behind_writers(place: Place) -> None:
    place.execute("CREATE TABLE booking (id int, at timestamptz, day date, local timestamp)")
    place.execute("INSERT INTO booking VALUES (1, now(), current_date, '2024-01-01 10:00')")
    source, request = place.source(), ReadRequest(dataset="booking")
    before = datetime.now(UTC)
    assert abs(datetime.fromisoformat(source.watermark(request, "at")) - before) < timedelta(minutes=1)
    assert source.watermark(request, "local") == "2024-01-01T10:00:00.000001"
    assert date.fromisoformat(source.watermark(request, "day")) <= datetime.now(UTC).date()

    async def with_a_writer() -> tuple[datetime, datetime]:
        writer = await asyncpg.connect(place.uri)
        try:
            async with writer.transaction():
                await writer.execute("INSERT INTO booking VALUES (2, now())")
                written = await writer.fetchval("SELECT now()")
                return written, datetime.fromisoformat(source.watermark(request, None))
        finally:
            await writer.close()

    written, seen = asyncio.run(with_a_writer())
    assert seen <= written


def test_incremental_ranges_meet_without_gap_or_overlap(place: Place) -> None:
    place.execute("CREATE TABLE booking (id int, at timestamptz)")
    place.execute(
        "INSERT INTO booking SELECT n, timestamptz '2024-01-01' + n * interval '1 s' FROM generate_series(0, 9) n"
    )
    source = place.source()
    middle, end = "2024-01-01T00:00:05+00:00", "2024-01-02T00:00:00+00:00"
    ranges = [CursorRange(None, middle, "at"), CursorRange(middle, end, "at")]
    read = [source.read(ReadRequest(dataset="booking", cursor=one), Split(0)).read_all() for one in ranges]
    assert [rows.column("id").to_pylist() for rows in read] == [list(range(5)), list(range(5, 10))]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"url": "postgresql://x@127.0.0.1:1/db", "connect_timeout_seconds": 2}, Unavailable),
        ({"url": "postgresql://x@no-such-host.invalid/db", "connect_timeout_seconds": 2}, Unavailable),
    ],
)
def test_a_server_that_is_away_is_unavailable(place: Place, changes: dict[str, str], kind: type[DomainError]) -> None:
    for made in (place.source(**changes), place.destination(**changes)):
        with pytest.raises(kind, match="cannot be reached") as raised:
            made.check()
        assert raised.value.hint
    with pytest.raises(Retryable):
        place.source(**changes).discover()


def test_a_user_who_is_not_known_is_unauthenticated(place: Place) -> None:
    changed = {"url": place.uri.replace("//postgres", "//nobody")}
    for made in (place.source(**changed), place.destination(**changed)):
        with pytest.raises(Unauthenticated, match="nobody"):
            made.check()


def test_a_timeout_stops_the_query(place: Place) -> None:
    with pytest.raises(Terminal) as raised:
        place.read("select pg_sleep(30)::text", statement_timeout_seconds=0.2)
    assert raised.value.specific_code == "timeout"


def test_closing_stops_a_read_that_nobody_finished(place: Place) -> None:
    source = place.source()
    reader = source.read(
        ReadRequest(query="select n, repeat('x', 500) as t from generate_series(1, 3000000) n"), Split(0)
    )
    assert reader.read_next_batch().num_rows > 0
    source.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "postgres-read"]
    assert place.fetch("select count(*) from pg_stat_activity where query like 'COPY%' and state = 'active'") == [(0,)]


def test_a_connection_that_was_killed_is_retryable_and_the_next_read_works(place: Place) -> None:
    source = place.source()
    assert source.check().ok
    reader = source.read(
        ReadRequest(query="select n, repeat('x', 500) as t from generate_series(1, 3000000) n"), Split(0)
    )
    reader.read_next_batch()
    place.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'COPY%' and pid <> pg_backend_pid()"
    )
    with pytest.raises(Retryable):
        reader.read_all()
    assert source.check().ok


def test_a_kept_connection_that_was_killed_is_replaced(place: Place) -> None:
    source = place.source()
    assert source.check().ok
    place.execute(KILL_ALL)
    assert source.check().ok
    assert place.destination().check().ok
    place.execute(KILL_ALL)
    assert place.destination().check().ok
