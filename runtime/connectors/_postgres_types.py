"""PostgreSQL's column types for a load: the type a new column gets, and how Arrow values become an old column's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from models.errors import Terminal

JSON: Final = pa.json_(pa.string())
TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name", "citext", "enum"})
INTEGERS: Final = frozenset({"int2", "int4", "int8"})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type: `name` is that of `pg_type` (the items' in an array; `enum` for all enums), `sql` as
    `format_type` writes it.

    `precision` and `scale` are a numeric's, where it has them.
    """

    name: str
    sql: str
    precision: int | None = None
    scale: int | None = None
    is_array: bool = False

    @property
    def item(self) -> "ColumnType":
        """The type of an array's items."""
        return ColumnType(self.name, self.sql.removesuffix("[]"), self.precision, self.scale)


_SCALARS: Final[Mapping[str, tuple[str, pa.DataType]]] = {
    "bool": ("boolean", pa.bool_()),
    "int2": ("smallint", pa.int16()),
    "int4": ("integer", pa.int32()),
    "int8": ("bigint", pa.int64()),
    "float4": ("real", pa.float32()),
    "float8": ("double precision", pa.float64()),
    "text": ("text", pa.string()),
    "bytea": ("bytea", pa.binary()),
    "date": ("date", pa.date32()),
    "time": ("time without time zone", pa.time64("us")),
    "timestamp": ("timestamp without time zone", pa.timestamp("us")),
    "timestamptz": ("timestamp with time zone", pa.timestamp("us", "UTC")),
    "interval": ("interval", pa.month_day_nano_interval()),
    "uuid": ("uuid", pa.uuid()),
    "json": ("json", JSON),
    "jsonb": ("jsonb", JSON),
}
_INTEGER_NAMES: Final = {
    "int8": "int2",
    "int16": "int2",
    "int32": "int4",
    "int64": "int8",
    "uint8": "int2",
    "uint16": "int4",
    "uint32": "int8",
}


def named(name: str) -> ColumnType:
    """One of the types that a new column may get."""
    return ColumnType(name, _SCALARS[name][0])


def natural_type(kind: pa.DataType) -> ColumnType:
    """The type that a new column of this Arrow type gets; raises `Terminal` for one that PostgreSQL cannot hold."""
    if is_nested(kind):
        return named("jsonb")
    if pa.types.is_dictionary(kind):
        return natural_type(kind.value_type)
    if is_list(kind):
        item = natural_type(kind.value_type)
        return ColumnType(item.name, f"{item.sql}[]", item.precision, item.scale, is_array=True)
    if pa.types.is_decimal(kind):
        precision, scale = (kind.precision - kind.scale, 0) if kind.scale < 0 else (kind.precision, kind.scale)
        return ColumnType("numeric", f"numeric({precision},{scale})", precision, scale)
    if kind == pa.uint64():
        return ColumnType("numeric", "numeric(20,0)", 20, 0)
    return named(_scalar_name(kind))


def _scalar_name(kind: pa.DataType) -> str:
    tests = (
        (pa.types.is_boolean, "bool"),
        (pa.types.is_float64, "float8"),
        (pa.types.is_floating, "float4"),
        (is_text, "text"),
        (is_binary, "bytea"),
        (pa.types.is_date, "date"),
        (pa.types.is_time, "time"),
        (pa.types.is_interval, "interval"),
        (pa.types.is_duration, "interval"),
        (pa.types.is_null, "text"),
    )
    if pa.types.is_integer(kind):
        return _INTEGER_NAMES[str(kind)]
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if isinstance(kind, pa.JsonType):
        return "jsonb"
    if isinstance(kind, pa.UuidType):
        return "uuid"
    for test, name in tests:
        if test(kind):
            return name
    raise Terminal(f"PostgreSQL has no type for {kind}", hint="cast the column in a step before", code="type_mismatch")


def arrow_of(kind: ColumnType, given: pa.DataType) -> pa.DataType:
    """The Arrow type whose values are encoded as a column's; a numeric without precision keeps the given decimal."""
    if kind.is_array:
        return pa.list_(arrow_of(kind.item, given.value_type if is_list(given) else given))
    if kind.name in TEXTS:
        return pa.string()
    if kind.name != "numeric":
        return _SCALARS[kind.name][1]
    if kind.precision is not None and kind.scale is not None and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(max(kind.precision, kind.scale), kind.scale)
    if pa.types.is_decimal(given) and given.scale >= 0:
        return pa.decimal128(given.precision, given.scale)
    return pa.decimal128(38, 0)


def family(kind: pa.DataType) -> str:
    """The family of an Arrow type, within which and between which values are converted."""
    if pa.types.is_dictionary(kind):
        return family(kind.value_type)
    if is_nested(kind):
        return "nested"
    if is_list(kind):
        return "list"
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_integer(kind):
        return "integer"
    name = _scalar_name(kind)
    return {"float4": "float", "float8": "float", "timestamptz": "timestamp", "jsonb": "json"}.get(name, name)


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any layout."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Whether it becomes JSON: structs, maps, and lists of them or of lists."""
    if is_list(kind):
        return is_nested(kind.value_type) or is_list(kind.value_type)
    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether it is text of any layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether it is bytes of any layout."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
