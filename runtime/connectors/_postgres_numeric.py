"""Decimals in PostgreSQL's binary form: digits to the base of 10,000 from the point outwards, as fixed-width records.

The server strips leading and trailing zero digits, so that all values of a column may have the same number of them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

BASE = 10_000
NEGATIVE = 0x4000


def numeric_records(values: pa.Array) -> npt.NDArray[Any]:
    """The records of a decimal128 column of any precision up to 38 and a scale from 0 to 38; nulls mean nothing."""
    precision, scale = values.type.precision, values.type.scale
    whole_digits = -(-(precision - scale) // 4)
    part_digits = -(-scale // 4)
    digits = whole_digits + part_digits
    fields = [("count", ">i2"), ("weight", ">i2"), ("sign", ">i2"), ("scale", ">i2"), ("digits", ">i2", (digits,))]
    records = np.zeros(len(values), fields)
    records["count"], records["weight"], records["scale"] = digits, whole_digits - 1, scale
    magnitude, negative = _magnitudes(values)
    records["sign"] = np.where(negative, NEGATIVE, 0)
    for place in range(digits - 1, -1, -1):
        magnitude = _take_digit(records["digits"], place, magnitude, _digits_at(place, digits, scale))
    return records


def _digits_at(place: int, digits: int, scale: int) -> int:
    """How many decimal digits the last place holds; all others hold four."""
    return (scale % 4 or 4) if place == digits - 1 and scale else 4


def _take_digit(into: npt.NDArray[Any], place: int, magnitude: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    rest = magnitude // 10**width
    into[:, place] = ((magnitude - rest * 10**width) * 10 ** (4 - width)).astype(np.int16)
    return np.asarray(rest)


def _magnitudes(values: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Absolute unscaled values, as uint64 where all fit and as Python integers where not, and which are negative."""
    buffer = values.buffers()[1]
    if buffer is None:
        return np.zeros(len(values), np.uint64), np.zeros(len(values), np.bool_)
    words = np.frombuffer(buffer, np.int64).reshape(-1, 2)[values.offset : values.offset + len(values)]
    if values.null_count:
        words = np.where(np.asarray(values.is_valid())[:, None], words, 0)
    low, high = words[:, 0], words[:, 1]
    if bool(((low >> 63) == high).all()):
        return np.abs(low).view(np.uint64), low < 0
    unscaled = [(int(above) << 64) | (int(below) & 0xFFFF_FFFF_FFFF_FFFF) for below, above in words]
    return np.array([abs(one) for one in unscaled], dtype=object), high < 0
