"""Parses JSON once, at the edge, into frozen models, and says of bad input where it is wrong and what is allowed."""

import difflib
import math
from collections.abc import Hashable
from functools import lru_cache
from typing import TypeAlias, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_json
from typing_extensions import TypeForm

from models.errors import Invalid

Json: TypeAlias = JsonValue
JsonObject: TypeAlias = dict[str, JsonValue]
PathItem: TypeAlias = str | int

T = TypeVar("T")

DEEPEST = 100
OTHER_PROBLEMS_TOLD = 4


class StrictModel(BaseModel):
    """A frozen value that refuses unknown keys and, read from JSON, never turns one type into another."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
    )


@lru_cache(maxsize=1024)
def _adapter_of(kind: object) -> TypeAdapter[object]:
    return TypeAdapter(cast(TypeForm[object], kind))


def adapter_of(kind: TypeForm[T]) -> TypeAdapter[T]:
    """The validator of a type, made once per type."""
    return cast(TypeAdapter[T], _adapter_of(cast(Hashable, kind)))


def parse(kind: TypeForm[T] | TypeAdapter[T], data: object, root: str = "") -> T:
    """Validate JSON-like `data` (dicts, lists, scalars; dates and UUIDs as text or as themselves) as `kind`.

    Strict as JSON is: no number from text, no text from a number; enums, UUIDs and moments from text.
    Raises `Invalid` whose `path` starts at `root` and names the first bad key, as in
    `transformations[2].config.mappings.price`, and whose hint lists what is allowed there.
    Values are not repeated in messages, except the wrong member of a closed set: they may be secrets.
    """
    adapter = kind if isinstance(kind, TypeAdapter) else adapter_of(kind)
    _refuse_unstorable(data, root, 0)
    try:
        encoded = to_json(data)
    except (PydanticSerializationError, ValueError) as error:
        raise Invalid("holds a value that JSON cannot express", path=root or None) from error
    try:
        return adapter.validate_json(encoded, strict=True)
    except ValidationError as error:
        raise _explain(adapter, data, error, root) from None


def join_path(root: str, items: list[PathItem]) -> str:
    """Write a path the way people read it: `steps[2].config.mappings.price`."""
    path = root
    for item in items:
        if isinstance(item, int):
            path += f"[{item}]"
        else:
            path += f".{item}" if path else item
    return path


def _refuse_unstorable(value: object, path: str, depth: int) -> None:
    """Refuse what JSON or PostgreSQL's jsonb cannot hold: NaN, infinity, NUL, lone surrogates, endless nesting."""
    if depth > DEEPEST:
        raise Invalid(
            f"is nested more than {DEEPEST} levels deep",
            hint="flatten it",
            path=path or None,
        )
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise Invalid(
                "holds a character that cannot be stored",
                hint="remove NUL and lone surrogates",
                path=path,
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(
                "is not a finite number",
                hint="leave the key out or give a number",
                path=path or None,
            )
    elif isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise Invalid(
                    f"has the key {key!r}, which is not text",
                    hint="put it in quotes",
                    path=path or None,
                )
            _refuse_unstorable(key, path, depth + 1)
            _refuse_unstorable(member, join_path(path, [key]), depth + 1)
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            _refuse_unstorable(member, join_path(path, [index]), depth + 1)


def _explain(adapter: TypeAdapter[T], data: object, error: ValidationError, root: str) -> Invalid:
    problems: dict[str, tuple[list[str], str | None]] = {}
    shape = _Shape(adapter)
    # A key that is not known comes first: misspelt, it is why another one is missing.
    for details in sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden"):
        items = _path_of(details, data)
        message, hint = _describe(details, items, shape, data)
        messages, _ = problems.setdefault(join_path(root, items), ([], hint))
        if message not in messages:
            messages.append(message)
    (path, (messages, hint)), *others = problems.items()
    message = ", or ".join(messages)
    told = [f"{_quoted(other)} {', or '.join(texts)}" for other, (texts, _) in others[:OTHER_PROBLEMS_TOLD]]
    if told:
        unsaid = len(others) - len(told)
        message += "; also " + "; ".join(told) + (f"; and {unsaid} more" if unsaid else "")
    return Invalid(message, hint=hint, path=path or None)


def _quoted(path: str) -> str:
    """A path inside a sentence; in backticks, as `token: …` would look like a secret and be hidden."""
    return f"`{path}`" if path else "the whole"


def _path_of(details: ErrorDetails, data: object) -> list[PathItem]:
    """The location of an error in the data: pydantic's `loc` without the names of union members."""
    items: list[PathItem] = []
    current = data
    location = details["loc"]
    names_a_key = details["type"] in {"missing", "extra_forbidden"}
    for index, item in enumerate(location):
        rest = location[index + 1 :]
        is_last = not rest
        if _holds(current, item) and not _is_tag(item, rest, current):
            current = _member(current, item)
        elif not (is_last and names_a_key):
            continue
        items.append(item)
    if details["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        items.append(_discriminator(details))
    return items


def _holds(value: object, item: PathItem) -> bool:
    if isinstance(value, dict):
        return item in value
    return isinstance(value, list | tuple) and isinstance(item, int) and item < len(value)


def _is_tag(item: PathItem, rest: tuple[PathItem, ...], current: object) -> bool:
    """Whether `item` names the union member chosen by the object's own tag although a key has the same name."""
    tags = (_member(current, "type"), _member(current, "kind"))
    return item in tags and bool(rest) and _holds(current, rest[0])


def _discriminator(details: ErrorDetails) -> str:
    return str(details.get("ctx", {}).get("discriminator", "type")).strip("'")


def _describe(details: ErrorDetails, items: list[PathItem], shape: "_Shape", data: object) -> tuple[str, str | None]:
    """What is wrong at a place, and what would be right there."""
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return "is required", None
        case "extra_forbidden":
            return "is not a known key", _among(str(items[-1]), shape.keys_at(items[:-1], data))
        case "union_tag_not_found":
            return "is required", _among("", shape.tags_at(items[:-1], data))
        case "union_tag_invalid":
            return (
                f"is not known: {context['tag']!r}",
                f"allowed: {context['expected_tags']}",
            )
        case "enum" | "literal_error":
            return (
                f"is not known: {_shown(details['input'])}",
                f"allowed: {context['expected']}",
            )
        case "value_error" | "assertion_error":
            return str(context["error"]), None
        case "string_pattern_mismatch":
            return f"should match the pattern {context['pattern']}", None
        case _:
            message = details["msg"].replace("Input should", "should")
            message = f"{message[0].lower()}{message[1:]}"
            # Of a value in the right type that is out of range, the type says nothing.
            return message if _is_about_value(details["type"]) else f"{message}, not {_name_of(details['input'])}", None


def _is_about_value(kind: str) -> bool:
    """Whether an error of pydantic is about how great, long or shaped a value is, and not about its type."""
    return kind.startswith(("greater_than", "less_than", "multiple_of")) or kind.endswith(("too_short", "too_long"))


def _among(wrong: str, allowed: list[str]) -> str | None:
    if not allowed:
        return None
    near = difflib.get_close_matches(wrong, allowed, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    return f"{guess}allowed: {', '.join(sorted(allowed))}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | bool) and len(repr(value)) <= 60 else _name_of(value)


def _name_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "an array"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


class _Shape:
    """The JSON Schema of a type, walked along the data to say which keys and tags a place allows."""

    def __init__(self, adapter: TypeAdapter[T]) -> None:
        try:
            self._root = cast(JsonObject, adapter.json_schema())
        except (PydanticInvalidForJsonSchema, PydanticUserError):
            self._root = {}

    def keys_at(self, items: list[PathItem], data: object) -> list[str]:
        """The keys that the object at a place may have."""
        return list(_object(self._at(items, data).get("properties")))

    def tags_at(self, items: list[PathItem], data: object) -> list[str]:
        """The tags that the tagged union at a place may have."""
        return list(_object(_object(self._at(items, data).get("discriminator")).get("mapping")))

    def _at(self, items: list[PathItem], data: object) -> JsonObject:
        node = self._settle(self._root, data)
        for item in items:
            data = _member(data, item)
            if isinstance(item, int):
                node = _object(node.get("items"))
            else:
                node = _object(_object(node.get("properties")).get(item) or node.get("additionalProperties"))
            node = self._settle(node, data)
        return node

    def _settle(self, node: JsonObject, data: object) -> JsonObject:
        """Follow references and unions to the schema that the data means."""
        reference = node.get("$ref")
        if isinstance(reference, str):
            return self._settle(
                _object(_object(self._root.get("$defs")).get(reference.rsplit("/", 1)[-1])),
                data,
            )
        discriminator = _object(node.get("discriminator"))
        if discriminator:
            tag = _member(data, str(discriminator["propertyName"]))
            chosen = _object(discriminator.get("mapping")).get(str(tag))
            return self._settle({"$ref": chosen}, data) if chosen else node
        options = node.get("anyOf") or node.get("oneOf")
        wanted = "object" if isinstance(data, dict) else "array"
        for option in options if isinstance(options, list) else []:
            settled = self._settle(_object(option), data)
            if settled.get("type") == wanted or "discriminator" in settled:
                return settled
        return node


def _member(data: object, item: PathItem) -> object:
    if isinstance(data, dict):
        return data.get(item)
    if isinstance(data, list | tuple) and isinstance(item, int) and item < len(data):
        return data[item]
    return None


def _object(value: object) -> JsonObject:
    return value if isinstance(value, dict) else {}


def as_uuid(reference: str | UUID) -> UUID | None:
    """The UUID that a reference is, or None for one that is a name."""
    if isinstance(reference, UUID):
        return reference
    try:
        return UUID(reference)
    except ValueError:
        return None
