"""Replaces all rows of a table at once; readers see the old rows or the new ones, never a mixture or none.

A table on whose identity nothing hangs is swapped: its successor is filled and indexed beside it, and takes its name
in a moment. A table that views, foreign keys, triggers, policies, publications, sequences or partitions hang on keeps
its identity: its contents are exchanged in one transaction, during which readers wait. Both keep grants, indexes and
comments, and both can keep what they replace.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from models.errors import Retryable
from runtime.connectors._contract import LoadCounts, RunKey
from runtime.connectors._postgres_backups import BackupPlan, keep_copy, keep_table
from runtime.connectors._postgres_ddl import lock_name
from runtime.connectors._postgres_names import OURS, TableName, quoted, run_tag
from runtime.connectors._postgres_publish import affected
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import Table

Fill: TypeAlias = Callable[[TableName], int]

_SWAPPABLE: Final = """
SELECT c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relispartition AND c.reloptions IS NULL
  AND c.relreplident = 'd' AND NOT c.relrowsecurity AND pg_get_userbyid(c.relowner) = current_user
  AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid)
  AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent))
  AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid))
  AND NOT EXISTS (SELECT FROM pg_default_acl AS a WHERE a.defaclobjtype = 'r')
  AND NOT EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND NOT (
      (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class AS o WHERE o.oid = d.objid
        AND o.relkind IN ('i', 't')))
      OR (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint AS k
        WHERE k.oid = d.objid AND k.conrelid = c.oid))
      OR (d.classid = 'pg_attrdef'::regclass AND EXISTS (SELECT FROM pg_attrdef AS f
        WHERE f.oid = d.objid AND f.adrelid = c.oid))
      OR (d.classid = 'pg_type'::regclass AND d.objid = c.reltype)))
  AND NOT EXISTS (
    SELECT FROM pg_depend AS d
    WHERE d.refclassid = 'pg_type'::regclass AND d.refobjid = c.reltype AND d.classid <> 'pg_type'::regclass)
  AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attidentity <> '') AS swappable
FROM pg_class AS c WHERE c.oid = $1
"""
_INDEXES: Final = """
SELECT x.relname::text AS name, pg_get_constraintdef(k.oid) AS constraint_sql,
  'CREATE ' || CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END || 'INDEX ' AS head,
  substr(pg_get_indexdef(i.indexrelid), strpos(pg_get_indexdef(i.indexrelid), ' USING ')) AS tail
FROM pg_index AS i JOIN pg_class AS x ON x.oid = i.indexrelid
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
WHERE i.indrelid = $1 AND i.indisvalid ORDER BY i.indisprimary DESC, x.relname
"""
_GRANTS: Final = """
SELECT format('GRANT %s%s ON %s TO %s%s', g.privilege_type, g.columns, $2::text,
  CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
  CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS sql
FROM (
  SELECT a.privilege_type, '' AS columns, a.grantee, a.is_grantable
  FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = $1 AND a.grantee <> c.relowner
  UNION ALL
  SELECT a.privilege_type, format(' (%I)', t.attname), a.grantee, a.is_grantable
  FROM pg_attribute AS t, aclexplode(t.attacl) AS a WHERE t.attrelid = $1 AND NOT t.attisdropped) AS g
UNION ALL
SELECT format('COMMENT ON TABLE %s IS %L', $2::text, obj_description($1, 'pg_class'))
WHERE obj_description($1, 'pg_class') IS NOT NULL
"""


def is_swappable(session: Session, table: Table) -> bool:
    """Whether nothing hangs on the table's identity."""
    rows = session.fetch(_SWAPPABLE, table.oid)
    return bool(rows and rows[0]["swappable"])


def swap(session: Session, table: Table, run: RunKey, fill: Fill, backup: BackupPlan | None) -> LoadCounts:
    """Fill a successor of the table and give it the table's name; raises `Retryable` when the table changed."""
    successor = table.name.beside(f"{OURS}n_{run_tag(run.execution_id, run.step)}")
    lock_name(session, f"overwrite {table.name.text}")
    session.execute(
        f"DROP TABLE IF EXISTS {successor.sql};"
        f"CREATE TABLE {successor.sql} (LIKE {table.name.sql} INCLUDING ALL EXCLUDING INDEXES)"
    )
    inserted = fill(successor)
    names = _copy_indexes(session, table, successor)
    for row in session.fetch(_GRANTS, table.oid, successor.sql):
        session.execute(row["sql"])
    session.execute(f"ANALYZE {successor.sql}")
    session.execute(f"LOCK TABLE {table.name.sql} IN ACCESS EXCLUSIVE MODE")
    if not is_swappable(session, table):
        raise Retryable(f"{table.name.text} was changed while it was loaded", hint="it is tried again", code="changed")
    deleted = _count(session, table)
    if backup is None:
        session.execute(f"DROP TABLE {table.name.sql}")
    else:
        keep_table(session, table, backup, deleted)
    session.execute(f"ALTER TABLE {successor.sql} RENAME TO {quoted(table.name.name)}")
    for temporary, name in names:
        session.execute(f"ALTER INDEX {table.name.beside(temporary).sql} RENAME TO {quoted(name)}")
    return LoadCounts(inserted=inserted, deleted=deleted)


def exchange(session: Session, table: Table, fill: Fill, backup: BackupPlan | None) -> LoadCounts:
    """Replace the contents of the table, which stays the same to all that hangs on it."""
    session.execute(f"LOCK TABLE {table.name.sql} IN ACCESS EXCLUSIVE MODE")
    if backup is not None:
        keep_copy(session, table, backup)
    referenced = session.fetch(
        "SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = $1) AS found", table.oid
    )
    if referenced[0]["found"]:
        deleted = affected(session.execute(f"DELETE FROM {table.name.sql}"))
    else:
        deleted = _count(session, table)
        session.execute(f"TRUNCATE {table.name.sql}")
    return LoadCounts(inserted=fill(table.name), deleted=deleted)


def _copy_indexes(session: Session, table: Table, successor: TableName) -> list[tuple[str, str]]:
    """Give the successor the table's indexes and keys; answers their names now, and those they are to have."""
    names = []
    for number, row in enumerate(session.fetch(_INDEXES, table.oid)):
        temporary = f"{successor.name}_{number}"
        if row["constraint_sql"]:
            session.execute(f"ALTER TABLE {successor.sql} ADD CONSTRAINT {quoted(temporary)} {row['constraint_sql']}")
        else:
            session.execute(f"{row['head']}{quoted(temporary)} ON {successor.sql}{row['tail']}")
        names.append((temporary, row["name"]))
    return names


def _count(session: Session, table: Table) -> int:
    return int(session.fetch(f"SELECT count(*) AS rows FROM {table.name.sql}")[0]["rows"])
