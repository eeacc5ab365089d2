"""Who may ask for which field: every field declares it, and what declares nothing is refused to everyone."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, TypeVar

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLError,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    visit,
)
from strawberry.schema import Schema
from strawberry.types.base import StrawberryObjectDefinition

from models.access import Role
from models.errors import Denied, DomainError, Unauthenticated

T = TypeVar("T", bound=type)

KEY: Final = "permission"


class Permission(Enum):
    """A claim about whoever asks; the value is the roles that meet it, None that even a stranger does."""

    ANYONE = None
    SIGNED_IN = frozenset(Role)
    ENGINEERS = frozenset({Role.DATA_ENGINEER, Role.SYSTEM_ADMIN})
    ANALYSTS = frozenset({Role.DATA_ANALYST, Role.SYSTEM_ADMIN})
    ADMINS = frozenset({Role.SYSTEM_ADMIN})

    def refusal(self, role: Role | None, what: str) -> DomainError | None:
        """Why a role may not do `what`, or None when it may."""
        if self.value is None:
            return None
        if role is None:
            return Unauthenticated(
                f"sign in to use {what}", hint="send `Authorization: Bearer <token>`; `wedsync token` makes one"
            )
        if role in self.value:
            return None
        allowed = " or ".join(sorted(one.value for one in self.value))
        return Denied(f"the role {role.value} may not use {what}", hint=f"it takes {allowed}")


def needs(permission: Permission) -> Mapping[object, object]:
    """The `metadata=` of a field that only those who meet the permission may ask for."""
    return {KEY: permission}


def permitted(permission: Permission) -> Callable[[T], T]:
    """Declare the permission that the fields of a type have unless they declare their own."""

    def declare(kind: T) -> T:
        kind.__permission__ = permission  # type: ignore[attr-defined]
        return kind

    return declare


def declared(schema: Schema, type_name: str, field_name: str) -> Permission | None:
    """The permission of a field: its own, else its type's; None when neither declares one."""
    definition = schema.get_type_by_name(type_name)
    if not isinstance(definition, StrawberryObjectDefinition):
        return None
    declaring = definition.concrete_of or definition
    inherited = vars(declaring.origin).get("__permission__") if type_name not in ROOTS else None
    for field in definition.fields:
        if schema.config.name_converter.get_graphql_name(field) == field_name:
            own = field.metadata.get(KEY)
            return own if isinstance(own, Permission) else inherited
    return None


ROOTS: Final = frozenset({"Query", "Mutation", "Subscription"})
"""Their fields declare each for itself."""


def refusals(schema: Schema, document: DocumentNode, role: Role | None) -> list[GraphQLError]:
    """The errors of the fields in a document that a role may not use, found before anything runs.

    A mutation's own permission is checked when it runs, so that a forbidden verb is a member of its result.
    """
    types = TypeInfo(schema._schema)
    visitor = _Refusing(schema, types, role)
    visit(document, TypeInfoVisitor(types, visitor))
    return visitor.errors


class _Refusing(Visitor):
    """Collects the fields that a role may not ask for."""

    def __init__(self, schema: Schema, types: TypeInfo, role: Role | None) -> None:
        super().__init__()
        self.errors: list[GraphQLError] = []
        self._schema = schema
        self._types = types
        self._role = role

    def enter_field(self, node: FieldNode, *_: object) -> None:
        parent = self._types.get_parent_type()
        name = node.name.value
        if parent is None or self._types.get_field_def() is None or _is_introspection(parent.name, name):
            return
        permission = declared(self._schema, parent.name, name)
        if permission is None:
            problem: DomainError | None = Denied(
                f"`{parent.name}.{name}` declares no permission", hint="report this; nobody may use it until it does"
            )
        else:
            problem = permission.refusal(self._role, f"`{name}`")
        if problem is None or (parent.name == "Mutation" and isinstance(problem, Denied) and permission is not None):
            return
        self.errors.append(GraphQLError(problem.message, nodes=[node], original_error=problem))


def _is_introspection(type_name: str, field_name: str) -> bool:
    return type_name.startswith("__") or field_name.startswith("__")
