"""Assembles the schema: one Query, Mutation and Subscription class of a noun's module each, and how operations run."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import strawberry
from graphql import GraphQLError
from strawberry.schema import Schema
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionResult

from graphql_schema.attributes import AttributesFirst
from graphql_schema.backfills import BackfillMutations, BackfillQueries, BackfillSubscriptions
from graphql_schema.connectors import ConnectorMutations, ConnectorQueries
from graphql_schema.context import Context
from graphql_schema.destinations import DestinationMutations, DestinationQueries
from graphql_schema.documents import KnownDocuments
from graphql_schema.executions.mutations import ExecutionMutations
from graphql_schema.executions.queries import ExecutionQueries
from graphql_schema.executions.retries import RetryMutations, RetryQueries
from graphql_schema.executions.subscriptions import ExecutionSubscriptions
from graphql_schema.guards import Guard
from graphql_schema.limits import Limits
from graphql_schema.logs import LogQueries
from graphql_schema.nodes import NodeQueries
from graphql_schema.pipelines.mutations import PipelineMutations
from graphql_schema.pipelines.queries import PipelineQueries
from graphql_schema.pools import PoolMutations, PoolQueries
from graphql_schema.problems import MEMBERS, tell
from graphql_schema.scalars import SCALARS
from graphql_schema.schedules.mutations import ScheduleMutations
from graphql_schema.schedules.queries import ScheduleQueries
from graphql_schema.schedules.subscriptions import ScheduleSubscriptions
from graphql_schema.sources import SourceMutations, SourceQueries
from models.errors import Exhausted, Unauthenticated
from runtime.settings import Settings

QUERIES: tuple[type, ...] = (
    NodeQueries,
    ConnectorQueries,
    SourceQueries,
    DestinationQueries,
    PipelineQueries,
    ExecutionQueries,
    RetryQueries,
    BackfillQueries,
    LogQueries,
    PoolQueries,
    ScheduleQueries,
)
MUTATIONS: tuple[type, ...] = (
    ConnectorMutations,
    SourceMutations,
    DestinationMutations,
    PipelineMutations,
    ExecutionMutations,
    RetryMutations,
    PoolMutations,
    BackfillMutations,
    ScheduleMutations,
)
SUBSCRIPTIONS: tuple[type, ...] = (ExecutionSubscriptions, BackfillSubscriptions, ScheduleSubscriptions)
TYPES: tuple[type, ...] = MEMBERS


@dataclass(frozen=True, slots=True)
class Options:
    """What a server allows; `seconds` is the longest that a query or mutation may take."""

    limits: Limits = field(default_factory=Limits)
    seconds: float = 30.0
    introspection: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "Options":
        """What the settings say; introspection is for development."""
        limits = Limits(
            depth=settings.graphql_max_depth,
            aliases=settings.graphql_max_aliases,
            directives=settings.graphql_max_directives,
            tokens=settings.graphql_max_tokens,
            cost=settings.graphql_max_cost,
        )
        return cls(limits, settings.graphql_timeout_seconds, introspection=not settings.is_production)


class OperationSchema(Schema):
    """Runs each operation with a context of its own and tells its errors; ends what it began however it ends."""

    def __init__(self, options: Options, **parts: Any) -> None:
        self.options = options
        guard = partial(Guard, options.limits, KnownDocuments(), introspection=options.introspection)
        config = StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=not options.introspection)
        super().__init__(config=config, extensions=[guard], execution_context_class=AttributesFirst, **parts)

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        *others: Any,
        **named: Any,
    ) -> ExecutionResult:
        """Run a query or mutation to its end within the time limit."""
        context = cast(Context, context_value).for_operation()
        try:
            async with asyncio.timeout(self.options.seconds):
                result = await super().execute(query, variable_values, context, *others, **named)
        except TimeoutError:
            result = self._too_slow()
        finally:
            await context.close()
        return self._told(result, context)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any | None = None,
        *others: Any,
        **named: Any,
    ) -> AsyncGenerator[ExecutionResult, None]:
        """Run any operation and yield its results: one, or those of a subscription for as long as someone listens."""
        context = cast(Context, context_value).for_operation()
        results = await super().stream(query, variable_values, context, *others, **named)
        return self._streamed(cast(AsyncGenerator[ExecutionResult, None], results), context)

    async def _streamed(
        self, results: AsyncGenerator[ExecutionResult, None], context: Context
    ) -> AsyncGenerator[ExecutionResult, None]:
        try:
            while True:
                try:
                    async with context.time_left(self.options.seconds):
                        result = await anext(results, None)
                except TimeoutError:
                    yield self._told(_expired() if context.streaming else self._too_slow(), context)
                    return
                if result is None:
                    return
                context.forget()
                yield self._told(result, context)
        finally:
            await results.aclose()
            await context.close()

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Leave the logging to `tell`, which knows what was expected."""

    def _too_slow(self) -> ExecutionResult:
        problem = Exhausted(
            f"the operation took more than {self.options.seconds:g} s and was stopped",
            hint="ask for less at a time",
            code="time_limit",
        )
        return ExecutionResult(data=None, errors=[GraphQLError(problem.message, original_error=problem)])

    @staticmethod
    def _told(result: ExecutionResult, context: Context) -> ExecutionResult:
        if result.errors:
            result.errors = [tell(error, context.request_id) for error in result.errors]
        return result


def _expired() -> ExecutionResult:
    problem = Unauthenticated(
        "the token has expired", hint="sign in again and go on from the last cursor", code="token_expired"
    )
    return ExecutionResult(data=None, errors=[GraphQLError(problem.message, original_error=problem)])


def _root(name: str, parts: tuple[type, ...], description: str) -> type | None:
    """The root type that the classes of the nouns together make."""
    return strawberry.type(type(name, parts, {"__doc__": description}), description=description) if parts else None


def build_schema(options: Options | None = None) -> OperationSchema:
    """The whole schema; the same for every server, whatever its options."""
    return OperationSchema(
        options or Options(),
        query=_root("Query", QUERIES, "What can be read."),
        mutation=_root("Mutation", MUTATIONS, "What can be changed; each answers its result or why there is none."),
        subscription=_root("Subscription", SUBSCRIPTIONS, "What can be followed, without gap from a cursor."),
        types=TYPES,
    )
