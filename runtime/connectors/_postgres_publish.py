"""Publishes staged rows into a table: appended, or merged on keys with inserts and changes counted apart."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from models.errors import Retryable, Terminal
from runtime.connectors._contract import LoadCounts
from runtime.connectors._postgres_convert import ColumnPlan
from runtime.connectors._postgres_names import TableName, listed, quoted
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import Table

MERGE_RETURNS = 17
WORK_MEMORY = "128MB"
_CAST_FAILURES = ("bad_value", "overflow", "bad_text", "type_mismatch", "postgres", "check_failed")


@dataclass(frozen=True, slots=True)
class Staged:
    """Rows that landed: the relations that hold them, as SQL writes them, and how their columns become the table's."""

    relations: tuple[str, ...]
    plans: tuple[ColumnPlan, ...]

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [plan.name for plan in self.plans]

    @property
    def sql(self) -> str:
        """All rows, as the table takes them."""
        listed_columns = ", ".join(f"{plan.expression} AS {quoted(plan.name)}" for plan in self.plans)
        return " UNION ALL ".join(f"SELECT {listed_columns} FROM {relation}" for relation in self.relations)


def append(session: Session, table: Table, staged: Staged, into: TableName | None = None) -> int:
    """Insert all staged rows into the table, or into another of its shape; answers how many."""
    if not staged.relations:
        return 0
    name = into or table.name
    identity = " OVERRIDING SYSTEM VALUE" if _gives_identity(table, staged) else ""
    with named_failures(session, staged):
        return affected(session.execute(f"INSERT INTO {name.sql} ({listed(staged.columns)}){identity} {staged.sql}"))


def upsert(session: Session, table: Table, staged: Staged, keys: tuple[str, ...]) -> LoadCounts:
    """Insert rows with new keys, change those whose other columns differ; rows that are equal already are not counted.

    Raises `Terminal` when a key is staged more than once: which row should win cannot be told.
    """
    if not staged.relations:
        return LoadCounts()
    session.fetch("SELECT set_config('work_mem', $1, true)", WORK_MEMORY)
    for relation in staged.relations:
        session.execute(f"ANALYZE {relation}")
    with named_failures(session, staged):
        _refuse_duplicates(session, table, staged, keys)
        sql = merge_sql(table, staged, keys) if session.server_version >= MERGE_RETURNS else None
        try:
            row = session.fetch(sql or insert_on_conflict_sql(table, staged, keys))[0]
        except Terminal as error:
            if error.specific_code != "duplicate_key":
                raise
            message = f"{error.message}: another load wrote the same keys meanwhile"
            raise Retryable(message, hint="it is tried again", code="serialization") from error
    return LoadCounts(inserted=row["inserted"], updated=row["updated"])


def merge_sql(table: Table, staged: Staged, keys: tuple[str, ...]) -> str:
    """The upsert as MERGE, which from PostgreSQL 17 on returns what it did with each row."""
    changed = _changed_columns(table, staged, keys)
    assignments = ", ".join(f"{quoted(name)} = s.{quoted(name)}" for name in changed)
    update = f"WHEN MATCHED AND {_differs(table, changed, 't', 's')} THEN UPDATE SET {assignments} " if changed else ""
    identity = "OVERRIDING SYSTEM VALUE " if _gives_identity(table, staged) else ""
    matches = " AND ".join(f"t.{quoted(key)} = s.{quoted(key)}" for key in keys)
    return (
        f"WITH merged AS (MERGE INTO {table.name.sql} AS t USING ({staged.sql}) AS s ON {matches} {update}"
        f"WHEN NOT MATCHED THEN INSERT ({listed(staged.columns)}) {identity}VALUES ({listed(staged.columns, 's.')})"
        " RETURNING merge_action() AS action)"
        " SELECT count(*) FILTER (WHERE action = 'INSERT') AS inserted,"
        " count(*) FILTER (WHERE action = 'UPDATE') AS updated FROM merged"
    )


def insert_on_conflict_sql(table: Table, staged: Staged, keys: tuple[str, ...]) -> str:
    """The upsert for PostgreSQL 15 and 16: a row that was just inserted has no `xmax`."""
    changed = _changed_columns(table, staged, keys)
    assignments = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in changed)
    action = f"UPDATE SET {assignments} WHERE {_differs(table, changed, 't', 'excluded')}" if changed else "NOTHING"
    identity = "OVERRIDING SYSTEM VALUE " if _gives_identity(table, staged) else ""
    return (
        f"WITH written AS (INSERT INTO {table.name.sql} AS t ({listed(staged.columns)}) {identity}{staged.sql}"
        f" ON CONFLICT ({listed(keys)}) DO {action} RETURNING (t.xmax = 0) AS is_new)"
        " SELECT count(*) FILTER (WHERE is_new) AS inserted, count(*) FILTER (WHERE NOT is_new) AS updated FROM written"
    )


@contextmanager
def named_failures(session: Session, staged: Staged) -> Iterator[None]:
    """A savepoint in which a value that the table's type refuses is reported with the column that holds it."""
    session.execute("SAVEPOINT publishing")
    try:
        yield
    except Terminal as error:
        if error.specific_code in _CAST_FAILURES:
            session.execute("ROLLBACK TO SAVEPOINT publishing")
            _blame_column(session, staged, error)
        raise
    session.execute("RELEASE SAVEPOINT publishing")


def _blame_column(session: Session, staged: Staged, error: Terminal) -> None:
    for plan in staged.plans:
        for relation in staged.relations if not plan.is_direct else ():
            try:
                session.execute(f"SELECT count({plan.expression}) FROM {relation}")
            except Terminal as found:
                reason = found.message.removeprefix(f"{session.config.place}: ")
                raise Terminal(
                    f"column {plan.name} does not fit into {plan.table.sql}: {reason}",
                    hint=found.hint,
                    path=plan.name,
                    code=found.specific_code,
                ) from error


def affected(tag: str) -> int:
    """The number of rows in a command's tag, such as `INSERT 0 5`."""
    return int(tag.rsplit(" ", 1)[-1])


def _refuse_duplicates(session: Session, table: Table, staged: Staged, keys: tuple[str, ...]) -> None:
    shown = ", ".join(f"{quoted(key)}::text" for key in keys)
    rows = session.fetch(
        f"SELECT concat_ws(', ', {shown}) AS sample, count(*) AS times FROM ({staged.sql}) AS s"
        f" GROUP BY {listed(keys)} HAVING count(*) > 1 LIMIT 1"
    )
    if rows:
        raise Terminal(
            f"the load into {table.name.text} holds the key {', '.join(keys)} = {rows[0]['sample']}"
            f" {rows[0]['times']} times",
            hint="add a deduplicate step on the keys, so that it is clear which row wins",
            code="duplicate_key",
        )


def _changed_columns(table: Table, staged: Staged, keys: tuple[str, ...]) -> list[str]:
    """The columns that an upsert changes: not the keys, nor what the table numbers itself."""
    fixed = {column.name for column in table.columns if column.identity == "a"}
    return [name for name in staged.columns if name not in keys and name not in fixed]


def _differs(table: Table, columns: Sequence[str], left: str, right: str) -> str:
    """Whether any of the columns differs; types without equality, such as json, are compared as text."""
    equal = {column.name for column in table.columns if column.is_equal}

    def side(of: str) -> str:
        return ", ".join(f"{of}.{quoted(name)}{'' if name in equal else '::text'}" for name in columns)

    return f"ROW({side(left)}) IS DISTINCT FROM ROW({side(right)})"


def _gives_identity(table: Table, staged: Staged) -> bool:
    return any(column.identity == "a" and column.name in staged.columns for column in table.columns)
