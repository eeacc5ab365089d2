"""Earlier versions of tables that overwrites replaced: kept in a schema of their own, restorable, and pruned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from models.destinations import BackupConfig
from models.fields import parse
from runtime.connectors._contract import RunKey, TableVersion, Target, no_version
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_ddl import lock_name
from runtime.connectors._postgres_names import TableName, listed, quoted, shortened
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import Table

SCHEMA: Final = "_wedsync_backups"
VERSIONS: Final = TableName(SCHEMA, "_versions")


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """That an overwrite keeps what it replaces: how many versions, for how many days, and the run that replaces."""

    keep_versions: int
    retention_days: int
    execution_id: UUID


def backup_plan(target: Target, run: RunKey) -> BackupPlan | None:
    """What the destination's `backup_config` asks of an overwrite; None when it is not enabled."""
    config = parse(BackupConfig, dict(target.backup), "backup_config")
    return BackupPlan(config.keep_versions, config.retention_days, run.execution_id) if config.enabled else None


def make_backup_schema(config: PostgresConfig) -> None:
    """Make the schema of earlier versions where it is not there, in a transaction of its own."""
    with Session(config) as session:
        if session.fetch("SELECT to_regclass($1) IS NOT NULL AS found", VERSIONS.sql)[0]["found"]:
            return
        lock_name(session, SCHEMA)
        session.execute(
            f"""
            CREATE SCHEMA IF NOT EXISTS {quoted(SCHEMA)};
            CREATE TABLE IF NOT EXISTS {VERSIONS.sql} (
              id uuid PRIMARY KEY, schema_name text NOT NULL, table_name text NOT NULL, backup_name text NOT NULL,
              execution_id uuid NOT NULL, rows bigint NOT NULL, replaced_at timestamptz NOT NULL DEFAULT now(),
              expires_at timestamptz NOT NULL)
            """
        )
        session.commit()


def keep_table(session: Session, table: Table, plan: BackupPlan, rows: int) -> None:
    """Keep the table itself: it moves away, under a name of its own; its indexes go."""
    identity, name = _record(session, table, plan, rows)
    session.execute(f"ALTER TABLE {table.name.sql} RENAME TO {quoted(name.name)}")
    moved = table.name.beside(name.name)
    for number, index in enumerate(table.indexes):
        renamed = shortened(f"{identity.hex}_{number}")
        session.execute(f"ALTER INDEX {table.name.beside(index.name).sql} RENAME TO {quoted(renamed)}")
    session.execute(f"ALTER TABLE {moved.sql} SET SCHEMA {quoted(SCHEMA)}")
    _prune(session, table, plan)


def keep_copy(session: Session, table: Table, plan: BackupPlan) -> None:
    """Keep a copy of the table's rows."""
    rows = int(session.fetch(f"SELECT count(*) AS rows FROM {table.name.sql}")[0]["rows"])
    _, name = _record(session, table, plan, rows)
    session.execute(f"CREATE TABLE {name.sql} AS TABLE {table.name.sql}")
    _prune(session, table, plan)


def versions_of(session: Session, name: TableName) -> list[TableVersion]:
    """The earlier versions of a table, newest first."""
    if not session.fetch("SELECT to_regclass($1) IS NOT NULL AS found", VERSIONS.sql)[0]["found"]:
        return []
    return [
        TableVersion(str(row["id"]), row["rows"], row["replaced_at"], row["execution_id"], row["expires_at"])
        for row in _versions(session, name)
    ]


def restore_version(session: Session, table: Table, version: str) -> int:
    """Put the rows of an earlier version in the place of the table's; answers how many. Raises `NotFound`.

    Columns that the table has gained since are filled with their defaults. What is replaced is not kept.
    """
    known = {one.version for one in versions_of(session, table.name)}
    kept = next((row for row in _versions(session, table.name) if str(row["id"]) == version), None) if known else None
    if kept is None:
        raise no_version(table.name.text, version)
    backup = TableName(SCHEMA, kept["backup_name"])
    session.execute(f"LOCK TABLE {table.name.sql} IN ACCESS EXCLUSIVE MODE")
    columns = session.fetch(
        "SELECT attname::text AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
        " AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        backup.sql,
    )
    taken = [column.name for column in table.columns if not column.is_given]
    names = listed([row["name"] for row in columns if row["name"] in taken])
    session.execute(f"DELETE FROM {table.name.sql}")
    session.execute(f"INSERT INTO {table.name.sql} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {backup.sql}")
    return int(kept["rows"])


def _record(session: Session, table: Table, plan: BackupPlan, rows: int) -> tuple[UUID, TableName]:
    identity = uuid4()
    name = shortened(f"{identity.hex[:12]}_{table.name.schema}_{table.name.name}")
    session.fetch(
        f"INSERT INTO {VERSIONS.sql}"
        " (id, schema_name, table_name, backup_name, execution_id, rows, replaced_at, expires_at)"
        " SELECT $1, $2, $3, $4, $5, $6, moment, moment + make_interval(days => $7) FROM clock_timestamp() AS moment",
        *(identity, table.name.schema, table.name.name, name, plan.execution_id, rows, plan.retention_days),
    )
    return identity, TableName(SCHEMA, name)


def _prune(session: Session, table: Table, plan: BackupPlan) -> None:
    """Remove versions beyond the number to keep, and those past their retention."""
    rows = session.fetch(
        f"SELECT id, backup_name, replaced_at < now() - make_interval(days => $3) AS is_old FROM {VERSIONS.sql}"
        " WHERE (schema_name, table_name) = ($1, $2) ORDER BY replaced_at DESC",
        *(table.name.schema, table.name.name, plan.retention_days),
    )
    gone = [row for place, row in enumerate(rows) if row["is_old"] or place >= plan.keep_versions]
    for row in gone:
        session.execute(f"DROP TABLE IF EXISTS {TableName(SCHEMA, row['backup_name']).sql}")
    session.fetch(f"DELETE FROM {VERSIONS.sql} WHERE id = ANY($1)", [row["id"] for row in gone])


def _versions(session: Session, name: TableName) -> Sequence[asyncpg.Record]:
    return session.fetch(
        f"SELECT id, backup_name, execution_id, rows, replaced_at, expires_at FROM {VERSIONS.sql}"
        " WHERE (schema_name, table_name) = ($1, $2) ORDER BY replaced_at DESC",
        name.schema,
        name.name,
    )
