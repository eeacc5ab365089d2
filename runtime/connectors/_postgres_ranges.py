"""Ranges of a column: the parts of a divided read, and the end of an incremental one."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import inf, isfinite, nextafter

import pyarrow as pa

from models.errors import Terminal
from runtime.connectors._contract import ReadRequest, Split
from runtime.connectors._postgres_columns import driver_type, output_column
from runtime.connectors._postgres_names import quoted, table_name
from runtime.connectors._postgres_parameters import Query, bind
from runtime.connectors._postgres_reading import Reading
from runtime.connectors._postgres_select import rows_of
from runtime.connectors._selection import before_all

_STEPS = {
    "int2": "least + (most - least)::numeric * part / {count}",
    "int4": "least + (most - least)::numeric * part / {count}",
    "int8": "least + (most::numeric - least) * part / {count}",
    "numeric": "least + (most - least) * part / {count}",
    "float4": "least + (most / {count} - least / {count}) * part",
    "float8": "least + (most / {count} - least / {count}) * part",
    "date": "least + ((most - least) * part / {count})",
    "timestamp": "least + (most - least) * (part::float8 / {count})",
    "timestamptz": "least + (most - least) * (part::float8 / {count})",
}
_WHOLE = {"int2", "int4", "int8"}
_CLOCKED = {"timestamptz", "date"}


def split_range(reading: Reading, request: ReadRequest, column: str, count: int) -> list[Split]:
    """At most `count` ranges of a column that together hold every row once; the first holds the nulls.

    They are cut where the statistics of the table divide its rows evenly, else evenly between the least and the
    greatest value. Each range is read in a snapshot of its own, so rows that move between ranges meanwhile may be
    missed or read twice: divide by a column that does not change, such as the primary key.
    """
    rows = rows_of(request, reading.config)
    kind = _type_of(reading, rows, column)
    if kind not in _STEPS:
        return [Split(0)]
    cuts = _histogram(reading, request, column, count) or _even(reading, rows, column, kind, count)
    if not cuts:
        return [Split(0)]
    edges = [None, *cuts, None]
    return [
        Split(index, {"column": column, "lower": lower, "upper": upper})
        for index, (lower, upper) in enumerate(pairwise(edges))
    ]


def watermark(reading: Reading, request: ReadRequest, column: str | None) -> str:
    """The upper end of the next incremental range.

    Without a column, or with one of dates or moments with a zone, it is the server's clock, less the age of the
    oldest transaction that is still writing there: what it commits later stays ahead of the range. For other types
    it is the least value above the column's greatest.
    """
    rows = rows_of(ReadRequest(request.dataset, request.query, request.filters, request.parameters), reading.config)
    kind = _type_of(reading, rows, column) if column is not None else "timestamptz"
    if column is None or kind in _CLOCKED:
        return _clock(reading, kind)
    field = reading.describe(bind(reading, Query((f"SELECT {quoted(column)} FROM (",)) + rows + ") AS source"))[0]
    arrow = output_column(field, reading.config.special_values).type
    greatest = f"SELECT max({quoted(column)})::text FROM ("
    ((most,),) = reading.answer(bind(reading, Query((greatest,)) + rows + ") AS source"))
    return before_all(arrow) if most is None else _after(str(most), arrow, column)


def _clock(reading: Reading, kind: str) -> str:
    ((moment,),) = reading.answer(
        "SELECT least(clock_timestamp(), (SELECT min(xact_start) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_xid IS NOT NULL))"
    )
    assert isinstance(moment, datetime)
    return moment.date().isoformat() if kind == "date" else moment.isoformat()


def _after(text: str, kind: pa.DataType, column: str) -> str:
    """The least text of a type that is greater than a value's."""
    if pa.types.is_integer(kind):
        return str(int(text) + 1)
    if pa.types.is_decimal(kind):
        return str(Decimal(text) + Decimal(1).scaleb(-kind.scale))
    if pa.types.is_floating(kind) and isfinite(float(text)):
        return repr(nextafter(float(text), inf))
    if pa.types.is_timestamp(kind):
        return (datetime.fromisoformat(text) + timedelta(microseconds=1)).isoformat()
    if pa.types.is_date(kind):
        return (date.fromisoformat(text) + timedelta(days=1)).isoformat()
    if pa.types.is_string(kind):
        return text + "\x01"
    raise Terminal(
        f"column {column} has no order to read incrementally by",
        hint="choose a cursor column of numbers, text, dates or timestamps",
        code="bad_cursor",
    )


def _type_of(reading: Reading, rows: Query, column: str) -> str:
    probe = bind(reading, Query((f"SELECT {quoted(column)} FROM (",)) + rows + ") AS source")
    return driver_type(reading.describe(probe).field(0))


def _histogram(reading: Reading, request: ReadRequest, column: str, count: int) -> list[str]:
    """Cuts at quantiles, from the statistics that ANALYZE keeps; none for a query or a table never analyzed."""
    if request.dataset is None or request.query is not None:
        return []
    table = table_name(request.dataset, reading.config.schema_name)
    found = reading.answer(
        "SELECT histogram_bounds::text::text[] FROM pg_stats"
        " WHERE schemaname = $1 AND tablename = $2 AND attname = $3 AND histogram_bounds IS NOT NULL",
        table.schema,
        table.name,
        column,
    )
    bounds = found[0][0] if found else None
    if not isinstance(bounds, list) or len(bounds) <= count:
        return []
    places = [round(part * (len(bounds) - 1) / count) for part in range(1, count)]
    return list(dict.fromkeys(str(bounds[place]) for place in places))


def _even(reading: Reading, rows: Query, column: str, kind: str, count: int) -> list[str]:
    """Cuts at even distances between the least and the greatest value; none where they cannot be told."""
    step = _STEPS[kind].format(count=count)
    value = f"trunc({step})::{kind}" if kind in _WHOLE else f"({step})::{kind}"
    name = quoted(column)
    ends = Query((f"SELECT min({name}) AS least, max({name}) AS most FROM (",)) + rows + ") AS source"
    sql = (
        Query((f"SELECT DISTINCT {value} AS cut FROM (",))
        + ends
        + f") AS ends, generate_series(1, {count - 1}) AS part WHERE least < most AND {_finite(kind)}"
    )
    return [
        str(cut) for (cut,) in reading.answer(f"SELECT cut::text FROM ({bind(reading, sql)}) AS cuts ORDER BY cuts.cut")
    ]


def _finite(kind: str) -> str:
    if kind in ("date", "timestamp", "timestamptz"):
        return "isfinite(least) AND isfinite(most)"
    if kind in ("float4", "float8", "numeric"):
        return f"most < 'Infinity'::{kind} AND least > '-Infinity'::{kind}"
    return "true"
