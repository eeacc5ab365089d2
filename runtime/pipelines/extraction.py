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
from runtime.transforms._columns import has
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
    _check_filters(config.filters, columns, f"{path}.filters")
    incremental = config.incremental
    if (incremental is not None or reads_last_run) and not plugins.get(entry.kind, f"{path}.source_id").incremental:
        raise Invalid(
            f"a {entry.kind} source cannot be read incrementally",
            hint="remove `incremental` and `:last_run`",
            path=f"{path}.incremental" if incremental is not None else f"{path}.query",
        )
    if incremental is not None:
        _require(incremental.cursor_column, columns, f"{path}.incremental.cursor_column")
    if config.partition is not None:
        _check_partition(config.partition.column, columns, f"{path}.partition.column")
    divided_by, counted = _partitions(config, entry, columns, parallel=parallel)
    plan = ExtractPlan(
        source=str(entry.id),
        kind=entry.kind,
        dataset=config.dataset,
        query=config.query,
        filters=config.filters,
        batch_rows=config.batch_size,
        cursor_column=incremental.cursor_column if incremental else None,
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


def _check_filters(filters: Mapping[str, Json], columns: Columns | None, path: str) -> None:
    for name, value in filters.items():
        _require(name, columns, f"{path}.{name}")
        for operator in value if isinstance(value, dict) else ():
            if operator not in _OPERATORS:
                raise unknown("operator", operator, _OPERATORS, f"{path}.{name}.{operator}")


def _require(name: str, columns: Columns | None, path: str) -> None:
    if columns is not None and not has(columns, name):
        raise unknown("column", name, [one.name for one in columns], path, " in what is read")


def _check_partition(name: str, columns: Columns | None, path: str) -> None:
    _require(name, columns, path)
    kind = next((t.canonical(one.type) for one in columns or () if same(one.name, name)), UNKNOWN)
    if kind != UNKNOWN and not (t.is_number(kind) or t.is_moment(kind)):
        raise Invalid(
            f"the column {name!r} is a {kind}; ranges need a number, a date or a timestamp",
            hint="choose another column, or remove `partition`",
            path=path,
        )


def _partitions(
    config: ExtractConfig, entry: SourceEntry, columns: Columns | None, *, parallel: bool
) -> tuple[str | None, int]:
    """By which column a read is divided, and into how many parts at most.

    `parallel_execution` alone divides files among themselves, and a table by its primary key where that is one number
    or moment; any other read needs `partition`.
    """
    if config.partition is not None:
        return config.partition.column, config.partition.count
    if not parallel:
        return None, 1
    if entry.type is SourceType.FILE:
        return None, DEFAULT_PARTITIONS
    key = next((one for name, one in _named(entry.primary_keys).items() if same(name, config.dataset or "")), ())
    kind = next((t.canonical(one.type) for one in columns or () if key == (one.name,)), UNKNOWN)
    divides = entry.type is SourceType.DATABASE and (t.is_number(kind) or t.is_moment(kind))
    return (key[0], DEFAULT_PARTITIONS) if divides else (None, 1)


def require_all(names: Sequence[str], columns: Columns | None, path: str) -> None:
    """Raise `Invalid` for the first of the names that is known not to be a column."""
    for index, name in enumerate(names):
        _require(name, columns, f"{path}[{index}]")
