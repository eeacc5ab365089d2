"""Arrow columns drawn and written in whole, never row by row."""

import re
from collections.abc import Sequence
from typing import TypeAlias
from unicodedata import combining, normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Booleans: TypeAlias = NDArray[np.bool_]

DAY = 86_400
MOMENT = pa.timestamp("us", tz="UTC")
MONEY = pa.decimal128(12, 2)


def chosen(words: Sequence[str | None], picks: Integers) -> pa.Array:
    """The words at the picked positions."""
    return pa.array(words, pa.string()).take(pa.array(picks))


def drawn(random: np.random.Generator, words: Sequence[str], rows: int, weights: Sequence[float] = ()) -> pa.Array:
    """Words drawn at random, evenly unless weights (which sum to 1) are given."""
    if weights:
        return chosen(words, random.choice(len(words), rows, p=list(weights)))
    return chosen(words, random.integers(0, len(words), rows))


def text(values: Integers | pa.Array) -> pa.Array:
    """Whole numbers, or dates as ISO 8601, in text."""
    return pc.cast(pa.array(values) if isinstance(values, np.ndarray) else values, pa.string())


def padded(values: Integers, width: int) -> pa.Array:
    """Whole numbers in text with zeros before them."""
    return pc.utf8_lpad(text(values), width=width, padding="0")


def joined(*parts: pa.Array | str) -> pa.Array:
    """The parts of each row one after the other; null where a part is."""
    scalars = [pa.scalar(part) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*scalars, "")


def dates(days: Integers) -> pa.Array:
    """Days since 1970 as dates."""
    return pa.array(days.astype(np.int32), pa.int32()).cast(pa.date32())


def moments(seconds: Integers) -> pa.Array:
    """Seconds since 1970 as timestamps in UTC."""
    return pa.array(seconds * 1_000_000, pa.int64()).cast(MOMENT)


def money(cents: Integers) -> pa.Array:
    """Hundredths as DECIMAL(12, 2), by writing Arrow's own 16 bytes, little-endian, for each value."""
    words = np.empty((len(cents), 2), dtype="<i8")
    words[:, 0] = cents
    words[:, 1] = cents >> 63
    return pa.Array.from_buffers(MONEY, len(cents), [None, pa.py_buffer(words)])


def cents(amounts: pa.Array | pa.ChunkedArray) -> Integers:
    """DECIMAL(12, 2) as hundredths."""
    one = amounts.combine_chunks() if isinstance(amounts, pa.ChunkedArray) else amounts
    words = np.frombuffer(one.buffers()[1], dtype="<i8").reshape(-1, 2)
    found: Integers = words[one.offset : one.offset + len(one), 0].astype(np.int64)
    return found


def where(condition: Booleans, values: pa.Array) -> pa.Array:
    """The values for which the condition holds, null elsewhere."""
    return pc.if_else(pa.array(condition), values, pa.scalar(None, values.type))


def numbers(column: pa.ChunkedArray | pa.Array) -> Integers:
    """Integers or dates (as days since 1970) without nulls, for arithmetic."""
    kind = pa.int32() if pa.types.is_date32(column.type) else column.type
    found: Integers = column.cast(kind).to_numpy().astype(np.int64)
    return found


def slugs(words: Sequence[str]) -> list[str]:
    """Words as mail addresses hold them: lower case, plain letters, hyphens for all else."""
    plain = ("".join(letter for letter in normalize("NFD", word) if not combining(letter)) for word in words)
    return [re.sub("[^a-z0-9]+", "-", word.lower()).strip("-") for word in plain]
