"""The four ways to declare a field with a resolver; a root field cannot be declared without its permission."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import strawberry

from graphql_schema.permissions import Permission, needs
from graphql_schema.problems import Changes

F = TypeVar("F", bound=Callable[..., Any])


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


def computed(description: str, permission: Permission | None = None) -> Callable[[F], F]:
    """A field of a type that takes work to answer; without a permission of its own it has its type's."""
    metadata: Mapping[object, object] | None = None if permission is None else needs(permission)
    return cast("Callable[[F], F]", strawberry.field(description=description, metadata=metadata))
