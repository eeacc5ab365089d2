"""Filters, cursor ranges and row limits on Arrow batches, for sources that have no query language of their own."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import inf, nextafter
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import Invalid, Terminal
from models.fields import Json
from runtime.connectors._contract import CursorRange, ReadRequest
from runtime.connectors._json_values import Exact, Misfit, column_of
from runtime.connectors._text_values import cast_text

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
AFTER = "\x01"


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison that a row must meet; `value` is an Arrow scalar, or an array for `in`."""

    column: str
    operator: str
    value: pa.Scalar | pa.Array

    @property
    def expression(self) -> pc.Expression:
        """The comparison as Arrow computes it; as in SQL, a null meets only `=` null."""
        column = pc.field(self.column)
        if self.operator == "in":
            return pc.is_in(column, self.value)
        if not self.value.is_valid:
            return column.is_null() if self.operator == "=" else column.is_valid()
        return {
            "=": column == self.value,
            "!=": column != self.value,
            "<": column < self.value,
            "<=": column <= self.value,
            ">": column > self.value,
            ">=": column >= self.value,
        }[self.operator]


def conditions(schema: pa.Schema, request: ReadRequest) -> list[Condition]:
    """The request's filters and cursor range, typed by the schema.

    Raises `Invalid` whose path is `filters.<column>` for a column or operator that is not there, or a value of
    another type.
    """
    found: list[Condition] = []
    for name, wanted in request.filters.items():
        kind = _type_of(schema, name, f"filters.{name}")
        tests = wanted if isinstance(wanted, dict) else {"in" if isinstance(wanted, list) else "=": wanted}
        found += [_condition(name, kind, operator, value) for operator, value in tests.items()]
    if request.cursor is not None and request.cursor.column is not None:
        found += _range(schema, request.cursor, request.cursor.column)
    return found


def select(batches: Iterable[pa.RecordBatch], schema: pa.Schema, request: ReadRequest) -> pa.RecordBatchReader:
    """The rows that meet the request, in batches of at most `batch_rows`, until `limit` is reached."""
    met = conjunction(conditions(schema, request))

    def rows() -> Iterator[pa.RecordBatch]:
        left = request.limit
        if left == 0:
            return
        for batch in batches:
            for piece in slices(batch if met is None else batch.filter(met), request.batch_rows):
                chosen = piece if left is None else piece.slice(0, left)
                yield chosen
                if left is not None:
                    left -= chosen.num_rows
                    if left == 0:
                        return

    return pa.RecordBatchReader.from_batches(schema, rows())


def conjunction(tests: Sequence[Condition]) -> pc.Expression | None:
    """All comparisons as one expression; None where there are none."""
    met: pc.Expression | None = None
    for test in tests:
        met = test.expression if met is None else met & test.expression
    return met


def slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """The batch in non-empty pieces of at most `rows` rows."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def greatest(batches: Iterable[pa.RecordBatch], column: str) -> pa.Scalar | None:
    """The greatest value of a column; None where every value is null."""
    found: pa.Scalar | None = None
    for batch in batches:
        most = _greatest_of(batch.column(column))
        if most.is_valid and (found is None or most.as_py() > found.as_py()):
            found = most
    return found


def after(value: pa.Scalar) -> str:
    """The least text of the value's type that is greater, so that the half-open range up to it includes the value."""
    known = value.as_py()
    match known:
        case bool():
            raise _unordered(value.type)
        case int():
            return str(known + 1)
        case Decimal():
            return str(known + Decimal(1).scaleb(-value.type.scale))
        case float():
            return repr(nextafter(known, inf))
        case datetime():
            return (known + timedelta(microseconds=1)).isoformat()
        case date():
            return (known + timedelta(days=1)).isoformat()
        case str():
            return known + AFTER
        case _:
            raise _unordered(value.type)


def before_all(kind: pa.DataType) -> str:
    """Text that no value of the type is less than: the end of a range over no rows."""
    if pa.types.is_unsigned_integer(kind):
        return "0"
    if pa.types.is_integer(kind):
        return str(-(2 ** (kind.bit_width - 1)))
    if pa.types.is_floating(kind):
        return repr(-1.7976931348623157e308)
    if pa.types.is_decimal(kind):
        return str(-(Decimal(10) ** (kind.precision - kind.scale) - 1))
    if pa.types.is_timestamp(kind):
        return datetime(1, 1, 1, tzinfo=UTC if kind.tz else None).isoformat()
    if pa.types.is_date(kind):
        return date(1, 1, 1).isoformat()
    if pa.types.is_string(kind):
        return ""
    raise _unordered(kind)


def _greatest_of(values: pa.Array) -> pa.Scalar:
    try:
        return pc.max(values)
    except pa.ArrowNotImplementedError:
        raise _unordered(values.type) from None


def _unordered(kind: pa.DataType) -> Terminal:
    return Terminal(
        f"a column of type {kind} has no order to read incrementally by",
        hint="choose a cursor column of numbers, text, dates or timestamps",
        code="bad_cursor",
    )


def _range(schema: pa.Schema, cursor: CursorRange, column: str) -> list[Condition]:
    kind = _type_of(schema, column, "cursor.column")
    ends = [("<", cursor.upper)] if cursor.lower is None else [(">=", cursor.lower), ("<", cursor.upper)]
    return [Condition(column, operator, _from_text(text, kind)) for operator, text in ends]


def _from_text(text: str, kind: pa.DataType) -> pa.Scalar:
    """A value from its text; a moment without a zone is taken as UTC's, one with a zone is brought to UTC."""
    if pa.types.is_timestamp(kind):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Invalid(f"{text!r} is not a timestamp", hint="write it as ISO 8601", path="cursor") from None
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        return pa.scalar(moment if kind.tz else moment.replace(tzinfo=None), kind)
    values, bad = cast_text(pa.array([text]), kind)
    if bad:
        raise Invalid(f"{text!r} is not a {kind}", hint="give a value of the cursor column's type", path="cursor")
    return values[0]


def _type_of(schema: pa.Schema, name: str, path: str) -> pa.DataType:
    if name not in schema.names:
        raise Invalid(f"there is no column {name!r}", hint=f"columns: {', '.join(schema.names)}", path=path)
    return schema.field(name).type


def _condition(name: str, kind: pa.DataType, operator: str, value: Json) -> Condition:
    path = f"filters.{name}"
    if operator not in OPERATORS:
        raise Invalid(f"the operator {operator!r} is not known", hint=f"allowed: {', '.join(OPERATORS)}", path=path)
    if (operator == "in") != isinstance(value, list):
        raise Invalid("`in` takes a list, and only `in` does", hint='write {"in": [1, 2]}', path=path)
    listed = cast(list[Json], value) if operator == "in" else [value]
    if value is None and operator not in ("=", "!="):
        raise Invalid(f"null cannot be compared with {operator}", hint="use = or !=", path=path)
    try:
        typed = column_of([cast(Exact, _zoned(one, kind)) for one in listed], kind)
    except Misfit as misfit:
        raise Invalid(misfit.reason, hint="give a value of the column's type", path=path) from None
    return Condition(name, operator, typed if operator == "in" else typed[0])


def _zoned(value: Json, kind: pa.DataType) -> Json:
    if isinstance(value, str) and pa.types.is_timestamp(kind):
        try:
            return cast(str, _from_text(value, kind).as_py().isoformat())
        except Invalid:
            return value
    return value
