"""What tables a schema has: their columns, nullability and primary keys, as Arrow schemas."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from runtime.connectors._contract import PRIMARY_KEY
from runtime.connectors._postgres_columns import JSON, UNBOUNDED, numeric_type
from runtime.connectors._postgres_names import OURS

TABLES: Final = """
SELECT c.relname::text, a.attname::text, coalesce(b.typname, t.typname)::text, coalesce(b.typtype, t.typtype)::text,
       CASE WHEN b.oid IS NULL THEN a.atttypmod ELSE t.typtypmod END,
       a.attnotnull, coalesce(array_position(i.indkey::int2[], a.attnum), -1)::int4
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_type AS b ON b.oid = t.typbasetype AND t.typtype = 'd'
LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY c.relname, a.attnum
"""

_ARROW: Final = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "money": pa.decimal128(19, 2),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "interval": pa.month_day_nano_interval(),
    "uuid": pa.uuid(),
    "json": JSON,
    "jsonb": JSON,
}


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column of a table. `key_position` is its place in the primary key, from 0, or -1."""

    table: str
    name: str
    type: str
    type_kind: str
    typmod: int
    not_null: bool
    key_position: int


def schemas(rows: Sequence[Sequence[object]]) -> dict[str, pa.Schema]:
    """The answer to `TABLES` as schemas by table, ours left out; the primary key is in a schema's metadata as JSON."""
    tables: dict[str, list[CatalogColumn]] = {}
    for row in rows:
        column = CatalogColumn(*row)  # type: ignore[arg-type]
        if not column.table.startswith(OURS):
            tables.setdefault(column.table, []).append(column)
    return {name: _schema(columns) for name, columns in tables.items()}


def arrow_of(kind: str, type_kind: str, typmod: int) -> pa.DataType:
    """The Arrow type in which a column of a PostgreSQL type is read."""
    if kind == "numeric":
        return numeric_type(typmod)
    if type_kind == "c":
        return JSON
    if kind.startswith("_"):
        item = kind[1:]
        return pa.list_(UNBOUNDED if item in ("numeric", "money") else _ARROW.get(item, pa.string()))
    return _ARROW.get(kind, pa.string())


def _schema(columns: Sequence[CatalogColumn]) -> pa.Schema:
    fields = [
        pa.field(one.name, arrow_of(one.type, one.type_kind, one.typmod), nullable=not one.not_null) for one in columns
    ]
    keys = sorted((one for one in columns if one.key_position >= 0), key=lambda one: one.key_position)
    metadata = {PRIMARY_KEY: json.dumps([one.name for one in keys]).encode()} if keys else None
    return pa.schema(fields, metadata=metadata)
