"""Answers fields that are mere attributes at once, where GraphQL would prepare a resolver for each.

A page of 100 pipelines has 1,500 of them: reading them so takes a tenth of the time.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, cast

from graphql import (
    GraphQLField,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    is_leaf_type,
    is_non_null_type,
)
from graphql.execution.collect_fields import GroupedFieldSet
from graphql.execution.incremental.incremental_executor import DeliveryGroupMap
from graphql.pyutils import AwaitableOrValue, Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import CustomGraphQLEnumType, GraphQLCoreConverter
from strawberry.types.field import StrawberryField

from graphql_schema.fields import KNOWN_BY

Read: TypeAlias = Callable[[object], object]
Answer: TypeAlias = dict[str, Any]


class Unusual(Exception):
    """A value that its field's type has not; what GraphQL says of it is said by GraphQL."""


class _Divided(NamedTuple):
    """The fields wanted of an object: attributes by their names in the answer, and the others."""

    wanted: GroupedFieldSet
    attributes: Mapping[str, Read]
    others: GroupedFieldSet


class AttributesFirst(StrawberryGraphQLCoreExecutionContext):
    """Executes an operation as its base does, and reads attributes that are scalars or enums by itself.

    An object with a value that its type refuses is left to the base, which finds it again and tells where it is.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._divisions: dict[tuple[str, int], _Divided] = {}

    def execute_fields(
        self,
        parent_type: GraphQLObjectType,
        source_value: Any,
        path: Path | None,
        grouped_field_set: GroupedFieldSet,
        position_context: DeliveryGroupMap | None,
    ) -> AwaitableOrValue[Answer]:
        """The answers to the fields of one object, in the order in which they are wanted."""
        _, attributes, others = self._divided(parent_type, grouped_field_set)
        try:
            known = {name: read(source_value) for name, read in attributes.items()}
        except Exception:
            known, others = {}, grouped_field_set
        if not others:
            return known
        found = super().execute_fields(parent_type, source_value, path, others, position_context)
        if not known:
            return found
        if self.is_awaitable(found):
            return _joined_later(grouped_field_set, known, found)
        return _joined(grouped_field_set, known, cast(Answer, found))

    def _divided(self, parent: GraphQLObjectType, wanted: GroupedFieldSet) -> _Divided:
        """The division is the same for all objects of a list; keeping `wanted` keeps its identity its own."""
        key = (parent.name, id(wanted))
        known = self._divisions.get(key)
        if known is None:
            known = self._divisions[key] = self._divide(parent, wanted)
        return known

    def _divide(self, parent: GraphQLObjectType, wanted: GroupedFieldSet) -> _Divided:
        attributes: dict[str, Read] = {}
        if not (self.middleware_manager and self.middleware_manager.middlewares):
            for name, details in wanted.items():
                field = self.schema.get_field(parent, details[0].node.name.value)
                read = None if field is None else reading(field)
                if read is not None:
                    attributes[name] = read
        return _Divided(wanted, attributes, {name: wanted[name] for name in wanted if name not in attributes})


def reading(field: GraphQLField) -> Read | None:
    """How a field that is an attribute, or may be known by one, and a scalar or an enum is read; None for others."""
    declared = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(declared, StrawberryField):
        return None
    known = declared.metadata.get(KNOWN_BY)
    if isinstance(known, str):
        return _read(known, field.type)
    return _read(declared.python_name, field.type) if declared.is_basic_field else None


def _read(attribute: str, kind: GraphQLOutputType) -> Read | None:
    is_required = is_non_null_type(kind)
    leaf = kind.of_type if is_non_null_type(kind) else kind
    if not is_leaf_type(leaf):
        return None
    take, shown = attrgetter(attribute), _shown(leaf)

    def read(source: object) -> object:
        value = take(source)
        if value is None and not is_required:
            return None
        answer = shown(value)
        if answer is None:
            raise Unusual
        return answer

    return read


def _shown(leaf: GraphQLLeafType) -> Callable[[Any], object]:
    """How a value of a type looks in an answer; looking a member of an enum up beats searching it."""
    if not isinstance(leaf, CustomGraphQLEnumType):
        return leaf.coerce_output_value
    members = cast("type[Enum]", leaf.wrapped_cls)
    return {member: leaf.coerce_output_value(member) for member in members}.__getitem__


def _joined(wanted: GroupedFieldSet, known: Answer, found: Answer) -> Answer:
    return {name: known[name] if name in known else found[name] for name in wanted if name in known or name in found}


async def _joined_later(wanted: GroupedFieldSet, known: Answer, found: Awaitable[Answer]) -> Answer:
    return _joined(wanted, known, await found)
