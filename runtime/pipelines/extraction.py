"""Compiles an extract step: which source it reads, how, and which columns come, as far as they were discovered."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from models.errors import Invalid
from models.fields import Json, StrictModel
from models.sources import SourceType
from runtime.batches.types import DIALECT, UNKNOWN, Columns
from runtime.connectors._contract import SOURCES, Source
from runtime.connectors.catalog import Catalog, SourceEntry
from runtime.pipelines.definition import ExtractConfig
from runtime.pipelines.plan import ExtractPlan
from runtime.registry import Registry
from runtime.transforms import _types as t
from runtime.transforms._contract import Relation
from runtime.transforms._inference import Inference
from runtime.transforms._sql import parse_query, same, unknown

Sources: TypeAlias = Registry[type[Source[StrictModel]]]

T = TypeVar("T")

DEFAULT_PARTITIONS = 4
LAST_RUN = "last_run"
_LAST_RUN_TEXT = re.compile(r"(?<!:):last_run\b")
_DIALECTS = {"postgres": "postgres", "mysql": "mysql", "sqlite": "sqlite", "duckdb": DIALECT}
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")
_REDISCOVER = "discover the source again if it changed"


def compile_extract(
    config: ExtractConfig, path: str, catalog: Catalog, *, parallel: bool, plugins: Sources = SOURCES
) -> tuple[ExtractPlan, Columns | None]:
    """The plan of a read, and the columns it gives; None for those where the source was not discovered.

    Raises `Invalid`, with the path of the bad key below `path`, for an unknown or inactive source, for a query that
    is not one SELECT, and for columns and datasets that the discovered source does not have.
    """
    entry = _source(config.source_id, path, catalog)
    columns, reads_last_run = _what(config, entry, path)
    filters = _filters(config.filters, columns, f"{path}.filters")
    incremental, cursor_column = config.incremental, None
    if (incremental is not None or reads_last_run) and not plugins.get(entry.kind, f"{path}.source_id").incremental:
        raise Invalid(
            f"a {entry.kind} source cannot be read incrementally",
            hint="remove `incremental` and `:last_run`",
            path=f"{path}.incremental" if incremental is not None else f"{path}.query",
        )
    if incremental is not None:
        cursor_column = _spelled(incremental.cursor_column, columns, f"{path}.incremental.cursor_column")
    divided_by, counted = _partitions(config, entry, columns, path, parallel=parallel)
    plan = ExtractPlan(
        source=str(entry.id),
        kind=entry.kind,
        dataset=config.dataset,
        query=config.query,
        filters=filters,
        batch_rows=config.batch_size,
        cursor_column=cursor_column,
        cursor_initial=incremental.initial if incremental else None,
        cursor_lag_seconds=incremental.lag_seconds if incremental else 0,
        reads_last_run=reads_last_run,
        partition_column=divided_by,
        partitions=counted,
    )
    return plan, columns


def _source(reference: str, path: str, catalog: Catalog) -> SourceEntry:
    entry = catalog.source(reference)
    if entry is None:
        raise unknown("source", reference, [one.name for one in catalog.sources], f"{path}.source_id")
    if not entry.active:
        raise Invalid(f"the source {entry.name!r} is not active", hint="activate it", path=f"{path}.source_id")
    return entry


def _what(config: ExtractConfig, entry: SourceEntry, path: str) -> tuple[Columns | None, bool]:
    """The columns of what is read, and whether it depends on the last run."""
    if config.query is not None and config.dataset is not None:
        raise Invalid("gives both a query and a dataset", hint="remove one", path=f"{path}.dataset")
    if config.query is not None:
        return _queried(config.query, entry, f"{path}.query")
    if config.dataset is not None:
        return _dataset(config.dataset, entry, f"{path}.dataset"), False
    if entry.type is SourceType.DATABASE:
        raise Invalid("says neither a query nor a dataset", hint="name a table in `dataset`", path=path)
    only = list(entry.datasets.values())
    return only[0] if len(only) == 1 else None, False


def _dataset(dataset: str, entry: SourceEntry, path: str) -> Columns | None:
    found = next((columns for name, columns in _named(entry.datasets).items() if same(name, dataset)), None)
    if found is None and entry.datasets and entry.type is SourceType.DATABASE:
        error = unknown("dataset", dataset, list(entry.datasets), path, f" in {entry.name}")
        raise Invalid(error.message, hint=f"{error.hint}; {_REDISCOVER}", path=path)
    return found


def _named(datasets: Mapping[str, T]) -> dict[str, T]:
    """What is known of datasets by their names, those of PostgreSQL's default schema with and without it."""
    named = dict(datasets)
    for name, known in datasets.items():
        bare = name.removeprefix("public.")
        named.setdefault(bare, known)
        if "." not in bare:
            named.setdefault(f"public.{bare}", known)
    return named


def _queried(sql: str, entry: SourceEntry, path: str) -> tuple[Columns | None, bool]:
    dialect = _DIALECTS.get(entry.kind)
    if entry.type is not SourceType.DATABASE or dialect is None:
        return None, _LAST_RUN_TEXT.search(sql) is not None
    tree = parse_query(sql, path, dialect=dialect, parameters=True)
    reads_last_run = any(one.name == LAST_RUN for one in tree.find_all(exp.Placeholder, exp.Parameter))
    if not entry.datasets:
        return None, reads_last_run
    relations = [Relation(name, columns) for name, columns in _named(entry.datasets).items()]
    inference = Inference(relations, path, closed=False, typed=dialect == DIALECT)
    if dialect == "postgres":
        tree = normalize_identifiers(tree, dialect=dialect)
    try:
        return inference.columns(tree), reads_last_run
    except Invalid as error:
        raise Invalid(error.message, hint=f"{error.hint}; {_REDISCOVER}", path=error.path) from error


def _filters(filters: Mapping[str, Json], columns: Columns | None, path: str) -> dict[str, Json]:
    """The filters under their columns' names."""
    found: dict[str, Json] = {}
    for name, value in filters.items():
        column = _spelled(name, columns, f"{path}.{name}")
        if column in found:
            raise Invalid(f"filters the column {column!r} a second time", hint="join both", path=f"{path}.{name}")
        found[column] = value
        for operator in value if isinstance(value, dict) else ():
            if operator not in _OPERATORS:
                raise unknown("operator", operator, _OPERATORS, f"{path}.{name}.{operator}")
    return found


def _spelled(name: str, columns: Columns | None, path: str) -> str:
    """The column's name as it is read; connectors quote it, so that upper and lower case count there."""
    if columns is None:
        return name
    names = [one.name for one in columns]
    found = name if name in names else next((one for one in names if same(one, name)), None)
    if found is None:
        raise unknown("column", name, names, path, " in what is read")
    return found


def _divisible(name: str, columns: Columns | None, path: str) -> str:
    """The name of a column that has ranges, as it is read."""
    found = _spelled(name, columns, path)
    kind = next((t.canonical(one.type) for one in columns or () if one.name == found), UNKNOWN)
    if kind != UNKNOWN and not (t.is_number(kind) or t.is_moment(kind)):
        raise Invalid(
            f"the column {name!r} is a {kind}; ranges need a number, a date or a timestamp",
            hint="choose another column, or remove `partition`",
            path=path,
        )
    return found


def _partitions(
    config: ExtractConfig, entry: SourceEntry, columns: Columns | None, path: str, *, parallel: bool
) -> tuple[str | None, int]:
    """By which column a read is divided, and into how many parts at most.

    `parallel_execution` alone divides files among themselves, and a table by its primary key where that is one number
    or moment; any other read needs `partition`.
    """
    if config.partition is not None:
        return _divisible(config.partition.column, columns, f"{path}.partition.column"), config.partition.count
    if not parallel:
        return None, 1
    if entry.type is SourceType.FILE:
        return None, DEFAULT_PARTITIONS
    key = next((one for name, one in _named(entry.primary_keys).items() if same(name, config.dataset or "")), ())
    kind = next((t.canonical(one.type) for one in columns or () if key == (one.name,)), UNKNOWN)
    divides = entry.type is SourceType.DATABASE and (t.is_number(kind) or t.is_moment(kind))
    return (key[0], DEFAULT_PARTITIONS) if divides else (None, 1)


def spelled(names: Sequence[str], columns: Columns | None, path: str) -> tuple[str, ...]:
    """The columns of these names as they are read; raises `Invalid` for the first that is known not to be one."""
    return tuple(_spelled(name, columns, f"{path}[{index}]") for index, name in enumerate(names))
