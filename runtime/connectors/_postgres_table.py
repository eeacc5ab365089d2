"""A table as PostgreSQL has it now: columns, keys, indexes and partitioning, read in one query."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from runtime.connectors._postgres_names import TableName
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_types import ColumnType

_SQL: Final = """
SELECT c.oid::int8 AS oid, c.relkind::text AS kind,
  (SELECT json_agg(json_build_object(
      'name', a.attname, 'sql', format_type(a.atttypid, a.atttypmod), 'not_null', a.attnotnull,
      'has_default', a.atthasdef, 'generated', a.attgenerated <> '', 'identity', a.attidentity,
      'type', CASE WHEN i.oid IS NOT NULL THEN i.typname WHEN b.typtype = 'e' THEN 'enum' ELSE b.typname END,
      'is_array', i.oid IS NOT NULL,
      'typmod', CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
      'equal', EXISTS (SELECT FROM pg_opclass AS o WHERE o.opcdefault AND o.opcintype = coalesce(
          CASE WHEN i.oid IS NOT NULL THEN i.oid WHEN b.typtype = 'e' THEN 3500 WHEN b.typname = 'varchar' THEN 25
          ELSE b.oid END, 0))) ORDER BY a.attnum)
   FROM pg_attribute AS a
   JOIN pg_type AS t ON t.oid = a.atttypid
   JOIN pg_type AS b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
   LEFT JOIN pg_type AS i ON i.oid = b.typelem AND b.typcategory = 'A'
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
  (SELECT json_agg(json_build_object(
      'name', x.relname, 'unique', i.indisunique, 'primary', i.indisprimary, 'method', m.amname,
      'plain', i.indexprs IS NULL AND i.indpred IS NULL AND i.indimmediate,
      'columns', (SELECT json_agg(k.attname ORDER BY p.place)
                  FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS p (number, place)
                  JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = p.number
                  WHERE p.place <= i.indnkeyatts)))
   FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_am AS m ON m.oid = x.relam
   WHERE i.indrelid = c.oid AND i.indisvalid) AS indexes,
  (SELECT json_build_object('strategy', p.partstrat, 'columns', (
      SELECT json_agg(k.attname ORDER BY u.place) FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS u (number, place)
      JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = u.number))
   FROM pg_partitioned_table AS p WHERE p.partrelid = c.oid) AS partitioning
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_STRATEGIES: Final = {"r": "range", "l": "list", "h": "hash"}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column. `is_given` says that PostgreSQL makes the value and takes none; `is_equal` that it can compare two."""

    name: str
    type: ColumnType
    not_null: bool = False
    has_default: bool = False
    is_given: bool = False
    identity: str = ""
    is_equal: bool = True


@dataclass(frozen=True, slots=True)
class Index:
    """An index; `is_plain` says that it covers columns alone, in all rows, at once."""

    name: str
    columns: tuple[str, ...]
    method: str
    is_unique: bool
    is_primary: bool
    is_plain: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there, or by its name alone one that is not (`oid` None)."""

    name: TableName
    oid: int | None = None
    kind: str = "r"
    columns: tuple[TableColumn, ...] = ()
    indexes: tuple[Index, ...] = ()
    partition_strategy: str | None = None
    partition_columns: tuple[str, ...] = field(default=())

    @property
    def exists(self) -> bool:
        """Whether it is there."""
        return self.oid is not None

    def column(self, name: str) -> TableColumn | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def has_unique(self, columns: tuple[str, ...]) -> bool:
        """Whether an index keeps these columns unique."""
        return any(one.is_unique and one.is_plain and set(one.columns) == set(columns) for one in self.indexes)


def inspect(session: Session, name: TableName) -> Table:
    """The table of that name as it is now."""
    rows = session.fetch(_SQL, name.schema, name.name)
    if not rows:
        return Table(name)
    row = rows[0]
    partitioning: dict[str, Any] = orjson.loads(row["partitioning"] or b"{}")
    return Table(
        name,
        row["oid"],
        row["kind"],
        tuple(_column(one) for one in orjson.loads(row["columns"] or b"[]")),
        tuple(_index(one) for one in orjson.loads(row["indexes"] or b"[]")),
        _STRATEGIES.get(partitioning.get("strategy", "")),
        tuple(partitioning.get("columns") or ()),
    )


def _column(row: dict[str, Any]) -> TableColumn:
    return TableColumn(
        name=row["name"],
        type=_type(row),
        not_null=row["not_null"],
        has_default=row["has_default"] or bool(row["identity"]),
        is_given=row["generated"],
        identity=row["identity"],
        is_equal=row["equal"],
    )


def _type(row: dict[str, Any]) -> ColumnType:
    precision = scale = None
    if row["type"] == "numeric" and row["typmod"] >= 4:
        bits = row["typmod"] - 4
        precision, scale = bits >> 16 & 0xFFFF, ((bits & 0x7FF) ^ 1024) - 1024
    return ColumnType(row["type"], row["sql"], precision, scale, row["is_array"])


def _index(row: dict[str, Any]) -> Index:
    columns = tuple(row["columns"] or ())
    return Index(row["name"], columns, row["method"], row["unique"], row["primary"], row["plain"])
