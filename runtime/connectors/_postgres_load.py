"""A load from its rows to its commit: straight into the table in one transaction, or by staging tables of parts."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from models.destinations import PartitionStrategy, WriteMode
from models.errors import Terminal
from runtime.connectors import _postgres_ledger as ledger
from runtime.connectors._contract import CursorMove, LoadCounts, Receipt, RunKey, Target
from runtime.connectors._postgres_backups import backup_plan, make_backup_schema
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_convert import ColumnPlan, converted
from runtime.connectors._postgres_copy import chunks
from runtime.connectors._postgres_ddl import (
    column_plans,
    lock_name,
    made_table,
    make_partitions,
    staging_columns,
    with_indexes,
)
from runtime.connectors._postgres_fit import Partitioning, fitted, partitioning, wanted_indexes
from runtime.connectors._postgres_names import OURS, TableName, run_tag, table_name
from runtime.connectors._postgres_overwrite import Fill, exchange, is_swappable, swap
from runtime.connectors._postgres_publish import Staged, append, upsert
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import Table, inspect
from runtime.connectors._postgres_types import ColumnType

TEMPORARY = f"{OURS}stage"


@dataclass(frozen=True, slots=True)
class Load:
    """One load of one run into one table."""

    config: PostgresConfig
    target: Target
    run: RunKey

    @property
    def name(self) -> TableName:
        """The table."""
        return table_name(self.target.table, self.config.schema_name)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of an upsert; no other mode has any."""
        return self.target.key_columns if self.target.write_mode is WriteMode.UPSERT else ()

    @property
    def staging(self) -> str:
        """What the names of the run's staging tables begin with."""
        return f"{OURS}s_{run_tag(self.run.execution_id, self.run.step)}_"

    @property
    def base(self) -> TableName:
        """The empty staging table that says what the parts' look like."""
        return self.name.beside(f"{self.staging}base")

    def make_ground(self) -> None:
        """Make the ledger, and the place of earlier versions where an overwrite keeps them."""
        ledger.make_ledger(self.config)
        if self.target.write_mode is WriteMode.OVERWRITE and backup_plan(self.target, self.run):
            make_backup_schema(self.config)


def load(job: Load, rows: pa.RecordBatchReader, cursor: CursorMove | None) -> LoadCounts:
    """Load one stream, with its ledger row and cursor, in one transaction."""
    job.make_ground()
    with _transaction(job) as session:
        known = ledger.published(session, job.run)
        if known is not None:
            return known
        table = inspect(session, job.name)
        counts = _Arrival(job, session, table, fitted(job.target, table, rows.schema), rows).publish()
        landed = Receipt(0, counts.inserted + counts.updated)
        earlier = ledger.publish_run(session, job.name, job.run, ledger.Publication(counts, [landed], cursor))
        if earlier is not None:
            return earlier
        session.commit()
    return counts


def prepare(job: Load, schema: pa.Schema) -> None:
    """Open the run and make its empty staging table; parts that landed already stay, if the schema is the same."""
    job.make_ground()
    with _transaction(job) as session:
        lock_name(session, job.base.text)
        ledger.open_run(session, job.name, job.run)
        table = inspect(session, job.name)
        plans = fitted(job.target, table, schema)
        columns = staging_columns(plans, job.keys)
        base = inspect(session, job.base)
        if base.exists and [(c.name, c.type) for c in base.columns] != [(p.name, p.wire) for p in plans]:
            _drop_staging(session, job)
            base = Table(job.base)
        if not base.exists:
            session.execute(f"CREATE UNLOGGED TABLE {job.base.sql} ({columns})")
        session.commit()


def write(job: Load, partition: int, rows: pa.RecordBatchReader) -> Receipt:
    """Land one part in a staging table of its own; the receipt names it, so that a repeated part has one effect."""
    with _transaction(job) as session:
        _require_base(session, job)
        base = inspect(session, job.base)
        plans = fitted(Target(job.base.text, WriteMode.APPEND), base, rows.schema)
        place = job.base.beside(f"{job.staging}{partition}_{secrets.token_hex(4)}")
        session.execute(f"CREATE UNLOGGED TABLE {place.sql} (LIKE {job.base.sql})")
        count = _copy(session, place, plans, rows)
        ledger.refuse_closed(session, job.name, job.run)
        session.commit()
    return Receipt(partition, count, place.name)


def commit(job: Load, receipts: Sequence[Receipt], cursor: CursorMove | None) -> LoadCounts:
    """Publish all parts, with their ledger rows and the cursor, in one transaction; staging goes with it."""
    landed = list({receipt.partition: receipt for receipt in receipts}.values())
    job.make_ground()
    with _transaction(job) as session:
        known = ledger.published(session, job.run, lock=True)
        if known is not None:
            return known
        base = _require_base(session, job)
        relations = tuple(job.name.beside(receipt.token).sql for receipt in landed)
        _require_parts(session, job, relations)
        table = inspect(session, job.name)
        plans = tuple(column_plans(table, base))
        counts = _publish_staged(job, session, table, Staged(relations, plans))
        earlier = ledger.publish_run(session, job.name, job.run, ledger.Publication(counts, landed, cursor))
        if earlier is not None:
            return earlier
        _drop_staging(session, job)
        session.commit()
    return counts


def abort(job: Load) -> None:
    """Remove the run's staging; nothing to do when there is none, or when a younger generation has the run."""
    with _transaction(job) as session:
        if ledger.abort_run(session, job.run):
            _drop_staging(session, job)
            session.commit()


@contextmanager
def _transaction(job: Load) -> Iterator[Session]:
    """A transaction of the run, in whose way nobody of an older generation is."""
    with ledger.noticing_loss(job.config), Session(job.config, ledger.mark_of(job.run)) as session:
        ledger.end_older(session, job.run)
        yield session


class _Arrival:
    """One stream on its way into the table, in the transaction that publishes it."""

    def __init__(
        self, job: Load, session: Session, table: Table, plans: list[ColumnPlan], rows: pa.RecordBatchReader
    ) -> None:
        self.job = job
        self.session = session
        self.table = table
        self.plans = plans
        self.rows = rows
        self.is_direct = all(plan.is_direct for plan in plans)

    def publish(self) -> LoadCounts:
        """Into the table itself where rows need nothing in between, else by a temporary table."""
        divided = partitioning(self.job.target, self.table, types_of(self.plans))
        needs_parts = divided is not None and divided.strategy is not PartitionStrategy.HASH
        mode = self.job.target.write_mode
        if self.is_direct and not needs_parts:
            if mode is WriteMode.APPEND or (mode is WriteMode.OVERWRITE and not self.table.exists):
                return self._append(divided)
            if mode is WriteMode.OVERWRITE and is_swappable(self.session, self.table):
                table = _indexed(self.job, self.session, self.table)
                return swap(self.session, table, self.job.run, self._fill, backup_plan(self.job.target, self.job.run))
        columns = staging_columns(self.plans, self.job.keys)
        self.session.execute(f"CREATE TEMPORARY TABLE {TEMPORARY} ({columns}) ON COMMIT DROP")
        _copy(self.session, TEMPORARY, self.plans, self.rows, self.job.keys)
        return _publish_staged(self.job, self.session, self.table, Staged((f"pg_temp.{TEMPORARY}",), tuple(self.plans)))

    def _append(self, divided: Partitioning | None) -> LoadCounts:
        session, table = self.session, self.table
        if table.exists:
            _indexed(self.job, session, table)
            return LoadCounts(inserted=_copy(session, table.name, self.plans, self.rows))
        table = made_table(session, self.job.name, self.plans, self.job.keys, divided)
        count = _copy(session, table.name, fitted(self.job.target, table, self.rows.schema), self.rows)
        _indexed(self.job, session, table)
        return LoadCounts(inserted=count)

    def _fill(self, into: TableName) -> int:
        return _copy(self.session, into, self.plans, self.rows)


def _publish_staged(job: Load, session: Session, table: Table, staged: Staged) -> LoadCounts:
    """Staged rows into the table by the load's mode; the table, its partitions and indexes are made as needed."""
    is_new = not table.exists
    divided = partitioning(job.target, table, types_of(staged.plans))
    table = made_table(session, job.name, staged.plans, job.keys, divided) if is_new else _indexed(job, session, table)
    if divided is not None and staged.relations:
        make_partitions(session, table, divided, staged.relations)
    counts = _by_mode(job, session, table, staged, is_new)
    if is_new:
        _indexed(job, session, table)
    return counts


def _indexed(job: Load, session: Session, table: Table) -> Table:
    """The table with the indexes that its destination wants."""
    names = [column.name for column in table.columns]
    return with_indexes(session, table, wanted_indexes(job.target, table, names))


def _by_mode(job: Load, session: Session, table: Table, staged: Staged, is_new: bool) -> LoadCounts:
    if job.target.write_mode is WriteMode.UPSERT:
        return upsert(session, table, staged, job.keys)
    if job.target.write_mode is WriteMode.APPEND or is_new:
        return LoadCounts(inserted=append(session, table, staged))
    backup = backup_plan(job.target, job.run)

    def fill(into: TableName) -> int:
        return append(session, table, staged, into)

    how: Fill = fill
    if is_swappable(session, table):
        return swap(session, table, job.run, how, backup)
    return exchange(session, table, how, backup)


def _copy(
    session: Session,
    into: TableName | str,
    plans: Sequence[ColumnPlan],
    rows: pa.RecordBatchReader,
    required: Sequence[str] = (),
) -> int:
    batches = converted(rows, plans, required)
    types = [plan.wire for plan in plans]
    return session.copy(into, [plan.name for plan in plans], chunks(batches, types))


def types_of(plans: Sequence[ColumnPlan]) -> dict[str, ColumnType]:
    """The types that the columns have in the table."""
    return {plan.name: plan.table for plan in plans}


def _require_base(session: Session, job: Load) -> Table:
    base = inspect(session, job.base)
    if not base.exists:
        raise Terminal(
            f"the load of step {job.run.step} into {job.name.text} is not open: it was aborted or never prepared",
            hint="run the step again",
            code="superseded",
        )
    return base


def _require_parts(session: Session, job: Load, relations: Sequence[str]) -> None:
    rows = session.fetch(
        "SELECT part FROM unnest($1::text[]) AS parts (part) WHERE to_regclass(part) IS NULL", list(relations)
    )
    if rows:
        raise Terminal(
            f"{len(rows)} of {len(relations)} staged parts of {job.name.text} are gone",
            hint="run the step again",
            code="lost_staging",
        )


def _drop_staging(session: Session, job: Load) -> None:
    rows = session.fetch(
        "SELECT c.relname::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = $1 AND starts_with(c.relname::text, $2) AND c.relkind = 'r'",
        job.name.schema,
        job.staging,
    )
    if rows:
        session.execute("DROP TABLE " + ", ".join(job.name.beside(row["name"]).sql for row in rows))
