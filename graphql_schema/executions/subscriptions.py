"""Follows executions: every stream goes on from a cursor, without gap or repeat."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.executions.types import ExecutionEvent
from graphql_schema.fields import subscription
from graphql_schema.paging import FromNow
from graphql_schema.permissions import Permission
from models.events import EventKind
from runtime.positions import cursor_of

FollowedId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="Its id or `executionId`.")]
FromStart: TypeAlias = Annotated[
    str | None, strawberry.argument(description="The cursor of the last event seen; absent: from its first.")
]
Kinds: TypeAlias = Annotated[list[EventKind] | None, strawberry.argument(description="Only these kinds of events.")]


@strawberry.type
class ExecutionSubscriptions:
    """Follows executions."""

    @subscription(Permission.SIGNED_IN, "What happens in an execution, from its first event or a cursor to its last.")
    async def execution_events(
        self, info: Info, execution_id: FollowedId, after: FromStart = None
    ) -> AsyncGenerator[ExecutionEvent, None]:
        context = info.context
        following = context.services.hub.execution(context.signed_in, execution_id, cursor_of(after, 0))
        async with aclosing(following):
            async for event in following:
                yield ExecutionEvent.of(event, event.seq)

    @subscription(Permission.SIGNED_IN, "What happens in all executions that you may see, from now or a cursor on.")
    async def executions(
        self, info: Info, after: FromNow = None, kinds: Kinds = None
    ) -> AsyncGenerator[ExecutionEvent, None]:
        context = info.context
        cursor = None if after is None else cursor_of(after, 0)
        following = context.services.hub.everything(context.signed_in, cursor, kinds)
        async with aclosing(following):
            async for event in following:
                yield ExecutionEvent.of(event, event.position)
