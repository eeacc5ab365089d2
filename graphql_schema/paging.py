"""Relay connections over the pages that stores read."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, TypeAlias, TypeVar

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import computed
from graphql_schema.permissions import Permission, permitted
from runtime.paging import Page

N = TypeVar("N")
R = TypeVar("R")

Counting: TypeAlias = Callable[[Info], Awaitable[int]]

First: TypeAlias = Annotated[int, strawberry.argument(description="How many at most, 1-100.")]
After: TypeAlias = Annotated[
    str | None, strawberry.argument(description="The cursor of the last one seen; the page starts behind it.")
]

FromNow: TypeAlias = Annotated[
    str | None,
    strawberry.argument(description="The last event's cursor, 0 for all there are; absent: from now."),
]
"""Where a stream begins."""


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """Relay's `PageInfo`."""

    has_next_page: bool = strawberry.field(description="Whether more follow.")
    has_previous_page: bool = strawberry.field(description="Whether a cursor was given, so that some come before.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first one of the page.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last one of the page.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="One of a page, with its cursor.")
class Edge(Generic[N]):
    """Relay's `Edge`."""

    cursor: str = strawberry.field(description="Give this as `after` to go on behind it.")
    node: N = strawberry.field(description="The thing itself.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A page of a list.")
class Connection(Generic[N]):
    """Relay's `Connection`; the total is counted only when asked for."""

    edges: list[Edge[N]] = strawberry.field(description="The page, in the list's order.")
    page_info: PageInfo = strawberry.field(description="Where the page lies in its list.")
    counting: strawberry.Private[Counting]

    @computed("The things of the page without their cursors.")
    def nodes(self) -> list[N]:
        return [edge.node for edge in self.edges]

    @computed("How many the whole list has; costs a statement of its own.")
    async def total_count(self, info: Info) -> int:
        return await self.counting(info)


def connection(page: Page[R], node: Callable[[R], N], counting: Counting) -> Connection[N]:
    """Show a page; `node` turns a row into its GraphQL type, `counting` counts the list when asked."""
    edges = [Edge(cursor=cursor, node=node(row)) for row, cursor in zip(page.rows, page.cursors, strict=True)]
    info = PageInfo(
        has_next_page=page.has_next,
        has_previous_page=page.has_previous,
        start_cursor=page.cursors[0] if page.cursors else None,
        end_cursor=page.cursors[-1] if page.cursors else None,
    )
    return Connection(edges=edges, page_info=info, counting=counting)
