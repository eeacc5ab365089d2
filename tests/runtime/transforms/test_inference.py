"""The columns that are told of queries, compared with DuckDB's own, and names that are refused."""

import duckdb
import pytest
import sqlglot

from models.errors import Invalid
from runtime.batches.types import DIALECT, UNKNOWN, Column, Columns
from runtime.transforms._contract import Relation
from runtime.transforms._inference import Inference
from tests.kit.contracts.transforms import described, relation, sample_database

QUERIES = [
    "SELECT * FROM bookings",
    "SELECT ID, Couple AS who FROM bookings",
    "SELECT b.*, v.name FROM bookings b LEFT JOIN venues v ON v.id = b.venue_id",
    "SELECT * FROM bookings JOIN venues USING (id)",
    "SELECT id, couple, capacity FROM bookings FULL JOIN venues USING (id)",
    "SELECT * EXCLUDE (price) REPLACE (id::VARCHAR AS id) FROM bookings",
    "SELECT * RENAME (price AS cost) FROM bookings",
    "SELECT * FROM bookings SEMI JOIN venues ON venues.id = venue_id",
    "SELECT id FROM bookings UNION ALL SELECT capacity FROM venues",
    "SELECT id, couple FROM bookings UNION ALL BY NAME SELECT capacity AS id, name FROM venues",
    "WITH c(k, w) AS (SELECT id, couple FROM bookings) SELECT w, k FROM c",
    "SELECT x.k, x.k + 1 AS next FROM (SELECT id AS k FROM bookings) x",
    "SELECT price * 2 AS twice, twice + 1 AS more FROM bookings",
    "SELECT address.geo.lat, venues.address.city FROM venues",
    "SELECT venue_id, sum(price) AS total, count(*) AS n FROM bookings GROUP BY ALL HAVING n > 1 ORDER BY total",
    "SELECT id FROM bookings b WHERE EXISTS (SELECT 1 FROM venues v WHERE v.id = b.venue_id)",
    "SELECT (SELECT max(capacity) FROM venues) AS most, id FROM bookings",
    "SELECT a.id FROM bookings a, venues b WHERE a.venue_id = b.id",
    "SELECT rowid, id FROM bookings",
]


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    """The sample."""
    return sample_database()


def infer(query: str, *relations: Relation, closed: bool = True) -> Columns | None:
    """The columns that are told of a query."""
    tree = sqlglot.parse_one(query, dialect=DIALECT)
    assert isinstance(tree, sqlglot.exp.Query)
    return Inference(relations, "query", closed=closed).columns(tree)


@pytest.mark.parametrize("query", QUERIES)
def test_the_columns_told_are_duckdb_s(database: duckdb.DuckDBPyConnection, query: str) -> None:
    found = infer(query, relation(database, "bookings"), relation(database, "venues"))
    assert found is not None
    truth = described(database, query)
    assert [one.name.lower() for one in found] == [one.name.lower() for one in truth]
    assert all(one.type in (UNKNOWN, true.type) for one, true in zip(found, truth, strict=True))


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("SELECT nam FROM venues", "'nam'"),
        ("SELECT v.nam FROM venues v", "'v.nam'"),
        ("SELECT id FROM venues WHERE nam = 1", "'nam'"),
        ("SELECT id FROM venues ORDER BY nam", "'nam'"),
        ("SELECT count(*) AS n FROM venues GROUP BY nam", "'nam'"),
        ("SELECT b.id FROM bookings b JOIN venues v ON v.idd = b.id", "'v.idd'"),
        ("SELECT id FROM bookings JOIN venues USING (idd)", "'id'"),
        ("WITH c AS (SELECT nam FROM venues) SELECT * FROM c", "'nam'"),
        ("SELECT k FROM (SELECT id FROM venues) x", "'k'"),
        ("SELECT id FROM bookings WHERE EXISTS (SELECT 1 FROM venues WHERE nope = 1)", "'nope'"),
        ("SELECT id FROM bookings UNION ALL SELECT nam FROM venues", "'nam'"),
        ("SELECT * REPLACE (1 AS nam) FROM venues", "'nam'"),
        ("SELECT * RENAME (nam AS x) FROM venues", "'nam'"),
        ("SELECT * FROM venue", "'venue'"),
    ],
)
def test_a_name_that_is_not_there_is_refused(database: duckdb.DuckDBPyConnection, query: str, wrong: str) -> None:
    with pytest.raises(Invalid) as caught:
        infer(query, relation(database, "bookings"), relation(database, "venues"))
    assert caught.value.path == "query"
    assert wrong in caught.value.message


def test_an_open_input_may_have_any_column() -> None:
    assert infer("SELECT * FROM o", Relation("o", None)) is None
    assert infer("SELECT x, y AS z FROM o", Relation("o", None)) == (Column("x"), Column("z"))
    assert infer("SELECT b AS a, a AS b FROM o", Relation("o", None)) == (Column("a"), Column("b"))


def test_an_unknown_table_is_an_open_one_where_others_may_exist() -> None:
    assert infer("SELECT x FROM elsewhere", closed=False) == (Column("x"),)


def test_nullability_follows_columns_joins_and_functions() -> None:
    left = Relation("l", (Column("id", "INT", False), Column("x", "INT", True)))
    right = Relation("r", (Column("k", "INT", False),))
    query = "SELECT id, x, k, id + 1 AS a, coalesce(x, 0) AS b, count(*) AS c FROM l LEFT JOIN r ON k = id GROUP BY ALL"
    found = infer(query, left, right)
    assert found is not None
    assert [one.nullable for one in found] == [False, True, True, False, False, False]


def test_columns_of_a_recursive_query_are_not_told() -> None:
    query = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT n FROM r"
    assert infer(query) == (Column("n"),)
