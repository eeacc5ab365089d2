"""The query that a read sends: the table or the person's SQL, wrapped in filters, ranges, casts and a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from models.errors import Invalid, Terminal
from models.fields import Json
from runtime.connectors._contract import ReadRequest, Split
from runtime.connectors._postgres_columns import OutputColumn, output_column
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_names import quoted, table_name
from runtime.connectors._postgres_parameters import Bound, Query, bind, joined, with_parameters
from runtime.connectors._postgres_reading import Reading

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "in")


@dataclass(frozen=True, slots=True)
class Selection:
    """A read, ready to run in the transaction that it was bound in; `source` is its rows before any cast."""

    sql: str
    source: str
    columns: tuple[OutputColumn, ...]

    @property
    def schema(self) -> pa.Schema:
        """What the read delivers."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])


def rows_of(request: ReadRequest, config: PostgresConfig, split: Split | None = None) -> Query:
    """The rows that a request asks for, uncast and unlimited."""
    source = _source(request, config)
    conditions = [*_filters(request.filters), *_range(request), *_part(split)]
    if not conditions:
        return source
    return Query(("SELECT * FROM (",)) + source + ") AS source WHERE " + joined(conditions, " AND ")


def select(reading: Reading, request: ReadRequest, split: Split | None = None) -> Selection:
    """Bind a request in a transaction and find how each of its columns is read."""
    source = bind(reading, rows_of(request, reading.config, split))
    columns = tuple(output_column(field, reading.config.special_values) for field in reading.describe(source))
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        hint = "give each column of the query a name of its own with AS"
        raise Terminal(f"the query has several columns called {', '.join(twice)}", hint=hint, code="bad_sql")
    listed = ", ".join(f"{column.expression} AS {quoted(column.name)}" for column in columns)
    limit = f" LIMIT {request.limit}" if request.limit is not None else ""
    return Selection(f"SELECT {listed} FROM (\n{source}\n) AS source{limit}", source, columns)


def _source(request: ReadRequest, config: PostgresConfig) -> Query:
    if request.query is not None:
        parameters = dict(request.parameters)
        if request.cursor is not None and request.cursor.lower is not None:
            parameters.setdefault("last_run", request.cursor.lower)
        sql = request.query.strip().rstrip(";")
        return Query(("SELECT * FROM (\n",)) + with_parameters(sql, parameters) + "\n) AS source"
    if request.dataset is None:
        raise Invalid("an extract from PostgreSQL needs `query` or `dataset`", hint="name a table", path="dataset")
    return Query((f"SELECT * FROM {table_name(request.dataset, config.schema_name).sql}",))


def _filters(filters: Mapping[str, Json]) -> list[Query]:
    found = []
    for name, wanted in filters.items():
        tests = wanted if isinstance(wanted, dict) else {"in" if isinstance(wanted, list) else "=": wanted}
        found += [_condition(name, operator, value) for operator, value in tests.items()]
    return found


def _condition(name: str, operator: str, value: Json) -> Query:
    path, column = f"filters.{name}", f"source.{quoted(name)}"
    if operator not in COMPARISONS:
        allowed = ", ".join(COMPARISONS)
        raise Invalid(f"the operator {operator!r} is not known", hint=f"allowed: {allowed}", path=path)
    if (operator == "in") != isinstance(value, list):
        raise Invalid("`in` takes a list, and only `in` does", hint='write {"in": [1, 2]}', path=path)
    if isinstance(value, list):
        known: list[Json] = [one for one in value if one is not None]
        chosen = Query((f"{column} = ANY(", Bound(known, path), ")"))
        return chosen if len(known) == len(value) else Query(("(",)) + chosen + f" OR {column} IS NULL)"
    if value is None:
        if operator not in ("=", "!="):
            raise Invalid(f"null cannot be compared with {operator}", hint="use = or !=", path=path)
        return Query((f"{column} IS {'NOT ' if operator == '!=' else ''}NULL",))
    return Query((f"{column} {'<>' if operator == '!=' else operator} ", Bound(value, path)))


def _range(request: ReadRequest) -> list[Query]:
    cursor = request.cursor
    if cursor is None or cursor.column is None:
        return []
    column = f"source.{quoted(cursor.column)}"
    upper = Query((f"{column} < ", Bound(cursor.upper, "cursor.upper")))
    if cursor.lower is None:
        return [upper]
    return [Query((f"{column} >= ", Bound(cursor.lower, "cursor.lower"))), upper]


def _part(split: Split | None) -> list[Query]:
    """The range of a split: open below in the first, which takes the nulls too, and open above in the last."""
    if split is None or not isinstance(split.token, dict):
        return []
    column = f"source.{quoted(str(split.token['column']))}"
    lower, upper = split.token["lower"], split.token["upper"]
    conditions = []
    if lower is not None:
        conditions.append(Query((f"{column} >= ", Bound(lower, "partition"))))
    if upper is not None:
        below = Query((f"{column} < ", Bound(upper, "partition")))
        conditions.append(below if lower is not None else Query(("(",)) + below + f" OR {column} IS NULL)")
    return conditions


def scaled_columns(columns: Sequence[OutputColumn]) -> list[str]:
    """The columns that a NaN would break inside the server."""
    return [column.name for column in columns if column.is_scaled]
