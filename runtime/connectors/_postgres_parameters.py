"""SQL with bound values: finds `:name` parameters, has PostgreSQL infer their types, and binds them for COPY.

COPY takes no parameters, so values are bound into settings of the transaction, `set_config('wedsync.p1', $1, true)`,
and the query reads them with `(SELECT current_setting('wedsync.p1')::type)`, once a query. No value is ever pasted.
The cast that follows changes nothing but the grammar: `ANY((SELECT …))` would be a subquery.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import orjson

from models.errors import Invalid, Terminal
from models.fields import Json
from runtime.connectors._postgres_reading import Reading

SETTING = "wedsync.p"

_SPECIAL = re.compile(
    r"""
    (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<text>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")*")
    | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$)
    | (?P<cast>::|:=)
    | (?<![\w\])"']):(?P<parameter>[A-Za-z_]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Bound:
    """A value in a query; `path` says where it was given."""

    value: Json
    path: str


@dataclass(frozen=True, slots=True)
class Query:
    """SQL in pieces: text, and values between them."""

    pieces: tuple[str | Bound, ...]

    def __add__(self, more: "Query | str | Bound") -> "Query":
        return Query(self.pieces + (more.pieces if isinstance(more, Query) else (more,)))

    @property
    def values(self) -> tuple[Bound, ...]:
        """The values in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Bound))

    def render(self, marks: Iterable[str]) -> str:
        """The SQL with one mark in the place of each value."""
        waiting = iter(marks)
        return "".join(piece if isinstance(piece, str) else next(waiting) for piece in self.pieces)


def joined(queries: Iterable[Query], separator: str) -> Query:
    """Queries with a text between them."""
    pieces: list[str | Bound] = []
    for query in queries:
        pieces += [separator, *query.pieces] if pieces else query.pieces
    return Query(tuple(pieces))


def with_parameters(sql: str, parameters: Mapping[str, Json]) -> Query:
    """A query whose `:name` parameters are values.

    Strings, quoted names, comments, dollar quotes, `::` casts, `:=` and array slices are left alone. Raises `Invalid`
    that names a parameter without a value.
    """
    pieces: list[str | Bound] = []
    done = 0
    for start, end, name in _parameters(sql):
        if name not in parameters:
            given = ", ".join(sorted(parameters)) or "none"
            raise Invalid(
                f"the query's parameter :{name} has no value", hint=f"given: {given}", path=f"parameters.{name}"
            )
        pieces += [sql[done:start], Bound(parameters[name], f"parameters.{name}")]
        done = end
    return Query((*pieces, sql[done:]))


def parameter_names(sql: str) -> set[str]:
    """The names of a query's parameters."""
    return {name for _, _, name in _parameters(sql)}


def bind(reading: Reading, query: Query) -> str:
    """Bind a query's values in the transaction; answers SQL that reads them and can stand in a COPY."""
    values = query.values
    if not values:
        return query.render(())
    types = _types(reading, query)
    settings: dict[str, str] = {}
    marks: list[str] = []
    for number, (bound, kind) in enumerate(zip(values, types, strict=True), 1):
        text = _text(bound, kind)
        if text is None:
            marks.append(f"NULL::{kind}")
            continue
        settings[f"{SETTING}{number}"] = text
        marks.append(f"(SELECT current_setting('{SETTING}{number}')::{kind})::{kind}")
    kinds = {f"{SETTING}{number}": kind for number, kind in enumerate(types, 1)}
    try:
        reading.set(settings, kinds)
    except Terminal as error:
        _blame(reading, {f"{SETTING}{number}": bound for number, bound in enumerate(values, 1)}, settings, kinds)
        raise error
    return query.render(marks)


def _blame(
    reading: Reading, values: Mapping[str, Bound], settings: Mapping[str, str], kinds: Mapping[str, str]
) -> None:
    """Raise `Invalid` that names the value which is not of its type."""
    for name, text in settings.items():
        if not reading.takes(text, kinds[name]):
            given, _, key = values[name].path.partition(".")
            what = f"the query's parameter :{key}" if given == "parameters" else f"the value of {values[name].path}"
            hint = f"give a value of the type {kinds[name]}, or cast it in the query"
            raise Invalid(f"{what} is not of the type {kinds[name]}", hint=hint, path=values[name].path)


def _parameters(sql: str) -> Iterator[tuple[int, int, str]]:
    at = 0
    while found := _SPECIAL.search(sql, at):
        at = _end_of_block(sql, found.end()) if found["block"] else found.end()
        if found["parameter"]:
            yield found.start(), found.end(), found["parameter"]


def _end_of_block(sql: str, at: int) -> int:
    """Where a block comment ends; they nest."""
    depth = 1
    while depth and (edge := _BLOCK_EDGE.search(sql, at)):
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return len(sql) if depth else at


def _types(reading: Reading, query: Query) -> list[str]:
    """The types that PostgreSQL infers for the values, from where they stand."""
    sql = query.render(f"${number}" for number in range(1, len(query.values) + 1))
    reading.answer(f"PREPARE wedsync_query AS {sql}")
    ((types,),) = reading.answer(
        "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'wedsync_query'"
    )
    reading.answer("DEALLOCATE wedsync_query")
    return [str(kind) for kind in types] if isinstance(types, list) else []


def _text(bound: Bound, kind: str) -> str | None:
    """A value as PostgreSQL reads the type; raises `Invalid` where the value cannot be one."""
    value = bound.value
    if value is None:
        return None
    if kind.removesuffix("[]") in ("json", "jsonb") and not isinstance(value, str) and not kind.endswith("[]"):
        return orjson.dumps(value).decode()
    if isinstance(value, list) and kind.endswith("[]"):
        return "{" + ",".join(_element(one, bound.path) for one in value) + "}"
    if isinstance(value, list | dict):
        hint = "write `column = ANY(:name)` for a list; only json takes objects"
        raise Invalid(f"this value cannot be a {kind}", hint=hint, path=bound.path)
    text = _scalar(value)
    if "\x00" in text:
        raise Invalid("PostgreSQL's text holds no NUL character", hint="remove it", path=bound.path)
    return text


def _element(value: Json, path: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list | dict):
        raise Invalid("a list that is bound holds only scalars", hint="flatten it", path=path)
    escaped = _scalar(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _scalar(value: str | bool | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
