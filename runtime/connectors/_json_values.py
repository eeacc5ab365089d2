"""JSON values to Arrow columns without a detour through floats, and which records do not fit their schema."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import NoReturn, TypeAlias
from uuid import UUID

import pyarrow as pa

from models.errors import Invalid
from runtime.batches.types import sql_type

Exact: TypeAlias = "bool | int | float | Decimal | str | list[Exact] | dict[str, Exact] | None"
Record: TypeAlias = dict[str, Exact]
Convert: TypeAlias = Callable[[Exact], object]

LONGEST_SHOWN = 40


class Misfit(ValueError):
    """A value that is not of its column's type; `reason` names both."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that does not fit the schema: its position among its batch, the field and the reason."""

    position: int
    field: str
    reason: str


def exact_loads(text: str | bytes) -> Exact:
    """Parse JSON; a number with a fraction or exponent is a Decimal of the digits written, NaN and infinity refused."""
    parsed: Exact = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    return parsed


def record_of(text: str | bytes, noun: str = "it") -> Record:
    """The object that a text is; raises `Misfit`, which says so of `noun`, where it is none."""
    try:
        value = exact_loads(text)
    except (ValueError, RecursionError) as error:
        raise Misfit(f"{noun} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Misfit(f"{noun} is not an object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def batch_of(records: Sequence[Record], schema: pa.Schema) -> tuple[pa.RecordBatch, list[BadRecord]]:
    """The records that fit as one batch, and those that do not; missing fields are null, unknown ones left out."""
    bad = {one.position: one for field in schema for one in _misfits(records, field)}
    good = [record for at, record in enumerate(records) if at not in bad] if bad else records
    columns = [column_of([record.get(field.name) for record in good], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema), [bad[at] for at in sorted(bad)]


def column_of(values: Sequence[Exact], kind: pa.DataType) -> pa.Array:
    """JSON values as one Arrow column; raises `Misfit` for the first value that is not of that type."""
    convert = converter(kind)
    try:
        converted = [None if value is None else convert(value) for value in values]
        if isinstance(kind, pa.JsonType):
            return pa.ExtensionArray.from_storage(kind, pa.array(converted, pa.string()))
        return pa.array(converted, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise Misfit(str(error)) from None


def _misfits(records: Sequence[Record], field: pa.Field) -> list[BadRecord]:
    values = [record.get(field.name) for record in records]
    try:
        column_of(values, field.type)
        if field.nullable or None not in values:
            return []
    except Misfit:
        pass
    reasons = ((at, _reason(value, field)) for at, value in enumerate(values))
    return [BadRecord(at, field.name, reason) for at, reason in reasons if reason]


def _reason(value: Exact, field: pa.Field) -> str | None:
    if value is None:
        return None if field.nullable else "null where a value is required"
    try:
        column_of([value], field.type)
    except Misfit as misfit:
        return misfit.reason
    return None


def shown(value: Exact, longest: int = LONGEST_SHOWN) -> str:
    """A value as a message shows it: JSON, cut after `longest` letters."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[:longest]}…"


def _misfit(value: Exact, kind: pa.DataType, advice: str = "") -> Misfit:
    return Misfit(f"{shown(value)} is not a {_named(kind)}{advice}")


def _named(kind: pa.DataType) -> str:
    try:
        return sql_type(kind)
    except Invalid:
        return str(kind)


def converter(kind: pa.DataType) -> Convert:
    """The function that turns a non-null JSON value into what Arrow takes for `kind`; it raises `Misfit`."""
    for is_kind, convert in _CONVERTERS:
        if is_kind(kind):
            return convert(kind)
    raise Misfit(f"a column of type {kind} cannot be read from JSON")


def _to_text(kind: pa.DataType) -> Convert:
    def convert(value: Exact) -> str:
        match value:
            case str():
                return value
            case bool():
                return "true" if value else "false"
            case int() | float() | Decimal():
                return str(value)
            case _:
                raise _misfit(value, kind, "; declare the column JSON to keep objects and lists")

    return convert


def _to_boolean(kind: pa.DataType) -> Convert:
    def convert(value: Exact) -> bool:
        if isinstance(value, bool):
            return value
        raise _misfit(value, kind)

    return convert


def _to_integer(kind: pa.DataType) -> Convert:
    def convert(value: Exact) -> int:
        match value:
            case bool():
                raise _misfit(value, kind)
            case int():
                return value
            case float() | Decimal() if value == int(value):
                return int(value)
            case _:
                raise _misfit(value, kind)

    return convert


def _to_float(kind: pa.DataType) -> Convert:
    def convert(value: Exact) -> float:
        match value:
            case bool():
                raise _misfit(value, kind)
            case int() | float() | Decimal():
                return float(value)
            case "NaN" | "Infinity" | "-Infinity":
                return float(value)
            case _:
                raise _misfit(value, kind)

    return convert


def _to_decimal(kind: pa.DataType) -> Convert:
    def convert(value: Exact) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
            raise _misfit(value, kind)
        try:
            return Decimal(str(value))
        except InvalidOperation:
            raise _misfit(value, kind) from None

    return convert


def _from_text(parse: Callable[[str], object]) -> Callable[[pa.DataType], Convert]:
    """A converter of text alone, whose `parse` raises ValueError."""

    def make(kind: pa.DataType) -> Convert:
        def convert(value: Exact) -> object:
            if not isinstance(value, str):
                raise _misfit(value, kind)
            try:
                return parse(value)
            except ValueError:
                raise _misfit(value, kind) from None

        return convert

    return make


def _to_timestamp(kind: pa.DataType) -> Convert:
    parse = _from_text(datetime.fromisoformat)(kind)

    def convert(value: Exact) -> datetime:
        moment = parse(value)
        assert isinstance(moment, datetime)
        if kind.tz and moment.tzinfo is None:
            raise _misfit(value, kind, ": it has no zone; declare the column TIMESTAMP")
        if kind.tz is None and moment.tzinfo is not None:
            raise _misfit(value, kind, ": it has a zone; declare the column TIMESTAMPTZ")
        return moment.astimezone(UTC) if kind.tz else moment

    return convert


def _to_json(kind: pa.DataType) -> Convert:
    return lambda value: json.dumps(value, default=_number, ensure_ascii=False)


def _number(value: object) -> object:
    """A Decimal inside free JSON keeps its value as a float does; a declared DECIMAL column keeps its digits."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _to_list(kind: pa.DataType) -> Convert:
    item = converter(kind.value_type)

    def convert(value: Exact) -> list[object]:
        if not isinstance(value, list):
            raise _misfit(value, kind)
        return [None if one is None else item(one) for one in value]

    return convert


def _to_struct(kind: pa.DataType) -> Convert:
    members = {field.name: converter(field.type) for field in kind}

    def convert(value: Exact) -> dict[str, object]:
        if not isinstance(value, dict):
            raise _misfit(value, kind)
        known = ((name, value.get(name), member) for name, member in members.items())
        return {name: None if one is None else member(one) for name, one, member in known}

    return convert


def _to_map(kind: pa.DataType) -> Convert:
    key, item = converter(kind.key_type), converter(kind.item_type)

    def convert(value: Exact) -> list[tuple[object, object]]:
        match value:
            case dict():
                pairs: list[tuple[Exact, Exact]] = list(value.items())
            case list():
                pairs = [(pair[0], pair[1]) for pair in value if isinstance(pair, list) and len(pair) == 2]
            case _:
                raise _misfit(value, kind)
        return [(key(name), None if one is None else item(one)) for name, one in pairs]

    return convert


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _is_json(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType)


_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Convert]], ...] = (
    (pa.types.is_string, _to_text),
    (pa.types.is_large_string, _to_text),
    (pa.types.is_boolean, _to_boolean),
    (pa.types.is_integer, _to_integer),
    (pa.types.is_floating, _to_float),
    (pa.types.is_decimal, _to_decimal),
    (pa.types.is_date, _from_text(date.fromisoformat)),
    (pa.types.is_time, _from_text(time.fromisoformat)),
    (pa.types.is_timestamp, _to_timestamp),
    (pa.types.is_binary, _from_text(_base64)),
    (_is_json, _to_json),
    (lambda kind: kind == pa.uuid(), _from_text(lambda text: UUID(text).bytes)),
    (pa.types.is_map, _to_map),
    (pa.types.is_list, _to_list),
    (pa.types.is_struct, _to_struct),
)
