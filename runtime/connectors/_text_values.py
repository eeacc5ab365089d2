"""Text to typed Arrow columns and back: the types of CSV columns, told by a sample, and the values that do not fit."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from runtime.batches.types import sql_type
from runtime.connectors._json_values import Misfit, column_of, exact_loads

R = TypeVar("R")

Cast: TypeAlias = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True, slots=True)
class TextFormats:
    """How dates and timestamps are written where not as ISO 8601: `strptime` formats, tried in order."""

    dates: Sequence[str] = ()
    timestamps: Sequence[str] = ()


ISO = TextFormats()


def cast_text(values: pa.Array, kind: pa.DataType, formats: TextFormats = ISO) -> tuple[pa.Array, list[int]]:
    """A string array as `kind`, and the positions of values that are none; those come out null.

    Empty text is null for every type but text and bytes. Numbers that lose digits in `kind` do not fit.
    """
    if pa.types.is_string(kind):
        return values, []
    if pa.types.is_binary(kind):
        return _cast_or_halve(values, kind, _casts(kind, formats))
    trimmed = pc.utf8_trim_whitespace(values)
    known = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)
    return _cast_or_halve(known, kind, _casts(kind, formats))


def typed_text(
    raw: pa.RecordBatch, stored: pa.Schema, encoding: str = "utf-8", formats: TextFormats = ISO
) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
    """Columns of bytes in the types of `stored`, and the positions of rows that do not fit, each with the first reason.

    A column that `raw` does not have is null. The batch has all rows; where some do not fit, all its columns are
    nullable.
    """
    columns: list[pa.Array] = []
    bad: dict[int, str] = {}
    for field in stored:
        if field.name not in raw.schema.names:
            columns.append(pa.nulls(raw.num_rows, field.type))
            continue
        texts, undecoded = decode_text(raw.column(field.name))
        values, unfit = cast_text(texts, field.type, formats)
        columns.append(values)
        for at in undecoded:
            bad.setdefault(at, f"column {field.name} is not {encoding}")
        for at in unfit:
            bad.setdefault(at, f"column {field.name}: {_cut(texts[at].as_py())!r} is not a {sql_type(field.type)}")
        if not field.nullable and values.null_count > len(undecoded) + len(unfit):
            for at in pc.indices_nonzero(values.is_null()).to_pylist():
                bad.setdefault(at, f"column {field.name} has no value, and needs one")
    nullable = pa.schema([field.with_nullable(True) for field in stored])
    return pa.RecordBatch.from_arrays(columns, schema=nullable if bad else stored), sorted(bad.items())


def without(batch: pa.RecordBatch, positions: Sequence[int]) -> pa.RecordBatch:
    """The batch less the rows at these positions."""
    kept = pc.invert(pc.is_in(pa.array(range(batch.num_rows)), pa.array(positions)))
    return batch.filter(kept)


def _cut(text: str) -> str:
    """Text as a message shows it, cut to forty characters."""
    return text if len(text) <= 40 else f"{text[:40]}…"


def decode_text(values: pa.Array) -> tuple[pa.Array, list[int]]:
    """A binary array as text, and the positions of values that are no UTF-8; those come out null."""
    return _cast_or_halve(values, pa.string(), [lambda some: pc.cast(some, pa.string())])


def _cast_or_halve(values: pa.Array, kind: pa.DataType, casts: Sequence[Cast]) -> tuple[pa.Array, list[int]]:
    """Cast all at once; where that fails halve, until the values that fail are alone."""
    for cast in casts:
        try:
            return cast(values), []
        except (pa.ArrowInvalid, ValueError, Misfit):
            continue
    if len(values) == 1:
        return pa.nulls(1, kind), [0]
    middle = len(values) // 2
    left, left_bad = _cast_or_halve(values.slice(0, middle), kind, casts)
    right, right_bad = _cast_or_halve(values.slice(middle), kind, casts)
    return pa.concat_arrays([left, right]), left_bad + [middle + at for at in right_bad]


def _casts(kind: pa.DataType, formats: TextFormats) -> list[Cast]:
    if pa.types.is_date(kind) and formats.dates:
        return [_strptime(form, kind) for form in formats.dates]
    if pa.types.is_timestamp(kind) and formats.timestamps:
        return [_strptime(form, kind) for form in formats.timestamps]
    if pa.types.is_time(kind):
        return [lambda values: _times(values, kind)]
    if pa.types.is_nested(kind):
        return [lambda values: column_of([_each(text, exact_loads) for text in values.to_pylist()], kind)]
    if pa.types.is_binary(kind):
        return [lambda values: pa.array([_each(text, _base64) for text in values.to_pylist()], kind)]
    if kind == pa.uuid():
        return [lambda values: pa.array([_each(text, lambda t: UUID(t).bytes) for text in values.to_pylist()], kind)]
    if isinstance(kind, pa.JsonType):
        return [lambda values: _json(values, kind)]
    return [lambda values: pc.cast(values, kind)]


def _strptime(form: str, kind: pa.DataType) -> Cast:
    unit = kind.unit if pa.types.is_timestamp(kind) else "s"

    def cast(values: pa.Array) -> pa.Array:
        moments = pc.strptime(values, form, unit)
        if pa.types.is_timestamp(kind) and kind.tz and moments.type.tz is None:
            moments = pc.assume_timezone(moments, "UTC")
        return moments.cast(kind)

    return cast


def _times(values: pa.Array, kind: pa.DataType) -> pa.Array:
    day = pc.binary_join_element_wise("1970-01-01", values, "T")
    return pc.cast(pc.cast(day, pa.timestamp(kind.unit)), kind)


def _json(values: pa.Array, kind: pa.DataType) -> pa.Array:
    for text in values.to_pylist():
        if text is not None:
            exact_loads(text)
    return pa.ExtensionArray.from_storage(kind, values)


def _each(text: str | None, convert: Callable[[str], R]) -> R | None:
    return None if text is None else convert(text)


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def text_of(values: pa.Array) -> pa.Array:
    """A column as CSV holds it: numbers, moments and text as they are; nested values as JSON text, bytes as base64."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return text_of(values.dictionary_decode())
    if kind == pa.uuid():
        return pa.array([None if one is None else str(one) for one in values.to_pylist()], pa.string())
    if isinstance(kind, pa.JsonType):
        return values.storage
    if pa.types.is_nested(kind):
        return pa.array([None if one is None else _dumped(one) for one in values.to_pylist()], pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        encoded = [None if one is None else base64.b64encode(one).decode() for one in values.to_pylist()]
        return pa.array(encoded, pa.string())
    if pa.types.is_null(kind):
        return values.cast(pa.string())
    return values


def _dumped(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?")
_ZONED = re.compile(_MOMENT.pattern + r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)")
_BOOLEANS = {"true", "false", "True", "False", "TRUE", "FALSE"}

_SHAPES: tuple[tuple[pa.DataType, Callable[[str], object]], ...] = (
    (pa.bool_(), _BOOLEANS.__contains__),
    (pa.int64(), _INTEGER.fullmatch),
    (pa.float64(), _NUMBER.fullmatch),
    (pa.date32(), _DATE.fullmatch),
    (pa.timestamp("us"), _MOMENT.fullmatch),
    (pa.timestamp("us", "UTC"), _ZONED.fullmatch),
)


def infer_type(texts: Sequence[str]) -> pa.DataType:
    """The narrowest type that all texts are written as: boolean, BIGINT, DOUBLE, DATE, TIMESTAMP(TZ), else text.

    Numbers with leading zeros or a plus (postcodes, phone numbers) and integers past 64 bits stay text, so that no
    digit is lost. No texts at all are text.
    """
    distinct = set(texts)
    for kind, is_written in _SHAPES:
        if distinct and all(map(is_written, distinct)):
            _, bad = cast_text(pa.array(sorted(distinct), pa.string()), kind)
            if not bad and not (kind == pa.float64() and _loses_digits(distinct)):
                return kind
    return pa.string()


def _loses_digits(texts: set[str]) -> bool:
    return any(_INTEGER.fullmatch(text) and abs(int(text)) >= 2**53 and int(float(text)) != int(text) for text in texts)
