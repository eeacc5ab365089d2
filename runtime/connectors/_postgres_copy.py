"""Arrow batches as PostgreSQL's binary COPY, a column at a time.

A row is the number of its fields, then for each field its length (-1 for null) and its bytes, all big-endian
(https://www.postgresql.org/docs/current/sql-copy.html). Fields of a fixed width without nulls, and all lengths, go
into numpy records; the records and the fields of other widths are then interleaved by one Arrow kernel.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runtime.connectors._postgres_numeric import numeric_records
from runtime.connectors._postgres_types import ColumnType

Records: TypeAlias = npt.NDArray[Any]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
CHUNK_BYTES: Final = 1 << 20
SMALLEST_CHUNK_BYTES: Final = 1 << 18
LONGEST_CHUNK_ROWS: Final = 65_536

_EPOCH_DAYS: Final = 10_957
_EPOCH_MICROSECONDS: Final = 946_684_800_000_000
_EMPTY: Final = pa.scalar(b"", pa.binary())
_ELEMENT_OIDS: Final[Mapping[str, int]] = {
    "bool": 16,
    "bytea": 17,
    "name": 19,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "float4": 700,
    "float8": 701,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "interval": 1186,
    "numeric": 1700,
    "uuid": 2950,
    "jsonb": 3802,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column's fields: `records` of one width (those of nulls mean nothing), or `bytes` of any (nulls empty)."""

    valid: npt.NDArray[np.bool_] | None
    records: Records | None = None
    bytes: pa.Array | None = None


def can_encode_items(name: str) -> bool:
    """Whether arrays of this type can be sent; their binary form names the type of the items."""
    return name in _ELEMENT_OIDS


def chunks(batches: Iterable[pa.RecordBatch], columns: Sequence[ColumnType]) -> Iterator[memoryview]:
    """A whole COPY stream of about 1 MiB a chunk; small batches are put together."""
    yield memoryview(HEADER)
    pending: list[memoryview] = []
    for batch in batches:
        for piece in _pieces(batch):
            pending.append(encode(piece, columns))
            if sum(map(len, pending)) >= SMALLEST_CHUNK_BYTES:
                yield _joined(pending)
                pending = []
    pending.append(memoryview(TRAILER))
    yield _joined(pending)


def encode(batch: pa.RecordBatch, columns: Sequence[ColumnType]) -> memoryview:
    """The rows of a batch whose columns have the Arrow types of `ColumnType.arrow`."""
    if not batch.num_rows:
        return memoryview(b"")
    count = np.full(batch.num_rows, len(columns), ">i2")
    parts: list[Records | pa.Array] = [count]
    for values, kind in zip(batch.columns, columns, strict=True):
        _append(parts, field_of(values, kind))
    return memoryview(_interleaved(parts, batch.num_rows).buffers()[2])


def field_of(values: pa.Array, kind: ColumnType) -> Field:
    """The fields of one column."""
    valid = np.asarray(values.is_valid()) if values.null_count else None
    if kind.is_array:
        return Field(valid, bytes=_array_bytes(values, kind.item))
    if kind.name in _TEXTS:
        return Field(valid, bytes=_filled(values))
    if kind.name == "jsonb":
        return Field(valid, bytes=_prefixed(_filled(values), valid))
    if kind.name == "numeric":
        return Field(valid, numeric_records(values))
    return Field(valid, _FIXED[kind.name](values))


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    width = max(1, batch.nbytes // max(1, batch.num_rows))
    rows = min(LONGEST_CHUNK_ROWS, max(1, CHUNK_BYTES // width))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _joined(parts: Sequence[memoryview]) -> memoryview:
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _append(parts: list[Records | pa.Array], field: Field) -> None:
    """Add a column's lengths and bytes."""
    if field.records is not None:
        width = field.records.dtype.itemsize
        if field.valid is None:
            parts += [np.full(len(field.records), width, ">i4"), field.records]
            return
        parts += [np.where(field.valid, width, -1).astype(">i4"), _only_valid(field.records, field.valid)]
        return
    assert field.bytes is not None
    lengths = pc.binary_length(field.bytes).to_numpy(zero_copy_only=False)
    known = lengths if field.valid is None else np.where(field.valid, lengths, -1)
    parts += [known.astype(">i4"), field.bytes]


def _only_valid(records: Records, valid: npt.NDArray[np.bool_]) -> pa.Array:
    """Records as bytes, none for the nulls."""
    offsets = np.zeros(len(records) + 1, np.int32)
    np.cumsum(valid * records.dtype.itemsize, out=offsets[1:])
    return _binary(offsets, np.ascontiguousarray(records[valid]))


def _interleaved(parts: Sequence[Records | pa.Array], rows: int) -> pa.Array:
    """The parts of each row one after the other; neighbouring records become one record."""
    columns: list[pa.Array] = []
    pending: list[Records] = []
    for part in parts:
        if isinstance(part, np.ndarray):
            pending.append(part)
            continue
        if pending:
            columns.append(_merged(pending, rows))
            pending = []
        columns.append(part)
    if pending:
        columns.append(_merged(pending, rows))
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, _EMPTY)


def _merged(records: Sequence[Records], rows: int) -> pa.Array:
    kind = np.dtype([(f"f{at}", one.dtype) for at, one in enumerate(records)])
    whole = np.empty(rows, kind)
    for at, one in enumerate(records):
        whole[f"f{at}"] = one
    return _binary(np.arange(0, (rows + 1) * kind.itemsize, kind.itemsize, dtype=np.int32), whole)


def _binary(offsets: Records, data: Records) -> pa.Array:
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data.view(np.uint8).reshape(-1))]
    )


def _filled(values: pa.Array) -> pa.Array:
    """Text or bytes as bytes, nulls as none."""
    stored = values.storage if isinstance(values, pa.ExtensionArray) else values
    data = stored if pa.types.is_binary(stored.type) else stored.cast(pa.binary())
    return data.fill_null(_EMPTY) if data.null_count else data


def _prefixed(data: pa.Array, valid: npt.NDArray[np.bool_] | None) -> pa.Array:
    """jsonb begins with the number of its version."""
    version = pa.scalar(b"\x01", pa.binary())
    if valid is not None:
        version = pc.if_else(pa.array(valid), version, _EMPTY)
    return pc.binary_join_element_wise(version, data, _EMPTY)


def _array_bytes(values: pa.Array, item: ColumnType) -> pa.Array:
    """One-dimensional arrays: dimensions, whether there are nulls, the items' type, length, lower bound, items."""
    offsets = np.frombuffer(values.offsets.buffers()[1], np.int32)[values.offsets.offset :][: len(values) + 1]
    lengths = np.where(np.asarray(values.is_valid()), np.diff(offsets), 0)
    head = np.empty(len(values), [("dimensions", ">i4"), ("nulls", ">i4"), ("type", ">i4")])
    head["dimensions"], head["nulls"], head["type"] = lengths > 0, 1, _ELEMENT_OIDS[item.name]
    size = np.empty(len(values), [("length", ">i4"), ("lower", ">i4")])
    size["length"], size["lower"] = lengths, 1
    items = _item_bytes(values.values, offsets, lengths, item)
    joined = pc.binary_join_element_wise(_merged([head], len(values)), _only_valid(size, lengths > 0), items, _EMPTY)
    if not values.null_count:
        return joined
    return pc.if_else(values.is_valid(), joined, _EMPTY)


def _item_bytes(items: pa.Array, offsets: Records, lengths: Records, kind: ColumnType) -> pa.Array:
    """The encoded items of each list; those of null lists are left out."""
    if not len(items):
        return _binary(np.zeros(len(lengths) + 1, np.int32), np.empty(0, np.uint8))
    parts: list[Records | pa.Array] = []
    _append(parts, field_of(items, kind))
    encoded = _interleaved(parts, len(items))
    starts = np.frombuffer(encoded.buffers()[1], np.int32)[encoded.offset :][: len(items) + 1]
    lists = pa.BinaryArray.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(np.ascontiguousarray(starts[offsets])), encoded.buffers()[2]]
    )
    return pc.if_else(pa.array(lengths > 0), lists, _EMPTY)


def _numbers(values: pa.Array, kind: str) -> Records:
    """A column's values, those of nulls as they lie in memory."""
    buffers = values.buffers()
    if buffers[1] is None:
        return np.zeros(len(values), kind)
    return np.frombuffer(buffers[1], kind)[values.offset : values.offset + len(values)]


def _shifted(kind: str, by: int) -> Callable[[pa.Array], Records]:
    return lambda values: (_numbers(values, kind) - by).astype(f">{kind}")


def _swapped(kind: str) -> Callable[[pa.Array], Records]:
    return lambda values: _numbers(values, kind).astype(f">{kind}")


def _booleans(values: pa.Array) -> Records:
    filled = values.fill_null(False) if values.null_count else values
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.uint8)


def _uuids(values: pa.Array) -> Records:
    stored = values.storage if isinstance(values, pa.ExtensionArray) else values
    return _numbers(stored, "V16")


def _intervals(values: pa.Array) -> Records:
    parts = _numbers(values, [("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])  # type: ignore[arg-type]
    made = np.empty(len(values), [("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])
    made["microseconds"] = parts["nanoseconds"] // 1000
    made["days"], made["months"] = parts["days"], parts["months"]
    return made


_TEXTS: Final = frozenset({"text", "varchar", "bpchar", "name", "citext", "enum", "json", "bytea"})
_FIXED: Final[Mapping[str, Callable[[pa.Array], Records]]] = {
    "bool": _booleans,
    "int2": _swapped("i2"),
    "int4": _swapped("i4"),
    "int8": _swapped("i8"),
    "float4": _swapped("f4"),
    "float8": _swapped("f8"),
    "date": _shifted("i4", _EPOCH_DAYS),
    "time": _swapped("i8"),
    "timestamp": _shifted("i8", _EPOCH_MICROSECONDS),
    "timestamptz": _shifted("i8", _EPOCH_MICROSECONDS),
    "interval": _intervals,
    "uuid": _uuids,
}
