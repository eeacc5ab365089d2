"""The Arrow schema that a sample of JSON records shows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa

from models.errors import Terminal
from runtime.connectors._json_values import Exact, Record

INT64 = 2**63
DIGITS = 38


@dataclass(slots=True)
class _Seen:
    """What a field held so far: the kind of its scalars, its members, its items, and the place that showed the kind."""

    kind: str | None = None
    place: str = ""
    widest: int = 0
    members: dict[str, "_Seen"] = field(default_factory=dict)
    items: "_Seen | None" = None


_WIDER = {("integer", "number"), ("number", "integer")}


def infer_schema(records: Iterable[tuple[str, Record]]) -> pa.Schema:
    """The schema of records, each given with its place: objects become structs, lists lists, missing fields null.

    Whole numbers are BIGINT, up to 38 digits DECIMAL(38, 0); numbers with a fraction DOUBLE; text stays text (a
    price in quotes keeps its digits). A field that was only ever null is text; an object without members JSON.
    Raises `Terminal` naming both places where a field has two types.
    """
    root = _Seen("object")
    for place, record in records:
        _see(root, record, "", place)
    return pa.schema([pa.field(name, _type(seen)) for name, seen in root.members.items()])


def _see(seen: _Seen, value: Exact, path: str, place: str) -> None:
    if value is None:
        return
    kind = _kind(value)
    if seen.kind is not None and seen.kind != kind and (seen.kind, kind) not in _WIDER:
        raise Terminal(
            f"{path} is {_article(seen.kind)} at {seen.place}, and {_article(kind)} at {place}",
            hint=f"declare the type of {re.split(r'[.[]', path)[0]} (VARCHAR takes scalars, JSON anything)",
            code="type_conflict",
        )
    if seen.kind is None or kind == "number":
        seen.kind, seen.place = kind, place
    if isinstance(value, dict):
        for name, member in value.items():
            _see(seen.members.setdefault(name, _Seen()), member, f"{path}.{name}" if path else name, place)
    elif isinstance(value, list):
        seen.items = seen.items or _Seen()
        for one in value:
            _see(seen.items, one, f"{path}[]", place)
    elif isinstance(value, int):
        seen.widest = max(seen.widest, abs(value))


def _kind(value: Exact) -> str:
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float() | Decimal():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case _:
            return "object"


def _article(kind: str) -> str:
    return kind if kind == "text" else f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _type(seen: _Seen) -> pa.DataType:
    match seen.kind:
        case "boolean":
            return pa.bool_()
        case "integer" if seen.widest < INT64:
            return pa.int64()
        case "integer" if seen.widest < 10**DIGITS:
            return pa.decimal128(DIGITS, 0)
        case "integer" | "number":
            return pa.float64()
        case "list":
            return pa.list_(_type(seen.items or _Seen()))
        case "object" if seen.members:
            return pa.struct([pa.field(name, _type(member)) for name, member in seen.members.items()])
        case "object":
            return pa.json_(pa.string())
        case _:
            return pa.string()
