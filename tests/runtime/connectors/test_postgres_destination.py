"""PostgreSQL takes every type exactly, refuses what does not fit by name, and counts what it did."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.errors import Invalid, RunError, Terminal
from runtime.connectors._contract import LoadCounts, Target
from runtime.connectors._postgres_ddl import column_plans
from runtime.connectors._postgres_names import TableName
from runtime.connectors._postgres_publish import Staged, insert_on_conflict_sql
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import inspect
from tests.runtime.connectors.postgres_place import Place, a_run

SOME_UUID = UUID("c0ffee00-0000-4000-8000-000000000001")


@pytest.fixture
def place(scratch: str) -> Place:
    return Place(scratch)


def test_every_arrow_type_is_written_exactly(place: Place) -> None:
    moment = datetime(2024, 2, 29, 12, 30, 45, 123456)
    columns: dict[str, pa.Array] = {
        "i8": pa.array([-128, None], pa.int8()),
        "u64": pa.array([2**64 - 1, None], pa.uint64()),
        "f16": pa.array([1.5, None], pa.float16()),
        "f32": pa.array([1.25, None], pa.float32()),
        "dec_small": pa.array([Decimal("-0.0001"), None], pa.decimal128(6, 4)),
        "dec_whole": pa.array([Decimal("-99999"), None], pa.decimal128(5, 0)),
        "dec_wide": pa.array([Decimal("-1234567890123456789012345678901234.5678"), None], pa.decimal128(38, 4)),
        "dec_tiny": pa.array([Decimal("0.00000000000000000000000000000000000001"), None], pa.decimal128(38, 38)),
        "dec_256": pa.array([Decimal("12.5"), None], pa.decimal256(20, 2)),
        "large": pa.array(["grüß", None], pa.large_string()),
        "view": pa.array(["💍", None], pa.string_view()),
        "dictionary": pa.array(["calm", None]).dictionary_encode(),
        "raw": pa.array([b"\x00\xff", None], pa.large_binary()),
        "seconds": pa.array([moment.replace(microsecond=0), None], pa.timestamp("s")),
        "nanos": pa.array([moment, None], pa.timestamp("ns", "Europe/Berlin")),
        "clock": pa.array([time(23, 59, 59), None], pa.time32("s")),
        "day64": pa.array([date(1066, 10, 14), None], pa.date64()),
        "lasted": pa.array([timedelta(days=2, seconds=3), None], pa.duration("ms")),
        "pause": pa.array([pa.MonthDayNano([1, -2, 3_000]), None], pa.month_day_nano_interval()),
        "who": pa.array([SOME_UUID.bytes, None], pa.uuid()),
        "doc": pa.array(['{"a": 1}', None], pa.json_()),
        "nothing": pa.nulls(2),
        "numbers": pa.array([[1, None, 3], None], pa.list_(pa.int32())),
        "prices": pa.array([[Decimal("1.10")], None], pa.large_list(pa.decimal128(8, 2))),
        "pair": pa.array([["a", "b"], None], pa.list_(pa.string(), 2)),
        "empty": pa.array([[], None], pa.list_(pa.timestamp("us", "UTC"))),
        "docs": pa.array([[{"x": 1}], None], pa.list_(pa.struct([("x", pa.int64())]))),
        "scores": pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())),
    }
    assert place.load(pa.table(columns)) == LoadCounts(inserted=2)
    row, empty = place.fetch("SELECT * FROM guests ORDER BY i8 NULLS LAST")
    assert dict(zip(columns, row, strict=True)) == {
        "i8": -128, "u64": Decimal(2**64 - 1), "f16": 1.5, "f32": 1.25, "dec_small": Decimal("-0.0001"),
        "dec_whole": Decimal("-99999"), "dec_wide": Decimal("-1234567890123456789012345678901234.5678"),
        "dec_tiny": Decimal("0.00000000000000000000000000000000000001"), "dec_256": Decimal("12.50"),
        "large": "grüß", "view": "💍", "dictionary": "calm", "raw": b"\x00\xff",
        "seconds": moment.replace(microsecond=0), "nanos": moment.replace(tzinfo=UTC), "clock": time(23, 59, 59),
        "day64": date(1066, 10, 14), "lasted": timedelta(days=2, seconds=3),
        "pause": row[list(columns).index("pause")], "who": SOME_UUID, "doc": '{"a": 1}',
        "nothing": None, "numbers": [1, None, 3], "prices": [Decimal("1.10")], "pair": ["a", "b"], "empty": [],
        "docs": '[{"x": 1}]', "scores": '{"k": 1.5}',
    }  # fmt: skip
    assert set(empty) == {None}
    assert place.fetch("SELECT pause::text, dec_small::text FROM guests WHERE i8 = -128") == [
        ("1 mon -2 days +00:00:00.000003", "-0.0001")
    ]


def test_slices_and_many_batches_arrive_whole(place: Place) -> None:
    rows = pa.table(
        {
            "id": pa.array(range(100_000)),
            "name": pa.array([None if n % 7 == 0 else f"guest {n}" for n in range(100_000)]),
            "tags": pa.array([None if n % 5 == 0 else ["a"] * (n % 3) for n in range(100_000)]),
            "price": pa.array([None if n % 11 == 0 else Decimal(n) / 100 for n in range(100_000)], pa.decimal128(9, 2)),
            "here": pa.array([None if n % 13 == 0 else n % 2 == 0 for n in range(100_000)]),
        }
    )
    assert place.load(rows.slice(17, 90_001)) == LoadCounts(inserted=90_001)
    request = place.read("SELECT * FROM guests ORDER BY id")
    assert request.num_rows == 90_001
    expected = rows.slice(17, 90_001)
    for name in ("id", "name", "tags", "here"):
        assert request.column(name).to_pylist() == expected.column(name).to_pylist()
    assert request.column("price").to_pylist() == expected.column("price").to_pylist()


def test_text_is_cast_to_the_types_of_the_table(place: Place) -> None:
    place.execute(
        "CREATE TYPE mood AS ENUM ('calm', 'wild')",
        """CREATE TABLE guests (who uuid, doc jsonb, at timestamptz, price numeric(8, 2), seats int, feeling mood,
           feelings mood[], short varchar(5), span daterange, plain json)""",
    )
    rows = pa.table(
        {
            "who": [str(SOME_UUID)],
            "doc": ['{"a":1}'],
            "at": ["2024-05-01 12:00+02"],
            "price": ["12.50"],
            "seats": ["7"],
            "feeling": ["wild"],
            "feelings": [["calm", "wild"]],
            "short": ["abcde"],
            "span": ["[2024-01-01,2024-02-01)"],
            "plain": ['{"b":2}'],
        }
    )
    for mode in (WriteMode.APPEND, WriteMode.OVERWRITE):
        assert place.load(rows, mode).inserted == 1
    found = place.fetch("SELECT who, doc, at, price, seats, feeling, feelings::text[], short, span::text FROM guests")
    assert found == [
        (SOME_UUID, '{"a": 1}', datetime(2024, 5, 1, 10, tzinfo=UTC), Decimal("12.50"), 7, "wild", ["calm", "wild"],
         "abcde", "[2024-01-01,2024-02-01)")
    ]  # fmt: skip


def test_numbers_move_between_widths_when_they_fit(place: Place) -> None:
    place.execute("CREATE TABLE guests (a int2, b numeric(6, 2), c float8, d int4, e numeric, f text, g numeric(6, 2))")
    rows = pa.table(
        {
            "a": pa.array([32767], pa.int64()),
            "b": pa.array([12], pa.int32()),
            "c": pa.array([Decimal("1.5")]),
            "d": pa.array([7.0], pa.float64()),
            "e": pa.array([Decimal("1.25")]),
            "f": pa.array([42], pa.int16()),
            "g": pa.array([1.255], pa.float64()),
        }
    )
    place.load(rows)
    assert place.fetch("SELECT a, b, c, d, e, f, g::text FROM guests") == [
        (32767, Decimal("12.00"), 1.5, 7, Decimal("1.25"), "42", "1.26")
    ]


@pytest.mark.parametrize(
    ("column", "value", "code", "sample"),
    [
        ("seats int2", pa.array([5, 70_000]), "overflow", "70000"),
        ("seats int4", pa.array([1.5]), "overflow", "1.5"),
        ("seats numeric(4, 1)", pa.array([Decimal("12345.6")]), "overflow", "12345.6"),
        ("seats numeric(4, 1)", pa.array([Decimal("1.25")]), "overflow", "1.25"),
        ("seats float4", pa.array([1e300]), "overflow", "1e"),
        ("seats uuid", pa.array([str(SOME_UUID), "not one"]), "bad_value", "not one"),
        ("seats timestamptz", pa.array(["2024-02-30"]), "overflow", "2024-02-30"),
        ("seats jsonb", pa.array(["{"]), "bad_value", "json"),
        ("seats varchar(3)", pa.array(["abcd"]), "overflow", "character varying"),
        ("seats text", pa.array(["a\x00b"]), "bad_text", "0x00"),
        ("seats int NOT NULL", pa.array([1, None]), "null_value", "null"),
        ("seats int CHECK (seats > 3)", pa.array([1]), "check_failed", "check"),
        ("seats int8", pa.array(["9223372036854775808"]), "overflow", "9223372036854775808"),
        ("seats timestamptz", pa.array([-(2**63) + 946_684_800_000_000], pa.timestamp("us")), "overflow", "moment"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(
    place: Place, column: str, value: pa.Array, code: str, sample: str
) -> None:
    place.execute(f"CREATE TABLE guests (id int PRIMARY KEY, {column})")
    rows = pa.table({"id": range(len(value)), "seats": value})
    for mode in WriteMode:
        with pytest.raises(Terminal, match="seats") as raised:
            place.load(rows, mode, key_columns=("id",) if mode is WriteMode.UPSERT else ())
        assert raised.value.specific_code == code
        assert sample in raised.value.message
        assert raised.value.hint
    assert place.fetch("SELECT count(*) FROM guests") == [(0,)]
    assert place.leftovers() == []


def test_all_that_does_not_fit_is_named_at_once(place: Place) -> None:
    place.execute(
        """CREATE TABLE guests (id int, day date, seats int, needed text NOT NULL,
           made int GENERATED ALWAYS AS (1) STORED,
           filled text NOT NULL DEFAULT '')"""
    )
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("day", pa.timestamp("us")),
            ("seats", pa.bool_()),
            ("made", pa.int32()),
            ("x", pa.int32()),
        ]
    )
    with pytest.raises(Terminal) as raised:
        place.destination().fit(Target("guests", WriteMode.UPSERT, ("id", "y")), schema)
    for part in (
        "day is timestamp",
        "seats is bool",
        "made is generated",
        "no column x",
        "needed is missing",
        "column y",
        "unique",
    ):
        assert part in raised.value.message
    assert "filled" not in raised.value.message


def test_a_view_and_a_table_that_may_not_be_made_are_refused(place: Place) -> None:
    place.execute("CREATE VIEW guests AS SELECT 1 AS id")
    with pytest.raises(Terminal, match="view"):
        place.load(pa.table({"id": [1]}))
    with pytest.raises(Terminal, match="there is no table public") as missing:
        place.load(pa.table({"id": [1]}), table="fresh", options={"create_table": False})
    assert missing.value.specific_code == "missing_table"
    assert "create the table" in (missing.value.hint or "")
    with pytest.raises(Invalid, match="known key") as raised:
        place.load(pa.table({"id": [1]}), table="fresh", options={"creat_table": False})
    assert raised.value.path == "options.creat_table"


def test_an_upsert_changes_what_differs_and_counts_only_that(place: Place) -> None:
    place.execute("CREATE TABLE guests (id int PRIMARY KEY, name text, doc json, note text DEFAULT 'kept')")
    first = pa.table({"id": [1, 2, 3], "name": ["a", "b", None], "doc": ['{"x":1}', "{}", None]})
    assert place.load(first, WriteMode.UPSERT, key_columns=("id",)) == LoadCounts(inserted=3)
    assert place.load(first, WriteMode.UPSERT, key_columns=("id",)) == LoadCounts()
    second = pa.table({"id": [2, 3, 4], "name": ["B", None, "d"], "doc": ["{}", "[]", None]})
    assert place.load(second, WriteMode.UPSERT, key_columns=("id",)) == LoadCounts(inserted=1, updated=2)
    assert place.fetch("SELECT id, name, doc::text, note FROM guests ORDER BY id") == [
        (1, "a", '{"x":1}', "kept"), (2, "B", "{}", "kept"), (3, None, "[]", "kept"), (4, "d", None, "kept"),
    ]  # fmt: skip


def test_an_upsert_whose_columns_are_all_keys_only_adds(place: Place) -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", "y"]})
    assert place.load(rows, WriteMode.UPSERT, key_columns=("a", "b")) == LoadCounts(inserted=2)
    more = pa.table({"a": [2, 3], "b": ["y", "z"]})
    assert place.load(more, WriteMode.UPSERT, key_columns=("a", "b")) == LoadCounts(inserted=1)


def test_a_key_that_comes_twice_is_refused_with_the_key(place: Place) -> None:
    rows = pa.table({"id": [1, 2, 2], "name": ["a", "b", "c"]})
    with pytest.raises(Terminal, match="id = 2 2 times") as raised:
        place.load(rows, WriteMode.UPSERT, key_columns=("id",))
    assert raised.value.specific_code == "duplicate_key"
    assert "deduplicate" in str(raised.value.hint)


def test_an_append_of_a_key_that_is_there_is_refused(place: Place) -> None:
    place.execute("CREATE TABLE guests (id int PRIMARY KEY)", "INSERT INTO guests VALUES (1)")
    with pytest.raises(Terminal, match="guests_pkey") as raised:
        place.load(pa.table({"id": [1]}))
    assert raised.value.specific_code == "duplicate_key"


def test_the_upsert_of_older_servers_counts_the_same(place: Place) -> None:
    place.execute(
        "CREATE TABLE guests (id int PRIMARY KEY, name text, doc json)",
        "INSERT INTO guests VALUES (1, 'same', '{}'), (2, 'old', '{}')",
        "CREATE TABLE staged AS SELECT * FROM guests WHERE false",
        "INSERT INTO staged VALUES (1, 'same', '{}'), (2, 'new', '{}'), (3, 'added', NULL)",
    )
    destination = place.destination()
    with Session(destination.config) as session:
        table = inspect(session, TableName("public", "guests"))
        plans = column_plans(table, inspect(session, TableName("public", "staged")))
        (row,) = session.fetch(insert_on_conflict_sql(table, Staged(("staged",), tuple(plans)), ("id",)))
        assert (row["inserted"], row["updated"]) == (1, 1)
        session.commit()
    assert place.fetch("SELECT name FROM guests ORDER BY id") == [("same",), ("new",), ("added",)]


def test_identity_columns_take_the_values_of_a_load(place: Place) -> None:
    place.execute("CREATE TABLE guests (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)")
    place.load(pa.table({"id": [7], "name": ["a"]}))
    place.load(pa.table({"id": [7, 8], "name": ["b", "c"]}), WriteMode.UPSERT, key_columns=("id",))
    place.load(pa.table({"name": ["numbered"]}))
    assert place.fetch("SELECT id, name FROM guests ORDER BY name") == [(7, "b"), (8, "c"), (1, "numbered")]


@pytest.mark.parametrize("name", ['"we.ird"', "select", 'other."Mixed Case"'])
def test_names_are_quoted(place: Place, name: str) -> None:
    place.execute("CREATE SCHEMA other")
    rows = pa.table({'a "quoted" one': [1], "SELECT": ["x"], "per%cent": [2.5]})
    assert place.load(rows, WriteMode.UPSERT, table=name, key_columns=('a "quoted" one',)).inserted == 1
    assert place.load(rows, WriteMode.OVERWRITE, table=name) == LoadCounts(inserted=1, deleted=1)


@pytest.mark.parametrize("name", ["", "a.b.c", "x" * 64, "a."])
def test_what_names_no_table_is_refused(place: Place, name: str) -> None:
    with pytest.raises(Terminal, match="table") as raised:
        place.load(pa.table({"id": [1]}), table=name)
    assert raised.value.specific_code == "bad_table_name"


def test_a_user_who_may_not_write_is_told_so(place: Place) -> None:
    place.execute(
        "DROP ROLE IF EXISTS wedsync_reader_of_tests",
        "CREATE ROLE wedsync_reader_of_tests LOGIN",
        "CREATE TABLE guests (id int)",
        "GRANT SELECT ON guests TO wedsync_reader_of_tests",
    )
    reader = Place(place.uri.replace("//postgres", "//wedsync_reader_of_tests"))
    try:
        with pytest.raises(RunError, match="permission denied") as raised:
            reader.load(pa.table({"id": [1]}))
        assert raised.value.specific_code == "denied"
    finally:
        place.execute("DROP OWNED BY wedsync_reader_of_tests", "DROP ROLE wedsync_reader_of_tests")


def test_a_load_runs_in_a_thread_with_an_event_loop(place: Place) -> None:
    async def inside() -> LoadCounts:
        destination = place.destination()
        return destination.load(Target("guests", WriteMode.APPEND), a_run(), pa.table({"id": [1]}).to_reader(), None)

    assert asyncio.run(inside()).inserted == 1
