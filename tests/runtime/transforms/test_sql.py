"""Tests of the `sql` transform."""

from typing import ClassVar

import pytest

from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import TransformContract, refusal, rows_of


class TestSql(TransformContract):
    """The shared suite."""

    kind = "sql"
    inputs = ("bookings", "venues")
    config: ClassVar[JsonObject] = {
        "query": """
            WITH best AS (
                SELECT v.id, max(v.capacity) AS capacity FROM venues AS v GROUP BY v.id
            )
            SELECT b.venue_id, best.capacity, count(*) AS bookings, sum(b.guests) AS guests,
                   rank() OVER (ORDER BY count(*) DESC) AS place, sum(b.price) / count(*) AS mean
            FROM bookings AS b LEFT JOIN best ON best.id = b.venue_id
            GROUP BY ALL
            ORDER BY bookings DESC, b.venue_id"""
    }
    missing = (
        ({"query": "SELECT pryce FROM bookings"}, "query"),
        ({"query": "SELECT b.nam FROM bookings b JOIN venues v ON v.id = b.venue_id"}, "query"),
        ({"query": "WITH c AS (SELECT id AS k FROM bookings) SELECT id FROM c"}, "query"),
        ({"query": "SELECT id FROM bookings WHERE EXISTS (SELECT 1 FROM venues WHERE nam = couple)"}, "query"),
        ({"query": "SELECT * EXCLUDE (pryce) FROM bookings"}, "query"),
        ({"query": "SELECT * FROM booking"}, "query"),
    )


class TestSqlOverItsSoleInput(TransformContract):
    """The shared suite, with the sole input under its other name."""

    kind = "sql"
    config: ClassVar[JsonObject] = {
        "query": "SELECT input.id, * EXCLUDE (id) REPLACE (guests + 1 AS guests) FROM input WHERE input.id > 1"
    }


def test_a_sole_input_is_also_called_input() -> None:
    assert rows_of("sql", {"query": "SELECT count(*) AS n FROM input"}, ["bookings"]) == [(5,)]
    error = refusal("sql", {"query": "SELECT count(*) AS n FROM input"}, ["bookings", "venues"])
    assert "no table 'input'" in error.message


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "table function read_csv"),
        ("SELECT * FROM parquet_scan('x')", "table function parquet_scan"),
        ("SELECT * FROM glob('*')", "table function glob"),
        ("SELECT * FROM duckdb_settings()", "table function duckdb_settings"),
        ("SELECT * FROM query('SELECT 1')", "query"),
        ("SELECT * FROM '/etc/passwd'", "no table '/etc/passwd'"),
        ("SELECT * FROM information_schema.tables", "no table 'information_schema.tables'"),
        ("SELECT * FROM input, LATERAL (SELECT * FROM sqlite_master)", "no table 'sqlite_master'"),
        ("SELECT * FROM input WHERE id IN (SELECT id FROM secrets)", "no table 'secrets'"),
        ("DROP TABLE bookings", "not DROP"),
        ("COPY bookings TO 'x'", "not COPY"),
        ("ATTACH 'x.db'", "not ATTACH"),
        ("INSTALL httpfs", "not"),
        ("PRAGMA version", "not PRAGMA"),
        ("SET threads = 1", "not SET"),
        ("CREATE TABLE x AS SELECT 1 AS a", "not CREATE"),
        ("INSERT INTO bookings SELECT * FROM bookings", "not INSERT"),
        ("WITH x AS (DELETE FROM bookings RETURNING *) SELECT * FROM x", "not DELETE"),
        ("SELECT 1 AS a INTO x", "not INTO"),
        ("SELECT * FROM (DESCRIBE input)", "not DESCRIBE"),
        ("SUMMARIZE input", "not SUMMARIZE"),
        ("PIVOT input ON id USING sum(price)", "not PIVOT"),
        ("SELECT * FROM (PIVOT input ON id USING sum(price))", "PIVOT is not allowed"),
        ("SELECT current_setting('threads') AS x FROM input", "current_setting"),
        ("SELECT $a AS x FROM input", "parameter"),
        ("SELECT ? AS x FROM input", "parameter"),
        ("SELECT 1 AS a; SELECT 2 AS b", "2 statements"),
        ("SELECT count(*) FROM input", "has no name"),
        ("SELECT id AS a, couple AS b, price + 1 FROM input", "column 3"),
        ("SELEC id FROM input", "does not parse"),
        ("SELECT id FROM input WHERE", "does not parse"),
        ("SELECT 'x FROM input", "left open"),
        (";", "is empty"),
        ("WITH bookings AS (SELECT 1 AS a) SELECT * FROM bookings", "hides the input"),
    ],
)
def test_what_is_not_one_select_over_the_inputs_is_refused(query: str, said: str) -> None:
    error = refusal("sql", {"query": query}, ["bookings"])
    assert error.path == "query"
    assert said in error.message


@pytest.mark.parametrize(
    "query",
    [
        "SELECT r.i, b.id FROM bookings b, range(3) r(i)",
        "SELECT b.id, u.x FROM bookings b, unnest([1, 2]) u(x)",
        "SELECT * FROM (VALUES (1, 'a')) v(n, t)",
        "SELECT id FROM input UNION ALL BY NAME SELECT venue_id AS id, couple FROM input",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
        "FROM input SELECT id ORDER BY ALL LIMIT 2",
        "SELECT id + 1 AS a, a * 2 AS b FROM input WHERE a > 2",
        "SELECT list_transform([1, 2], lambda x: x + id) AS l FROM input",
        "SELECT couple FROM input QUALIFY row_number() OVER (PARTITION BY id ORDER BY price) = 1",
        'SELECT "id" AS "My Id" FROM "bookings"',
    ],
)
def test_the_rest_of_select_is_allowed(query: str) -> None:
    rows_of("sql", {"query": query}, ["bookings"])


def test_the_place_of_a_missing_column_is_named() -> None:
    error = refusal("sql", {"query": "SELECT id,\n  pryce\nFROM bookings"}, ["bookings"])
    assert error.message == "there is no column 'pryce' at line 2, column 3"


def test_a_name_that_two_inputs_have_is_refused() -> None:
    query: Json = "SELECT id FROM bookings JOIN venues ON venue_id = venues.id"
    error = refusal("sql", {"query": query}, ["bookings", "venues"])
    assert error.message == "the column 'id' is in bookings and venues"
