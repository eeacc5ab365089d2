"""Things with an id: an id is the UUID of its row, unique over all tables, so one field finds any of them."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from uuid import UUID

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import query
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import uuid_of


@permitted(Permission.SIGNED_IN)
@strawberry.interface(description="A thing with an id that stays the same for as long as it exists.")
class Node:
    """Relay's `Node`."""

    id: strawberry.ID = strawberry.field(description="The UUID of this thing.")


Find: TypeAlias = Callable[[Info, UUID], Awaitable[Node | None]]

FINDERS: Final[list[Find]] = []
"""How each noun finds one of its own by id; its module adds to this."""


@strawberry.type
class NodeQueries:
    """Reads any thing by its id."""

    @query(Permission.SIGNED_IN, "The thing with this id, or null.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        wanted = uuid_of(id)
        for find in FINDERS:
            found = await find(info, wanted)
            if found is not None:
                return found
        return None
