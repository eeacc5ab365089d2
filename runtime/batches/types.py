"""Column types in their two spellings: DuckDB's SQL names, in which plans and schemas are stored, and Arrow's."""

from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp
from sqlglot.errors import ParseError

from models.errors import Invalid

DIALECT = "duckdb"
UNKNOWN = "UNKNOWN"

_ARROW = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "INT128": pa.decimal128(38, 0),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINT": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "TEXT": pa.string(),
    "VARCHAR": pa.string(),
    "CHAR": pa.string(),
    "BLOB": pa.binary(),
    "VARBINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPNTZ": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
    "UUID": pa.uuid(),
    "JSON": pa.json_(pa.string()),
    "NULL": pa.null(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, its DuckDB type name (`UNKNOWN` where it cannot be told) and whether it may be null."""

    name: str
    type: str = UNKNOWN
    nullable: bool = True


Columns = tuple[Column, ...]


def parse_type(name: str) -> exp.DataType:
    """The sqlglot type of a DuckDB type name; raises `Invalid` for a name that is not one."""
    try:
        return exp.DataType.build(name, dialect=DIALECT)
    except (ParseError, ValueError) as error:
        raise Invalid(
            f"{name!r} is not a column type", hint="use a DuckDB type name such as BIGINT, VARCHAR or DECIMAL(12, 2)"
        ) from error


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a DuckDB type name; `UNKNOWN` becomes `pa.null()`."""
    return pa.null() if name == UNKNOWN else _arrow_of(parse_type(name))


def _arrow_of(kind: exp.DataType) -> pa.DataType:
    tag = kind.this.value if isinstance(kind.this, exp.DataType.Type) else str(kind.this)
    if tag == "DECIMAL":
        precision, scale = [int(p.name) for p in kind.expressions] or [18, 3]
        return pa.decimal128(precision, scale)
    if tag in ("LIST", "ARRAY"):
        return pa.list_(_arrow_of(kind.expressions[0]))
    if tag == "STRUCT":
        return pa.struct([pa.field(e.this.name, _arrow_of(e.args["kind"])) for e in kind.expressions])
    if tag == "MAP":
        key, value = kind.expressions
        return pa.map_(_arrow_of(key), _arrow_of(value))
    try:
        return _ARROW[tag]
    except KeyError:
        raise Invalid(f"{kind.sql(DIALECT)} has no Arrow type here", hint="cast the column to another type") from None


_SQL = {str(arrow): name for name, arrow in reversed(_ARROW.items()) if name not in ("INT128", "TEXT", "CHAR")}


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB type name of an Arrow type; raises `Invalid` for one that DuckDB cannot hold."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{_quoted(f.name)} {sql_type(f.type)}' for f in kind)})"
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_dictionary(kind):
        return sql_type(kind.value_type)
    name = _name(kind)
    if name is None:
        raise Invalid(f"Arrow type {kind} has no DuckDB type", hint="cast the column in the source query")
    return name


def _name(kind: pa.DataType) -> str | None:
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return "TIMESTAMPTZ"
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_string(kind):
        return "VARCHAR"
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary(kind):
        return "BLOB"
    if pa.types.is_duration(kind):
        return "INTERVAL"
    if pa.types.is_time(kind):
        return "TIME"
    if pa.types.is_date(kind):
        return "DATE"
    return _SQL.get(str(kind))


def _quoted(name: str) -> str:
    return exp.to_identifier(name, quoted=True).sql(DIALECT)


def columns_of(schema: pa.Schema) -> Columns:
    """The columns of an Arrow schema."""
    return tuple(Column(field.name, sql_type(field.type), field.nullable) for field in schema)


def schema_of(columns: Columns) -> pa.Schema:
    """The Arrow schema of columns; an `UNKNOWN` type becomes `pa.null()`."""
    return pa.schema([pa.field(column.name, arrow_type(column.type), column.nullable) for column in columns])
