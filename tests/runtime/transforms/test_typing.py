"""The types that are told of expressions, compared with DuckDB's own."""

import duckdb
import pytest
import sqlglot

from runtime.batches.types import DIALECT, UNKNOWN, parse_type
from runtime.transforms import _types as t
from runtime.transforms._sql import render
from runtime.transforms._typing import Typed, Typer

COLUMNS = {
    "i": "INTEGER",
    "b": "BIGINT",
    "s": "SMALLINT",
    "h": "HUGEINT",
    "ui": "UINTEGER",
    "d": "DECIMAL(10, 2)",
    "w": "DECIMAL(38, 10)",
    "f": "DOUBLE",
    "r": "REAL",
    "v": "VARCHAR",
    "bo": "BOOLEAN",
    "dt": "DATE",
    "ts": "TIMESTAMP",
    "tz": "TIMESTAMPTZ",
    "j": "JSON",
    "l": "INTEGER[]",
    "st": "STRUCT(name VARCHAR, n STRUCT(x INTEGER))",
}

ARITHMETIC = """
1 | 2147483648 | 10000000000 | 1.5 | 0.05 | 100.25 | 1e3 | 'x' | true | -1 | i + 1 | i + b | i + s | s + 1 | s + 100000
s * 2 | s - 1 | b * 1000 | h + 1 | i * d | d * d | d + d | d + 1 | d - 1.25 | d * 1.5 | d * 100 | d * i * 2
(d + 1) * 2 | d + d + d + d | d * b | w + d | w * d | d / 2 | i / 2 | i / d | f / 0 | s / s | r / r | r / 2 | r / d
r / f | i / r | i // 2 | d * 2 + 1 | w + 1
b // s | i % 2 | b % 3 | f * d | r * f | r * 2 | r * d | r + 1 | r + f | 1.0 + i | 2 * 1.5 | 1 / 2 | -d | -f | +i
count(*) * 1.0 / count(i) | sum(d) / count(*) | sum(i) * 2 | sum(d * i) / 100 | max(i) - min(i)
"""
NUMBERS = """
round(d, 1) | round(d, 3) | round(d) | round(f, 1) | round(f) | round(i) | floor(f) | floor(d) | ceil(d) | ceil(i)
floor(b) | floor(r)
abs(i) | abs(d) | abs(f) | sqrt(i) | power(i, 2) | ln(f) | exp(i) | greatest(i, b) | least(d, d) | greatest(1, i, s)
"""
CHOICES = """
coalesce(i, 0) | coalesce(d, 0) | coalesce(d, 1.5) | coalesce(f, 1) | coalesce(s, 100000) | coalesce(v, '')
coalesce(i, b) | coalesce(null, i) | coalesce(dt, '2026-01-01') | coalesce(ts, dt) | coalesce(bo, false)
coalesce(v, i::VARCHAR) | nullif(i, 0) | nullif(v, '') | nullif(d, 0) | ifnull(i, 1) | if(bo, 1, 2) | if(bo, d, 0)
CASE WHEN bo THEN 1 ELSE 2 END | CASE WHEN bo THEN 1 ELSE 2.5 END | CASE WHEN bo THEN 'a' END
CASE WHEN bo THEN i ELSE b END | CASE WHEN bo THEN d ELSE i END | CASE WHEN bo THEN null ELSE v END
CASE WHEN bo THEN s ELSE 1 END | CASE WHEN bo THEN s ELSE 100000 END | CASE WHEN bo THEN d ELSE f END
CASE WHEN bo THEN dt ELSE ts END | CASE i WHEN 1 THEN 'a' ELSE 'b' END | CASE WHEN bo THEN '5' ELSE i END
"""
TEXTS = """
v || v | i || 'x' | upper(v) | lower(v) | trim(v) | length(v) | length(l) | concat(v, i) | concat_ws('-', v, v)
substr(v, 1, 2) | left(v, 2) | right(v, 2) | replace(v, 'a', 'b') | regexp_replace(v, 'a', 'b')
regexp_matches(v, 'a') | split_part(v, ',', 1) | string_split(v, ',') | lpad(v, 3, '0') | instr(v, 'a')
starts_with(v, 'a') | contains(v, 'a') | reverse(v) | repeat(v, 2) | md5(v) | v LIKE 'a%' | v ILIKE 'a%'
v IN ('a', 'b') | v IS NULL | NOT bo | i = 1 | i > 1 AND bo | i BETWEEN 1 AND 2 | bo OR false | v IS DISTINCT FROM v
"""
TIMES = """
dt + 1 | 1 + dt | dt - 1 | dt - dt | dt + INTERVAL 1 DAY | ts + INTERVAL 1 DAY | ts - ts | tz + INTERVAL 1 DAY | tz - tz
year(dt) | month(dt) | day(dt) | hour(ts) | quarter(dt) | week(dt) | dayofweek(dt) | date_part('year', dt)
extract(year FROM dt) | extract(epoch FROM ts) | date_trunc('month', dt) | date_trunc('month', ts)
date_trunc('hour', tz) | date_diff('day', dt, dt) | make_date(2026, 1, 1) | strftime(ts, '%Y') | strptime(v, '%Y')
current_date | now() | last_day(dt) | monthname(dt) | dayname(dt) | ts AT TIME ZONE 'UTC' | tz AT TIME ZONE 'UTC'
ts::DATE | dt::TIMESTAMP | DATE '2026-01-01' | TIMESTAMP '2026-01-01 10:00:00' | INTERVAL 1 DAY
"""
NESTED = """
j->'$.a' | j->>'$.a' | json_extract(j, '$.a') | json_extract_string(j, '$.a') | (j->>'$.a')::DOUBLE | st.name | st.n.x
struct_extract(st, 'name') | st['name'] | l[1] | list_extract(l, 1) | list_contains(l, 1) | [1, 2] | [v] | to_json(st)
typeof(i) | v::JSON | uuid() | random() | i::VARCHAR | v::DATE | try_cast(v AS DECIMAL(12, 4)) | v::DECIMAL(9, 3)
"""
AGGREGATES = """
count(*) | count(i) | count(DISTINCT v) | sum(i) | sum(b) | sum(s) | sum(h) | sum(d) | sum(f) | sum(r) | sum(i * d)
sum(1)
avg(i) | avg(d) | avg(f) | min(v) | max(dt) | max(d) | any_value(v) | any_value(st.name) | first(v ORDER BY i) | last(i)
arg_max(v, i) | string_agg(v, ',') | list(i) | array_agg(v) | array_agg(i ORDER BY i) | stddev(f) | variance(i)
median(i) | median(d) | mode(v) | bool_and(bo) | bool_or(bo) | count(*) FILTER (WHERE bo) | sum(i) FILTER (WHERE bo)
round(avg(d), 2) | count_if(bo) | sum(CASE WHEN bo THEN 1 ELSE 0 END) | coalesce(sum(i), 0) | approx_count_distinct(i)
row_number() OVER (ORDER BY i) | rank() OVER (ORDER BY i) | lag(v) OVER (ORDER BY i) | sum(i) OVER () | max(st)
first_value(v) OVER (ORDER BY i) | ntile(4) OVER (ORDER BY i) | percent_rank() OVER (ORDER BY i)
"""


def expressions(*texts: str) -> list[str]:
    """The expressions of some texts."""
    return [one.strip() for text in texts for line in text.strip().splitlines() for one in line.split(" | ")]


TOLD = expressions(ARITHMETIC, NUMBERS, CHOICES, TEXTS, TIMES, NESTED, AGGREGATES)
MAY_BE_UNKNOWN = expressions(
    "ui + 1 | ui + i | hash(v) | {'a': 1} | i & 1 | l || [1] | trunc(d) | median(dt) | round(d, -1) | i % d"
)


@pytest.fixture(scope="module")
def database() -> duckdb.DuckDBPyConnection:
    """A database with one table that has a column of each type."""
    made = duckdb.connect(config={"threads": 1})
    made.execute(f"CREATE TABLE t ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    return made


def told(expression: str) -> str:
    """The type that is told of an expression over the columns."""

    def column(node: sqlglot.exp.Column) -> Typed:
        first, *rest = [part.name for part in node.parts]
        kind = t.canonical(COLUMNS[first])
        for part in rest:
            kind = t.field(kind, part)
        return Typed(kind)

    return Typer(column).kind(sqlglot.parse_one(expression, dialect=DIALECT))


def actual(database: duckdb.DuckDBPyConnection, expression: str) -> str:
    """The type that DuckDB says it has."""
    row = database.execute(f"DESCRIBE SELECT {expression} AS x FROM t").fetchone()
    assert row is not None
    return t.canonical(str(row[1]))


@pytest.mark.parametrize("expression", TOLD)
def test_the_type_told_is_duckdb_s(database: duckdb.DuckDBPyConnection, expression: str) -> None:
    assert told(expression) == actual(database, expression)


@pytest.mark.parametrize("expression", MAY_BE_UNKNOWN)
def test_a_type_that_is_not_certain_is_unknown_rather_than_wrong(
    database: duckdb.DuckDBPyConnection, expression: str
) -> None:
    assert told(expression) in (UNKNOWN, actual(database, expression))


@pytest.mark.parametrize("expression", TOLD)
def test_sql_keeps_its_type_when_it_is_read_and_written_again(
    database: duckdb.DuckDBPyConnection, expression: str
) -> None:
    again = render(sqlglot.parse_one(expression, dialect=DIALECT))
    assert actual(database, again) == actual(database, expression)


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("text", "VARCHAR"),
        ("varchar(20)", "VARCHAR"),
        ("real", "FLOAT"),
        ("int4", "INT"),
        ("hugeint", "INT128"),
        ("numeric", "DECIMAL(18, 3)"),
        ("decimal(12,2)", "DECIMAL(12, 2)"),
        ("struct(name text, x real)[]", 'STRUCT("name" VARCHAR, "x" FLOAT)[]'),
        ("timestamp with time zone", "TIMESTAMPTZ"),
        ("datetime", "TIMESTAMP"),
        ("no such type", UNKNOWN),
    ],
)
def test_a_type_has_one_spelling(written: str, spelled: str) -> None:
    assert t.canonical(written) == spelled
    if spelled != UNKNOWN:
        assert t.canonical(t.spelled(parse_type(spelled))) == spelled
