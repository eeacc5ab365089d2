"""Scalars that GraphQL has not: whole numbers past 32 bits, and ids that are UUIDs."""

from typing import Final, NewType, TypeAlias
from uuid import UUID

import strawberry
from graphql import GraphQLError
from strawberry.scalars import JSON
from strawberry.types.scalar import ScalarDefinition

from models.errors import Invalid

Long = NewType("Long", int)
"""A whole number of up to 64 bits, as a JSON number."""

Json: TypeAlias = JSON
"""A JSON document; the keys inside it are never converted."""

_LIMIT: Final = 2**63


def _long(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_LIMIT <= value < _LIMIT:
        raise GraphQLError(f"Long takes a whole number of 64 bits, not {value!r}")
    return value


SCALARS: Final[dict[object, ScalarDefinition]] = {
    Long: strawberry.scalar(
        name="Long",
        description="A whole number of up to 64 bits, as a JSON number.",
        serialize=_long,
        parse_value=_long,
    )
}


def uuid_of(text: strawberry.ID | str, path: str = "id") -> UUID:
    """The UUID that an id is; raises `Invalid` for other texts."""
    try:
        return UUID(text)
    except ValueError:
        raise Invalid("is not an id", hint="ids are UUIDs such as those in `id` fields", path=path) from None
