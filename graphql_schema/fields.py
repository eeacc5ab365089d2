"""The four ways to declare a field with a resolver; a root field cannot be declared without its permission."""

from collections.abc import Callable, Set
from typing import Any, Final, TypeVar, cast

import strawberry
from strawberry.types.nodes import SelectedField, Selection

from graphql_schema.permissions import Permission, needs
from graphql_schema.problems import Changes

F = TypeVar("F", bound=Callable[..., Any])

KNOWN_BY: Final = "known_by"
"""In a field's metadata: the attribute that holds its value where that was read beforehand, and None elsewhere."""


def query(permission: Permission, description: str) -> Callable[[F], F]:
    """A field of Query; its resolver reads in `info.context.reading()`."""
    return cast("Callable[[F], F]", strawberry.field(description=description, metadata=needs(permission)))


def mutation(permission: Permission, description: str) -> Callable[[F], F]:
    """A field of Mutation; its resolver writes in `info.context.writing()` and raises its expected failures.

    The declared return type is that of success; `<Field>Result`, the union with the errors, is made of it.
    """
    return cast("Callable[[F], F]", strawberry.mutation(description=description, extensions=[Changes(permission)]))


def subscription(permission: Permission, description: str) -> Callable[[F], F]:
    """A field of Subscription; its resolver is an async generator."""
    return cast("Callable[[F], F]", strawberry.subscription(description=description, metadata=needs(permission)))


def computed(
    description: str,
    permission: Permission | None = None,
    shown: object | None = None,
    known_by: str | None = None,
) -> Callable[[F], F]:
    """A field of a type that takes work to answer; without a permission of its own it has its type's.

    `shown` is its type where the resolver is annotated with more, as one that answers at once or later. `known_by`
    names the attribute that holds the value, never null, where it was read beforehand: then no resolver is run.
    """
    metadata: dict[object, object] = {} if permission is None else {**needs(permission)}
    if known_by is not None:
        metadata[KNOWN_BY] = known_by
    field = strawberry.field(description=description, metadata=metadata, graphql_type=shown)
    return cast("Callable[[F], F]", field)


def asks_for(info: strawberry.Info[Any, Any], names: Set[str]) -> bool:
    """Whether the operation asks for one of these fields anywhere below the resolver's own."""
    return any(_holds(selected, names) for field in info.selected_fields for selected in field.selections)


def _holds(selection: Selection, names: Set[str]) -> bool:
    named = isinstance(selection, SelectedField) and selection.name in names
    return named or any(_holds(inner, names) for inner in selection.selections)
