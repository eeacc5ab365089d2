"""How each PostgreSQL type is read: the expression that is selected, the Arrow type it becomes, and what is refused.

| PostgreSQL | Arrow |
|---|---|
| numeric(p, s), p <= 18 | decimal128(p, s), sent as a scaled bigint (its text would cost three times as much) |
| numeric(p, s), p <= 38 | decimal128(p, s) |
| numeric without precision | decimal128(38, 9); more digits after the point are refused, not rounded |
| numeric(p, s), p > 38 | string |
| composite types | JSON |
| enum, ranges, network, geometric, text search, bit, time with time zone and unknown types | string |
| arrays | lists; two dimensions are refused |
| NaN in a numeric, infinite or BC moments, 24:00 | refused, or null with `special_values: null` |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import Terminal
from runtime.connectors._postgres_config import SpecialValues
from runtime.connectors._postgres_names import literal, quoted

Convert: TypeAlias = Callable[[pa.Array], pa.Array]

MULTIDIMENSIONAL: Final = "wedsync: more than one dimension in column "
UNBOUNDED: Final = pa.decimal128(38, 9)
JSON: Final = pa.json_(pa.string())

_DAY = 86_400_000_000
_LIMITS: Final[Mapping[str, tuple[int, int]]] = {
    "timestamp": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "timestamptz": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "date": (-719_162, 2_932_896),
    "time": (0, _DAY - 1),
}


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """A column of a read: what is selected for it, the Arrow field it becomes, and how a batch's values are made so."""

    name: str
    expression: str
    type: pa.DataType
    convert: Convert
    is_scaled: bool = False


def output_column(field: pa.Field, special: SpecialValues) -> OutputColumn:
    """How a column that the driver described is read."""
    name, kind = field.name, driver_type(field)
    column = quoted(name)
    if kind == "numeric":
        return _numeric(name, _typmod(field), special)
    if kind == "money":
        return OutputColumn(name, f"{column}::numeric(19, 2)", pa.decimal128(19, 2), _decimals(name, 19, 2, special))
    if kind == "oid":
        return OutputColumn(name, f"{column}::int8", pa.int64(), _same)
    if pa.types.is_struct(field.type) or _is_list_of(field.type, pa.types.is_struct):
        return OutputColumn(name, f"to_jsonb({column})", JSON, _same)
    if pa.types.is_list(field.type):
        return _array(name, kind, field.type, special)
    if _is_opaque(field.type):
        return OutputColumn(name, f"{column}::text", pa.string(), _same)
    if kind in _LIMITS:
        return OutputColumn(name, column, field.type, _limited(name, kind, special))
    return OutputColumn(name, column, field.type, _same)


def numeric_type(typmod: int) -> pa.DataType:
    """The Arrow type of a numeric with this modifier: decimal128, or string past 38 digits."""
    if typmod < 4:
        return UNBOUNDED
    precision, scale = ((typmod - 4) >> 16) & 0xFFFF, (((typmod - 4) & 0x7FF) ^ 1024) - 1024
    precision, scale = (precision - scale, 0) if scale < 0 else (max(precision, scale), scale)
    return pa.decimal128(precision, scale) if precision <= 38 else pa.string()


def _numeric(name: str, typmod: int, special: SpecialValues) -> OutputColumn:
    kind, column = numeric_type(typmod), quoted(name)
    if pa.types.is_string(kind):
        return OutputColumn(name, f"{column}::text", kind, _same)
    if typmod < 4 or kind.precision > 18:
        return OutputColumn(name, column, kind, _decimals(name, kind.precision, kind.scale, special))
    value = f"nullif({column}, 'NaN')" if special is SpecialValues.NULL else column
    scaled = f"({value} * {10**kind.scale})::int8" if kind.scale else f"{value}::int8"
    return OutputColumn(name, scaled, kind, _unscaled(kind), is_scaled=True)


def _array(name: str, kind: str, arrow: pa.DataType, special: SpecialValues) -> OutputColumn:
    item, column = arrow.value_type, quoted(name)
    element = kind.removeprefix("_")
    convert: Convert = _same
    if element == "numeric":
        item, convert = UNBOUNDED, _decimals(name, 38, 9, special)
    elif element == "money":
        column, kind, item, convert = f"{column}::numeric[]", "_numeric", UNBOUNDED, _decimals(name, 38, 9, special)
    elif element == "oid":
        column, kind, item = f"{column}::int8[]", "_int8", pa.int64()
    elif _is_opaque(item):
        column, kind, item = f"{column}::text[]", "_text", pa.string()
    elif element in _LIMITS:
        convert = _limited(name, element, special)
    note = literal(f"{MULTIDIMENSIONAL}{name}: ")
    checked = f"CASE WHEN array_ndims({column}) > 1 THEN ({note} || {column}::text)::{quoted(kind)} ELSE {column} END"
    return OutputColumn(name, checked, pa.list_(item), _items(convert))


def _same(values: pa.Array) -> pa.Array:
    return values


def _items(convert: Convert) -> Convert:
    """The same conversion for the items of lists."""
    if convert is _same:
        return _same

    def run(values: pa.Array) -> pa.Array:
        mask = values.is_null() if values.null_count else None
        return pa.ListArray.from_arrays(values.offsets, convert(values.values), mask=mask)

    return run


def _unscaled(kind: pa.DataType) -> Convert:
    """Scaled integers as decimals: the digits are the same, only the point moves."""

    def run(values: pa.Array) -> pa.Array:
        wide = values.cast(pa.decimal128(19, 0))
        return pa.Array.from_buffers(kind, len(wide), wide.buffers(), wide.null_count, wide.offset)

    return run


def _decimals(name: str, precision: int, scale: int, special: SpecialValues) -> Convert:
    kind = pa.decimal128(precision, scale)

    def run(values: pa.Array) -> pa.Array:
        texts = values.storage if isinstance(values, pa.ExtensionArray) else values
        if special is SpecialValues.NULL:
            texts = pc.if_else(pc.match_substring_regex(texts, "[A-Za-z]"), pa.scalar(None, pa.string()), texts)
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            sample = _first_unfit(texts, kind)
        if sample in ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"):
            raise _special(name, sample)
        raise Terminal(
            f"column {name}: {sample} does not fit into DECIMAL({precision}, {scale})",
            hint=f"cast it in the query, for instance {quoted(name)}::numeric(38, 10)",
            code="overflow",
        )

    return run


def _first_unfit(texts: pa.Array, kind: pa.DataType) -> str:
    low, high = 0, len(texts)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            texts.slice(low, middle - low).cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return str(texts[low].as_py())


def _limited(name: str, kind: str, special: SpecialValues) -> Convert:
    """Refuse moments that the driver gives as garbage (infinity) or that Python and DuckDB's clients cannot show."""
    low, high = _LIMITS[kind]

    def run(values: pa.Array) -> pa.Array:
        numbers = values.view(pa.int32() if kind == "date" else pa.int64())
        least, most = (scalar.as_py() for scalar in pc.min_max(numbers).values())
        if least is None or (least >= low and most <= high):
            return values
        if special is SpecialValues.REFUSE:
            raise _special(name, "24:00" if kind == "time" else "infinity, or a year outside 1 to 9999")
        within = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
        return pc.if_else(within, values, pa.scalar(None, values.type))

    return run


def _special(name: str, sample: str) -> Terminal:
    return special_value(f"column {name}", sample)


def special_value(place: str, sample: str) -> Terminal:
    """A value that has no place in Arrow's type of its column."""
    return Terminal(
        f"{place} holds {sample}, which cannot be kept",
        hint="replace it in the query, for instance nullif(column, 'NaN') or nullif(column, 'infinity'),"
        " or set special_values to null",
        code="special_value",
    )


def driver_type(field: pa.Field) -> str:
    """PostgreSQL's name of the type of a column that the driver described."""
    return str((field.metadata or {}).get(b"POSTGRESQL:type", b"").decode())


def _typmod(field: pa.Field) -> int:
    return int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1"))


def _is_opaque(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.OpaqueType)


def _is_list_of(kind: pa.DataType, matches: Callable[[pa.DataType], bool]) -> bool:
    return bool(pa.types.is_list(kind)) and matches(kind.value_type)
