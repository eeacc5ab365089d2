"""Whether a load's columns fit the table that is there, and which types the table keeps."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from models.destinations import PartitionConfig, WriteMode
from models.errors import Invalid, Terminal
from models.fields import parse
from runtime.batches.types import columns_of, schema_of, sql_type
from runtime.connectors._contract import Target
from runtime.connectors._manifest import Manifest


def divided(target: Target, columns: Sequence[str], current: Manifest | None) -> Target:
    """The target with the columns that divide its files.

    Where the load names none, a table whose rows stay keeps its own, and another one gets those of the destination if
    the load has them all. Files are divided by value: strategy, granularity and buckets are for databases.
    """
    if target.partition_by:
        return target
    if current is not None and target.write_mode is not WriteMode.OVERWRITE:
        return replace(target, partition_by=current.partition_by)
    config = parse(PartitionConfig, dict(target.partition), "partition_config")
    return replace(target, partition_by=config.columns) if set(config.columns) <= set(columns) else target


def table_schema(target: Target, incoming: pa.Schema, current: Manifest | None) -> pa.Schema:
    """The schema that the table has after the load: its own where rows stay, else the load's.

    Raises `Terminal` that names every column which does not fit, and the keys and partition columns that are absent.
    """
    problems = _problems_of_names(target, incoming)
    replaced = current is None or target.write_mode is WriteMode.OVERWRITE
    if current is None or replaced:
        schema = _storable(incoming, problems)
    else:
        schema = current.schema
        problems += _problems_of_columns(target, incoming, current)
    if problems:
        raise Terminal(
            f"the load does not fit the table {target.table}: {'; '.join(problems)}",
            hint="map, cast or drop the columns in a step before the load, or load with write_mode overwrite",
            code="schema_mismatch",
        )
    return schema


def _problems_of_names(target: Target, incoming: pa.Schema) -> list[str]:
    names = incoming.names
    problems = [f"{name} is there more than once" for name in sorted({n for n in names if names.count(n) > 1})]
    if target.write_mode is WriteMode.UPSERT and not target.key_columns:
        problems.append("an upsert needs key_columns")
    keys = target.key_columns if target.write_mode is WriteMode.UPSERT else ()
    problems += [f"the key column {name} is missing" for name in keys if name not in names]
    problems += [f"partition_by names {name}, which is missing" for name in target.partition_by if name not in names]
    if set(target.partition_by) == set(names):
        problems.append("partition_by leaves no column for the files")
    return problems


def _storable(incoming: pa.Schema, problems: list[str]) -> pa.Schema:
    """The types that a new table gets; columns whose type is not known are text."""
    try:
        known = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in incoming]
        return schema_of(columns_of(pa.schema(known)))
    except Invalid as error:
        problems.append(error.message)
        return incoming


def _problems_of_columns(target: Target, incoming: pa.Schema, current: Manifest) -> list[str]:
    table = current.schema
    problems = []
    if set(target.partition_by) != set(current.partition_by):
        problems.append(f"the table is partitioned by {', '.join(current.partition_by) or 'nothing'}")
    for field in incoming:
        if field.name not in table.names:
            problems.append(f"the table has no column {field.name}")
        elif not is_castable(field.type, table.field(field.name).type):
            kind = sql_type(table.field(field.name).type)
            problems.append(f"{field.name} is {sql_type(field.type)}, the table has {kind}")
    absent = [field.name for field in table if field.name not in incoming.names and not field.nullable]
    return problems + [f"{name} is missing and the table needs a value" for name in absent]


def is_castable(given: pa.DataType, kept: pa.DataType) -> bool:
    """Whether values of one type can become the other's without losing anything but range, which each value shows."""
    if pa.types.is_dictionary(given):
        return is_castable(given.value_type, kept)
    if given == kept or pa.types.is_null(given) or sql_type(given) == sql_type(kept):
        return True
    if pa.types.is_integer(given):
        return bool(pa.types.is_integer(kept) or pa.types.is_floating(kept) or pa.types.is_decimal(kept))
    if pa.types.is_decimal(given):
        return bool(pa.types.is_decimal(kept))
    if pa.types.is_floating(given):
        return bool(pa.types.is_floating(kept))
    if pa.types.is_date(given):
        return bool(pa.types.is_timestamp(kept) and kept.tz is None)
    if pa.types.is_timestamp(given):
        return bool(pa.types.is_timestamp(kept) and (given.tz is None) == (kept.tz is None))
    return _is_text(given) and _is_text(kept)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or isinstance(kind, pa.JsonType))
