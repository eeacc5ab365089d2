"""Columns as configurations name them: `price`, `venue.name` (a struct's field or a JSON's), `guests[0].name`."""

import re
from collections.abc import Iterable

from sqlglot import exp

from models.errors import Invalid
from runtime.batches.types import UNKNOWN, Columns
from runtime.transforms import _types as t
from runtime.transforms._contract import Relation
from runtime.transforms._inference import Inference
from runtime.transforms._sql import column, literal, same, table, unknown

_PART = re.compile(r'"((?:[^"]|"")+)"|\[(\d+)\]|([^.\[\]"]+)')


def known_name(relation: Relation, name: str, path: str) -> str:
    """The column's name as the relation spells it; raises `Invalid` if the relation is known not to have it."""
    if relation.columns is None:
        return name
    for one in relation.columns:
        if same(one.name, name):
            return one.name
    raise unknown("column", name, [one.name for one in relation.columns], path, f" in {relation.name}")


def known_type(relation: Relation, name: str) -> str:
    """The column's type, `UNKNOWN` where it cannot be told."""
    return next((t.canonical(one.type) for one in relation.columns or () if same(one.name, name)), UNKNOWN)


def has(columns: Columns, name: str) -> bool:
    """Whether a column of that name is among them."""
    return any(same(one.name, name) for one in columns)


def check(expression: exp.Expr, relation: Relation, path: str) -> str:
    """The type of an expression over the relation; raises `Invalid` for a column that it does not have."""
    item = exp.Alias(this=expression.copy(), alias=exp.to_identifier("value"))
    query = exp.Select(expressions=[item]).from_(table(relation.name))
    columns = Inference([relation], path).columns(query)
    return columns[0].type if columns else UNKNOWN


def at_path(relation: Relation, text: str, path: str) -> exp.Expr:
    """The value at a column path.

    A struct's field keeps its type. A value inside JSON, or inside a column whose type is not known before the run,
    comes as text (an object or a list as JSON text). Raises `Invalid` for a column or a field that is not there.
    """
    if relation.columns is not None and has(relation.columns, text):
        return column(known_name(relation, text, path))
    first, rest = _split(text, path)
    name = known_name(relation, first, path)
    if not rest:
        return column(name)
    return _descend(column(name), known_type(relation, name), rest, text, path)


def _split(text: str, path: str) -> tuple[str, list[str | int]]:
    parts: list[str | int] = []
    end = 0
    for found in _PART.finditer(text):
        between = text[end : found.start()]
        if between not in ("", ".") or (between == "" and parts and found[2] is None):
            break
        parts.append(int(found[2]) if found[2] else (found[1] or "").replace('""', '"') or found[3].strip())
        end = found.end()
    if end != len(text) or not parts or not isinstance(parts[0], str):
        raise Invalid(
            f"{text!r} is not a column path", hint="write `price`, `venue.name` or `guests[0].name`", path=path
        )
    return parts[0], parts[1:]


def _descend(value: exp.Expr, kind: str, rest: list[str | int], text: str, path: str) -> exp.Expr:
    while rest and (t.fields(kind) is not None or kind.endswith("[]")):
        value, kind = _step(value, kind, rest[0], text, path)
        rest = rest[1:]
    if not rest:
        return value
    if kind == t.JSON or kind == t.VARCHAR:
        return _json_text(value, rest)
    if kind == UNKNOWN:
        return _any_text(value, rest)
    raise Invalid(f"{text!r} goes into a {kind}, which has no fields", hint="name the column alone", path=path)


def _step(value: exp.Expr, kind: str, part: str | int, text: str, path: str) -> tuple[exp.Expr, str]:
    members = t.fields(kind)
    if isinstance(part, int) and members is None:
        return _call("list_extract", value, literal(part + 1)), t.element(kind)
    if isinstance(part, int) or members is None:
        wanted = "a number in brackets" if members is None else "a field's name"
        raise Invalid(f"{text!r} needs {wanted} at {part!r}", hint="as in `guests[0].name`", path=path)
    for member, inner in members.items():
        if same(member, part):
            return _call("struct_extract", value, literal(member)), inner
    raise unknown("field", part, list(members), path, f" in {text!r}")


def _json_text(value: exp.Expr, rest: Iterable[str | int]) -> exp.Expr:
    keys = [f"[{part}]" if isinstance(part, int) else '."{}"'.format(part.replace('"', "")) for part in rest]
    return _call("json_extract_string", value, literal("$" + "".join(keys)))


def _any_text(value: exp.Expr, rest: list[str | int]) -> exp.Expr:
    """Text out of whatever the column turns out to be: a struct, JSON, or JSON in text."""
    is_text = exp.EQ(this=_call("typeof", value.copy()), expression=literal("VARCHAR"))
    text = exp.cast(value.copy(), exp.DataType.Type.VARCHAR)
    return exp.case().when(is_text, _json_text(text, rest)).else_(_json_text(_call("to_json", value.copy()), rest))


def _call(function: str, *arguments: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=function, expressions=list(arguments))
