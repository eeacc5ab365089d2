"""Compiles a load step: which destination it writes, in which mode, and by which keys."""

from typing import TypeAlias

from models.destinations import WriteMode
from models.errors import Invalid
from models.fields import StrictModel, parse
from runtime.batches.types import Columns
from runtime.connectors._contract import DESTINATIONS, Destination
from runtime.connectors.catalog import Catalog, DestinationEntry
from runtime.pipelines.definition import LoadConfig
from runtime.pipelines.extraction import spelled
from runtime.pipelines.plan import LoadPlan
from runtime.registry import Registry
from runtime.transforms._sql import same, unknown

Destinations: TypeAlias = Registry[type[Destination[StrictModel]]]


def compile_load(
    config: LoadConfig, path: str, catalog: Catalog, columns: Columns | None, plugins: Destinations = DESTINATIONS
) -> LoadPlan:
    """The plan of a write of rows with these columns.

    An upsert takes the keys it is given, or else the discovered primary key of its table. Raises `Invalid`, with the
    path of the bad key below `path`, for an unknown or inactive destination, for a write mode that it does not have,
    for options that it does not have, for keys and partition columns that the rows lack, and for an upsert without
    keys.
    """
    entry = _destination(config.destination_id, path, catalog)
    mode = config.write_mode or entry.write_mode
    plugin = plugins.get(entry.kind, f"{path}.destination_id")
    if mode not in plugin.write_modes:
        raise Invalid(
            f"a {entry.kind} destination cannot {mode.value}",
            hint=f"it can: {', '.join(sorted(plugin.write_modes))}",
            path=f"{path}.write_mode" if config.write_mode else f"{path}.destination_id",
        )
    _check_options(config, entry, plugin, f"{path}.options")
    keys = spelled(config.key_columns, columns, f"{path}.key_columns")
    partition_by = spelled(config.partition_by, columns, f"{path}.partition_by")
    if mode is WriteMode.UPSERT and not keys:
        keys = _primary_key(config.table_name, entry, columns, path)
    return LoadPlan(
        destination=str(entry.id),
        kind=entry.kind,
        table=config.table_name,
        write_mode=mode,
        key_columns=keys,
        partition_by=partition_by,
        options=config.options,
    )


def _check_options(
    config: LoadConfig, entry: DestinationEntry, plugin: type[Destination[StrictModel]], path: str
) -> None:
    if config.options and not plugin.Options.model_fields:
        raise Invalid(f"a load of a {entry.kind} destination has no options", hint="remove them", path=path)
    parse(plugin.Options, config.options, path)


def _destination(reference: str, path: str, catalog: Catalog) -> DestinationEntry:
    entry = catalog.destination(reference)
    where = f"{path}.destination_id"
    if entry is None:
        raise unknown("destination", reference, [one.name for one in catalog.destinations], where)
    if not entry.active:
        raise Invalid(f"the destination {entry.name!r} is not active", hint="activate it", path=where)
    return entry


def _primary_key(table: str, entry: DestinationEntry, columns: Columns | None, path: str) -> tuple[str, ...]:
    found = next((keys for name, keys in entry.primary_keys.items() if same(name, table)), None)
    if not found:
        raise Invalid(
            f"an upsert needs keys, and no primary key of the table {table!r} is known",
            hint="name the columns that identify a row in `key_columns`, or discover the destination",
            path=f"{path}.key_columns",
        )
    missing = [key for key in found if columns is not None and not any(same(one.name, key) for one in columns)]
    if missing:
        raise Invalid(
            f"the rows lack {', '.join(missing)}, the primary key of {table!r}",
            hint="add it with a `mapping` or `derive` step, or name other `key_columns`",
            path=f"{path}.key_columns",
        )
    return found
