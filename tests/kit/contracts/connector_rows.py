"""The rows that connectors are tried with: every type at its edges, nulls, and text from everywhere."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("price", pa.decimal128(12, 2)),
        ("exact", pa.decimal128(38, 10)),
        ("big", pa.int64()),
        ("ratio", pa.float64()),
        ("active", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("seen", pa.timestamp("us", "UTC")),
    ]
)

_NAMES = ["Ælfgifu Ñandú", "王小明 💍", 'say "I do",\nthen\r\ndance', "", None, "back\\slash 'quoted'", "  spaces  "]
_PRICES = [Decimal("0.10"), Decimal("9999999999.99"), Decimal("-1.05"), None]
_EXACT = [Decimal("1234567890123456789012345678.0123456789"), Decimal("-0.0000000001"), None]
_BIG = [2**63 - 1, -(2**63), 2**53 + 1, None]
_RATIOS = [0.1, -1.7976931348623157e308, 5e-324, None]
_DAYS = [date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31), None]
_MOMENTS = [datetime(2024, 7, 6, 14, 30, 0, 123456), datetime(1900, 1, 1), datetime(2024, 10, 27, 1, 30), None]

NESTED = pa.schema(
    [
        ("id", pa.int64()),
        ("venue", pa.struct([("name", pa.string()), ("capacity", pa.int64())])),
        ("tags", pa.list_(pa.string())),
    ]
)


def _cycled(values: Sequence[object], ids: Iterable[int]) -> list[object]:
    return [values[index % len(values)] for index in ids]


def rows(count: int, start: int = 0) -> pa.Table:
    """`count` rows with ids from `start`: the first few hold the edges of every type."""
    ids = range(start, start + count)
    zoned = [None if moment is None else moment.replace(tzinfo=UTC) for moment in _MOMENTS]
    columns = [
        list(ids),
        _cycled(_NAMES, ids),
        _cycled(_PRICES, ids),
        _cycled(_EXACT, ids),
        _cycled(_BIG, ids),
        _cycled(_RATIOS, ids),
        _cycled([True, False, None], ids),
        _cycled(_DAYS, ids),
        _cycled(_MOMENTS, ids),
        _cycled(zoned, ids),
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def null_rows(count: int) -> pa.Table:
    """Rows that hold nothing but their ids."""
    empty = [pa.nulls(count, field.type) for field in SCHEMA]
    return pa.Table.from_arrays([pa.array(range(count), pa.int64()), *empty[1:]], schema=SCHEMA)


def nested_rows() -> pa.Table:
    """Rows of structs and lists, some null, some with null members."""
    return pa.Table.from_pylist(
        [
            {"id": 1, "venue": {"name": "Schloß Æ", "capacity": 120}, "tags": ["garden", 'with "quotes"']},
            {"id": 2, "venue": None, "tags": None},
            {"id": 3, "venue": {"name": None, "capacity": None}, "tags": []},
        ],
        schema=NESTED,
    )


def by_id(table: pa.Table) -> pa.Table:
    """The rows in the order of their ids, in one chunk."""
    return table.sort_by("id").combine_chunks()
