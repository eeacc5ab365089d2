"""DuckDB's arithmetic of types: what two types become together, as far as it is certain."""

import re
from collections.abc import Iterable
from functools import lru_cache

from sqlglot import exp

from models.errors import Invalid
from runtime.batches.types import DIALECT, UNKNOWN, parse_type

NULL = "NULL"
BOOLEAN, INT, BIGINT, HUGEINT, DOUBLE, FLOAT = "BOOLEAN", "INT", "BIGINT", "INT128", "DOUBLE", "FLOAT"
VARCHAR, JSON, BLOB, UUID = "VARCHAR", "JSON", "BLOB", "UUID"
DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL = "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"

INTEGERS = ("TINYINT", "SMALLINT", INT, BIGINT, HUGEINT)
_DIGITS = {"TINYINT": 3, "SMALLINT": 5, INT: 10, BIGINT: 19}
_MOST_DIGITS = 38
_MACHINE_DIGITS = 18
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
_RESPELLED = re.compile(r'(?<!")\b(TEXT|REAL)\b(?!")')
_SPELLINGS = {"TEXT": "VARCHAR", "REAL": "FLOAT"}


@lru_cache(maxsize=4096)
def canonical(type_name: str) -> str:
    """A type's one spelling; `UNKNOWN` for a name that is not a type."""
    if type_name in (UNKNOWN, NULL, '"NULL"'):
        return NULL if type_name != UNKNOWN else UNKNOWN
    try:
        return spelled(parse_type(type_name))
    except Invalid:
        return UNKNOWN


def spelled(kind: exp.DataType) -> str:
    """The one spelling of a parsed type."""
    if kind.is_type(exp.DType.DECIMAL) and not kind.expressions:
        return "DECIMAL(18, 3)"
    if kind.is_type(*exp.DataType.TEXT_TYPES):
        return VARCHAR
    return _RESPELLED.sub(lambda found: _SPELLINGS[found[1]], kind.sql(DIALECT, identify=True))


def decimal(type_name: str) -> tuple[int, int] | None:
    """Precision and scale of a decimal, or of an integer taken as one; None for other types."""
    found = _DECIMAL.fullmatch(type_name)
    if found:
        return int(found[1]), int(found[2])
    digits = _DIGITS.get(type_name)
    return None if digits is None else (digits, 0)


def is_integer(type_name: str) -> bool:
    """Whether it is one of the signed integer types."""
    return type_name in INTEGERS


def is_decimal(type_name: str) -> bool:
    """Whether it is a decimal with its own precision and scale."""
    return _DECIMAL.fullmatch(type_name) is not None


def is_number(type_name: str) -> bool:
    """Whether it is a signed number."""
    return is_integer(type_name) or is_decimal(type_name) or type_name in (FLOAT, DOUBLE)


def is_moment(type_name: str) -> bool:
    """Whether it is a date or a timestamp."""
    return type_name in (DATE, TIMESTAMP, TIMESTAMPTZ)


def element(type_name: str) -> str:
    """The type of a list's elements."""
    return type_name[:-2] if type_name.endswith("[]") else UNKNOWN


@lru_cache(maxsize=1024)
def fields(type_name: str) -> dict[str, str] | None:
    """The fields of a struct with their types; None for other types."""
    if not type_name.startswith("STRUCT("):
        return None
    return {field.name: spelled(field.args["kind"]) for field in parse_type(type_name).expressions}


def field(type_name: str, wanted: str) -> str:
    """The type of a struct's field, or JSON for a JSON's."""
    if type_name == JSON:
        return JSON
    members = fields(type_name) or {}
    return next((kind for member, kind in members.items() if member.lower() == wanted.lower()), UNKNOWN)


def combined(types: Iterable[str]) -> str:
    """The type that values of all these types take together (CASE, COALESCE, UNION)."""
    result = NULL
    for one in types:
        result = _pair(result, one)
    return result


def _pair(one: str, other: str) -> str:
    if one == other or other == NULL:
        return one
    if one == NULL:
        return other
    if UNKNOWN in (one, other):
        return UNKNOWN
    if is_integer(one) and is_integer(other):
        return max(one, other, key=INTEGERS.index)
    if is_number(one) and is_number(other):
        return _numbers(one, other)
    if {one, other} == {DATE, TIMESTAMP}:
        return TIMESTAMP
    return UNKNOWN


def _numbers(one: str, other: str) -> str:
    if DOUBLE in (one, other):
        return DOUBLE
    if FLOAT in (one, other):
        return FLOAT
    left, right = decimal(one), decimal(other)
    if left is None or right is None:
        return UNKNOWN
    scale = max(left[1], right[1])
    whole = max(left[0] - left[1], right[0] - right[1])
    return f"DECIMAL({whole + scale}, {scale})" if whole + scale <= _MOST_DIGITS else UNKNOWN


def added(one: str, other: str) -> str:
    """The type of a sum or difference of two numbers."""
    if is_integer(one) and is_integer(other):
        return combined((one, other))
    if not (is_decimal(one) or is_decimal(other)):
        return _numbers(one, other) if is_number(one) and is_number(other) else UNKNOWN
    left, right = decimal(one), decimal(other)
    if left is None or right is None:
        return _numbers(one, other) if is_number(one) and is_number(other) else UNKNOWN
    scale = max(left[1], right[1])
    precision = scale + max(left[0] - left[1], right[0] - right[1]) + 1
    return f"DECIMAL({min(precision, _MOST_DIGITS)}, {scale})"


def multiplied(one: str, other: str) -> str:
    """The type of a product of two numbers; of two decimals in 64 bits it is one in 64 bits."""
    if is_integer(one) and is_integer(other):
        return combined((one, other))
    if not (is_number(one) and is_number(other)):
        return UNKNOWN
    if not (is_decimal(one) or is_decimal(other)) or {one, other} & {FLOAT, DOUBLE}:
        return _numbers(one, other)
    left, right = decimal(one), decimal(other)
    if left is None or right is None:
        return UNKNOWN
    precision, scale = left[0] + right[0], left[1] + right[1]
    if precision > _MACHINE_DIGITS and max(left[0], right[0]) <= _MACHINE_DIGITS:
        precision = _MACHINE_DIGITS
    return f"DECIMAL({min(precision, _MOST_DIGITS)}, {scale})" if scale <= precision else UNKNOWN


def summed(kind: str) -> str:
    """The type of `sum`."""
    if kind in INTEGERS:
        return HUGEINT
    parts = decimal(kind)
    if parts is not None:
        return f"DECIMAL({_MOST_DIGITS}, {parts[1]})"
    return DOUBLE if kind in (FLOAT, DOUBLE) else UNKNOWN
