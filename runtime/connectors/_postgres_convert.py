"""How the columns of a load become those of a table: sent as the table's type, or as their own and cast there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import Terminal
from runtime.batches.engine import Engine, EngineLimits
from runtime.connectors._postgres_copy import can_encode_items
from runtime.connectors._postgres_names import quoted
from runtime.connectors._postgres_types import (
    INTEGERS,
    JSON,
    TEXTS,
    ColumnType,
    arrow_of,
    family,
    is_list,
    is_nested,
    natural_type,
)

_NUMBERS: Final = INTEGERS | {"numeric", "float4", "float8"}
_MOMENTS: Final = frozenset({"timestamp", "timestamptz"})
_DIRECT: Final[Mapping[str, frozenset[str]]] = {
    "bool": frozenset({"bool"}) | TEXTS,
    "integer": _NUMBERS | TEXTS,
    "decimal": _NUMBERS | TEXTS,
    "float": INTEGERS | {"float4", "float8"} | TEXTS,
    "text": TEXTS | {"json", "jsonb", "uuid"},
    "bytea": frozenset({"bytea"}),
    "date": _MOMENTS | {"date"} | TEXTS,
    "time": TEXTS | {"time"},
    "timestamp": _MOMENTS | TEXTS,
    "interval": frozenset({"interval"}),
    "uuid": TEXTS | {"uuid"},
    "json": TEXTS | {"json", "jsonb"},
    "nested": TEXTS | {"json", "jsonb"},
}
_FIRST_DAY: Final = -2_440_588
_FIRST_MICROSECOND: Final = _FIRST_DAY * 86_400_000_000
_CAST_THERE: Final[Mapping[str, frozenset[str]]] = {"float": frozenset({"numeric"})}


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A column of a load: the type it is sent as, and the table's where that is another (it is cast there)."""

    name: str
    wire: ColumnType
    table: ColumnType
    not_null: bool = False

    @property
    def is_direct(self) -> bool:
        """Whether it is sent as the table has it."""
        return self.wire == self.table

    @property
    def expression(self) -> str:
        """The column of staging as the table takes it."""
        return quoted(self.name) if self.is_direct else f"{quoted(self.name)}::{self.table.sql}"


def wire_type(given: pa.DataType, table: ColumnType) -> ColumnType | None:
    """The type that a column is sent as; None where its values cannot become the table's without loss."""
    kind = family(given)
    if kind == "null":
        return table if _is_sent(table) else natural_type(given)
    if kind == "list":
        return _list_wire_type(given, table)
    if not table.is_array and _is_sent(table) and table.name in _DIRECT[kind]:
        return table
    if kind == "text" or (not table.is_array and table.name in _CAST_THERE.get(kind, ())):
        return natural_type(given)
    if pa.types.is_fixed_size_binary(given) and given.byte_width == 16 and table.name == "uuid":
        return table
    return None


def _list_wire_type(given: pa.DataType, table: ColumnType) -> ColumnType | None:
    if not table.is_array:
        return table if table.name in ("json", "jsonb") else None
    item = wire_type(given.value_type, table.item)
    if item is None:
        return None
    sent = item if can_encode_items(item.name) else natural_type(given.value_type)
    return ColumnType(sent.name, f"{sent.sql}[]", sent.precision, sent.scale, is_array=True)


def _is_sent(kind: ColumnType) -> bool:
    known = kind.name in _NUMBERS | TEXTS | _MOMENTS
    known = known or kind.name in ("bool", "bytea", "date", "time", "interval", "uuid", "json", "jsonb")
    return known and (not kind.is_array or can_encode_items(kind.name))


def converted(
    rows: pa.RecordBatchReader, plans: Sequence[ColumnPlan], required: Iterable[str] = ()
) -> Iterator[pa.RecordBatch]:
    """The batches of a load with the values that its columns are sent as.

    Raises `Terminal` naming the column and a sample of a value that does not fit, or that a column which must not be
    null (or is named in `required`) is.
    """
    must = {plan.name for plan in plans if plan.not_null} | set(required)
    nested = [plan.name for plan in plans if _is_written_as_json(rows.schema.field(plan.name).type, plan)]
    with ExitStack() as resources:
        engine = Engine(EngineLimits(threads=1, memory_mb=512)) if nested else None
        if engine is not None:
            resources.callback(engine.close)
        for batch in rows:
            flat = batch if engine is None else _flattened(batch, nested, engine)
            columns = [_column(flat.column(plan.name), plan, plan.name in must) for plan in plans]
            yield pa.RecordBatch.from_arrays(columns, names=[plan.name for plan in plans])


def _is_written_as_json(given: pa.DataType, plan: ColumnPlan) -> bool:
    return is_nested(given) or (is_list(given) and not plan.wire.is_array)


def _flattened(batch: pa.RecordBatch, nested: Sequence[str], engine: Engine) -> pa.RecordBatch:
    """The batch with structs, maps and lists for JSON columns as JSON text, which DuckDB writes."""
    listed = ", ".join(f"to_json({quoted(name)})::VARCHAR AS {quoted(name)}" for name in nested)
    chosen = pa.Table.from_batches([batch.select(list(nested))])
    texts = engine.table(f"SELECT {listed} FROM load_rows", {"load_rows": chosen}).combine_chunks()
    for name in nested:
        column = texts.column(name)
        values = column.chunk(0) if column.num_chunks else pa.array([], pa.string())
        batch = batch.set_column(batch.schema.get_field_index(name), name, values)
    return batch


def _column(values: pa.Array, plan: ColumnPlan, must: bool) -> pa.Array:
    if must and values.null_count:
        raise Terminal(
            f"column {plan.name} must not be null, and {values.null_count} rows of a batch are",
            hint="fill the nulls or filter them out in a step before",
            path=plan.name,
            code="null_value",
        )
    wanted = arrow_of(plan.wire, values.type)
    try:
        return _cast(values, wanted, plan)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
        sample = _first_unfit(values, wanted, plan)
    raise Terminal(
        f"column {plan.name}: {sample} does not fit into {plan.wire.sql}",
        hint="make the table's column wider, or cast, round or filter the value in a step before",
        path=plan.name,
        code="bad_value" if wanted == pa.uuid() else "overflow",
    )


def _cast(values: pa.Array, wanted: pa.DataType, plan: ColumnPlan) -> pa.Array:
    """The values as the wanted type, exactly; raises ArrowInvalid for one that is not."""
    given = values.type
    if given == wanted and not pa.types.is_temporal(given):
        return values
    if pa.types.is_dictionary(given):
        return _cast(values.dictionary_decode(), wanted, plan)
    if pa.types.is_null(given):
        return pa.nulls(len(values), wanted)
    if wanted == JSON:
        return pa.ExtensionArray.from_storage(JSON, _text(values))
    if wanted == pa.string():
        return _text(values)
    if wanted == pa.uuid():
        if family(given) == "text":
            return _uuids(_text(values))
        return pa.ExtensionArray.from_storage(pa.uuid(), values.cast(pa.binary(16)))
    if pa.types.is_list(wanted):
        return _cast_list(values, wanted, plan)
    if pa.types.is_timestamp(wanted):
        kind = pa.timestamp("us", given.tz if pa.types.is_timestamp(given) else None)
        return _not_before(values.cast(kind).view(wanted), _FIRST_MICROSECOND)
    if pa.types.is_date(wanted):
        return _not_before(values.cast(wanted), _FIRST_DAY)
    if pa.types.is_interval(wanted):
        return values if pa.types.is_interval(given) else _interval(values)
    if pa.types.is_decimal(wanted) and pa.types.is_integer(given):
        return values.cast(pa.decimal128(20 if given == pa.uint64() else 19, 0)).cast(wanted)
    made = values.cast(wanted)
    if wanted == pa.float32() and _has_new_infinity(values, made):
        raise pa.ArrowInvalid("beyond the range of real")
    return made


def _cast_list(values: pa.Array, wanted: pa.DataType, plan: ColumnPlan) -> pa.Array:
    plain = values if pa.types.is_list(values.type) else values.cast(pa.list_(values.type.value_type))
    mask = plain.is_null() if plain.null_count else None
    if plain.offset:
        plain = pa.concat_arrays([plain, plain.slice(0, 0)])
    return pa.ListArray.from_arrays(plain.offsets, _cast(plain.values, wanted.value_type, plan), mask=mask)


def _text(values: pa.Array) -> pa.Array:
    if isinstance(values, pa.UuidArray):
        return pa.array([None if one is None else str(one) for one in values.to_pylist()], pa.string())
    stored = values.storage if isinstance(values, pa.ExtensionArray) else values
    return stored.cast(pa.string())


def _uuids(texts: pa.Array) -> pa.Array:
    """UUIDs from their text, with or without hyphens; raises ArrowInvalid for text that is none."""
    plain = pc.replace_substring(texts, "-", "").fill_null("0" * 32)
    digits = "".join(plain.to_pylist())
    try:
        data = bytes.fromhex(digits)
    except ValueError as error:
        raise pa.ArrowInvalid(str(error)) from None
    if len(data) != 16 * len(plain) or not pc.all(pc.equal(pc.binary_length(plain), 32), min_count=0).as_py():
        raise pa.ArrowInvalid("not 32 hexadecimal digits")
    valid = None if not texts.null_count else pc.invert(texts.is_null()).buffers()[1]
    stored = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(plain), [valid, pa.py_buffer(data)])
    return pa.ExtensionArray.from_storage(pa.uuid(), stored)


def _interval(values: pa.Array) -> pa.Array:
    """Durations as intervals of microseconds."""
    micros = values.cast(pa.duration("us")).cast(pa.int64()).to_pylist()
    made = [None if one is None else pa.MonthDayNano([0, 0, one * 1000]) for one in micros]
    return pa.array(made, pa.month_day_nano_interval())


def _not_before(values: pa.Array, first: int) -> pa.Array:
    """Moments since the first that PostgreSQL knows (4714 BC): earlier ones would wrap into its infinity."""
    least = pc.min(values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())).as_py()
    if least is not None and least < first:
        raise pa.ArrowInvalid("before 4714 BC")
    return values


def _has_new_infinity(before: pa.Array, after: pa.Array) -> bool:
    return bool(pc.any(pc.and_(pc.is_inf(after), pc.is_finite(before))).as_py())


def _first_unfit(values: pa.Array, wanted: pa.DataType, plan: ColumnPlan) -> str:
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _cast(values.slice(low, middle - low), wanted, plan)
            low = middle
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
            high = middle
    try:
        return str(values[low])[:60]
    except OverflowError:
        return "a moment beyond Python's years"
