"""Makes tables, their partitions as rows need them, and their indexes."""

import hashlib
import re
from collections.abc import Sequence
from datetime import date

from models.destinations import IndexDefinition, PartitionGranularity, PartitionStrategy
from models.errors import Terminal
from runtime.connectors._postgres_convert import ColumnPlan
from runtime.connectors._postgres_fit import MOMENTS, Partitioning
from runtime.connectors._postgres_names import TableName, listed, literal, quoted, shortened
from runtime.connectors._postgres_session import Session
from runtime.connectors._postgres_table import Table, inspect

MOST_PARTITIONS = 1000


def lock_name(session: Session, text: str) -> None:
    """Wait until nobody else makes the thing of that name, until the end of the transaction."""
    session.fetch("SELECT pg_advisory_xact_lock(hashtextextended($1, 20260101))", f"wedsync {text}")


def made_table(
    session: Session, name: TableName, plans: Sequence[ColumnPlan], keys: tuple[str, ...], divided: Partitioning | None
) -> Table:
    """Make the table if it is not there, and answer it; of two that try at once the later finds the earlier's."""
    lock_name(session, name.text)
    found = inspect(session, name)
    if found.exists:
        return found
    columns = [_column(plan, keys) for plan in plans]
    if keys:
        columns.append(f"PRIMARY KEY ({listed(keys)})")
    division = f" PARTITION BY {divided.strategy.value} ({listed(divided.columns)})" if divided else ""
    if divided is not None:
        _check_division(divided, plans)
    session.execute(f"CREATE TABLE {name.sql} ({', '.join(columns)}){division}")
    if divided is not None and divided.strategy is PartitionStrategy.HASH:
        for part in range(divided.config.buckets):
            bounds = f"WITH (MODULUS {divided.config.buckets}, REMAINDER {part})"
            _make_partition(session, name, f"h{part}", bounds)
    return inspect(session, name)


def _column(plan: ColumnPlan, keys: tuple[str, ...]) -> str:
    return f"{quoted(plan.name)} {plan.table.sql}{' NOT NULL' if plan.name in keys else ''}"


def with_indexes(session: Session, table: Table, wanted: Sequence[IndexDefinition]) -> Table:
    """The table with the indexes made that were not there, by their name or by what they cover."""
    made = 0
    for one in wanted:
        name = one.name or shortened(f"{'ux' if one.unique else 'ix'}_{table.name.name}_{'_'.join(one.columns)}")
        there = any(
            old.name == name
            or (
                old.columns == one.columns
                and old.is_plain
                and (old.is_unique or not one.unique)
                and old.method == one.method.value
            )
            for old in table.indexes
        )
        if not there:
            unique = "UNIQUE " if one.unique else ""
            session.execute(
                f"CREATE {unique}INDEX {quoted(name)} ON {table.name.sql} USING {one.method.value}"
                f" ({listed(one.columns)})"
            )
            made += 1
    return inspect(session, table.name) if made else table


def make_partitions(session: Session, table: Table, divided: Partitioning, relations: Sequence[str]) -> None:
    """Make the partitions that the rows of these relations need and that are not there."""
    if divided.strategy is PartitionStrategy.HASH:
        return
    lock_name(session, table.name.text)
    column = divided.columns[0]
    kind = next(one.type.sql for one in table.columns if one.name == column)
    rows = " UNION ALL ".join(f"SELECT {quoted(column)}::{kind} AS value FROM {relation}" for relation in relations)
    if divided.strategy is PartitionStrategy.RANGE:
        _make_ranges(session, table, divided, rows)
    else:
        _make_lists(session, table, column, rows)


def _make_ranges(session: Session, table: Table, divided: Partitioning, rows: str) -> None:
    unit = divided.config.granularity
    found = session.fetch(
        f"SELECT DISTINCT date_trunc('{unit.value}', value)::date::text AS start FROM ({rows}) AS rows LIMIT $1",
        MOST_PARTITIONS + 1,
    )
    starts = [row["start"] for row in found]
    if None in starts:
        raise Terminal(
            f"column {divided.columns[0]} is null in some rows, which no range partition of {table.name.text} takes",
            hint="fill the nulls or filter them out in a step before",
            code="null_value",
        )
    _refuse_too_many(table, len(starts))
    for start in sorted(starts):
        begin = date.fromisoformat(start)
        suffix = {"day": f"{begin:%Y%m%d}", "month": f"{begin:%Y_%m}", "year": f"{begin:%Y}"}[unit.value]
        bounds = f"FROM ({literal(start)}) TO ({literal(_next(begin, unit).isoformat())})"
        _make_partition(session, table.name, f"p{suffix}", bounds)


def _make_lists(session: Session, table: Table, column: str, rows: str) -> None:
    found = session.fetch(
        f"SELECT DISTINCT value::text AS value, format('%L', value) AS constant FROM ({rows}) AS rows LIMIT $1",
        MOST_PARTITIONS + 1,
    )
    _refuse_too_many(table, len(found))
    for row in found:
        text = "null" if row["value"] is None else row["value"]
        digest = hashlib.sha256(f"{row['value'] is None}{text}".encode()).hexdigest()[:6]
        suffix = re.sub(r"\W+", "_", text.lower())[:20]
        _make_partition(session, table.name, f"l_{suffix}_{digest}", f"IN ({row['constant']})")


def _make_partition(session: Session, table: TableName, suffix: str, bounds: str) -> None:
    name = table.beside(shortened(f"{table.name}_{suffix}"))
    session.execute(f"CREATE TABLE IF NOT EXISTS {name.sql} PARTITION OF {table.sql} FOR VALUES {bounds}")


def _next(begin: date, unit: PartitionGranularity) -> date:
    match unit:
        case PartitionGranularity.DAY:
            return date.fromordinal(begin.toordinal() + 1)
        case PartitionGranularity.MONTH:
            return date(begin.year + begin.month // 12, begin.month % 12 + 1, 1)
        case PartitionGranularity.YEAR:
            return date(begin.year + 1, 1, 1)


def _check_division(divided: Partitioning, plans: Sequence[ColumnPlan]) -> None:
    if divided.strategy is not PartitionStrategy.HASH and len(divided.columns) > 1:
        raise Terminal(
            f"{divided.strategy.value} partitions have one column, not {', '.join(divided.columns)}",
            hint="name one column, or choose the strategy hash",
            code="bad_partitioning",
        )
    kind = next(plan.table for plan in plans if plan.name == divided.columns[0])
    if divided.strategy is PartitionStrategy.RANGE and (kind.name not in MOMENTS or kind.is_array):
        raise Terminal(
            f"range partitions need a column of dates or moments; {divided.columns[0]} is {kind.sql}",
            hint="choose another column, or the strategy list or hash",
            code="bad_partitioning",
        )


def _refuse_too_many(table: Table, count: int) -> None:
    if count > MOST_PARTITIONS:
        raise Terminal(
            f"the load needs more than {MOST_PARTITIONS} partitions of {table.name.text}",
            hint="choose a coarser granularity, or the strategy hash",
            code="bad_partitioning",
        )


def column_plans(table: Table, source: Table) -> list[ColumnPlan]:
    """How the columns of a staging table become those of the target; the same types where there is none yet."""
    plans = []
    for column in source.columns:
        kept = table.column(column.name)
        plans.append(ColumnPlan(column.name, column.type, kept.type if kept else column.type))
    return plans


def staging_columns(plans: Sequence[ColumnPlan], required: Sequence[str]) -> str:
    """The columns of a staging table: as they are sent, and not null where the load must not be."""
    return ", ".join(
        f"{quoted(plan.name)} {plan.wire.sql}{' NOT NULL' if plan.not_null or plan.name in required else ''}"
        for plan in plans
    )
