"""Stops an operation before it runs: too heavy to parse or validate, or not permitted to whoever asks."""

from collections.abc import Iterator
from typing import cast

from graphql import GraphQLError, NoSchemaIntrospectionCustomRule, OperationDefinitionNode
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionContext
from strawberry.types.graphql import OperationType

from graphql_schema.context import Context
from graphql_schema.documents import KnownDocuments
from graphql_schema.limits import Limits, excess, weigh
from graphql_schema.permissions import refusals
from models.errors import DomainError, Invalid


class Guard(SchemaExtension):
    """Applies limits and permissions before validation: validating may be what an attack aims at."""

    def __init__(self, limits: Limits, known: KnownDocuments, *, introspection: bool) -> None:
        self._limits = limits
        self._known = known
        self._introspection = introspection

    def on_operation(self) -> Iterator[None]:
        """Bound the parser."""
        self.execution_context.parse_options["max_tokens"] = self._limits.tokens
        if not self._introspection:
            self.execution_context.validation_rules += (NoSchemaIntrospectionCustomRule,)
        yield

    def on_parse(self) -> Iterator[None]:
        """Take a known document as it is."""
        self.execution_context.graphql_document = self._known.document(self.execution_context.query)
        yield

    def on_validate(self) -> Iterator[None]:
        """Weigh the parsed document, then look at what each of its fields permits."""
        running = self.execution_context
        document = running.graphql_document
        context = cast(Context, running.context)
        if document is None:
            yield
            return
        problem = excess(weigh(document, running.variables or {}), self._limits) or _ambiguity(running)
        if problem is not None:
            running.pre_execution_errors = [GraphQLError(problem.message, original_error=problem)]
        elif self._known.may_run(running.query, context.role):
            running.pre_execution_errors = []
        else:
            running.pre_execution_errors = refusals(running.schema, document, context.role) or None
        if running.operation_type is OperationType.SUBSCRIPTION:
            context.become_stream()
        yield
        if not running.pre_execution_errors:
            self._known.keep(running.query, document, context.role)


def _ambiguity(running: ExecutionContext) -> DomainError | None:
    """The refusal of several operations of which none is named; Strawberry would run the first."""
    definitions = running.graphql_document.definitions if running.graphql_document else ()
    operations = [one for one in definitions if isinstance(one, OperationDefinitionNode)]
    if running._provided_operation_name is not None or len(operations) < 2:
        return None
    names = ", ".join(one.name.value for one in operations if one.name)
    return Invalid("the document holds several operations", hint=f"say which in operationName: {names}")
