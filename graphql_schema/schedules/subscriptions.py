"""Follows what becomes of the moments of schedules."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import subscription
from graphql_schema.paging import FromNow
from graphql_schema.permissions import Permission
from graphql_schema.schedules.types import ScheduleFire
from models.schedules import FireOutcome
from runtime.pipelines import store as pipelines
from runtime.positions import cursor_of
from runtime.schedules.following import Wanted, follow

OfPipeline: TypeAlias = Annotated[
    strawberry.ID | None, strawberry.argument(description="The pipeline's id or its name; absent: of all.")
]
Outcomes: TypeAlias = Annotated[
    list[FireOutcome] | None, strawberry.argument(description="Only these; `[MISSED, SKIPPED]` tells what did not run.")
]


@strawberry.type
class ScheduleSubscriptions:
    """Follows schedules."""

    @subscription(
        Permission.SIGNED_IN, "What becomes of the moments at which schedules are due, from now or a cursor on."
    )
    async def schedule_fires(
        self, info: Info, pipeline: OfPipeline = None, outcomes: Outcomes = None, after: FromNow = None
    ) -> AsyncGenerator[ScheduleFire, None]:
        services, who = info.context.services, info.context.signed_in
        wanted = Wanted(outcomes=tuple(FireOutcome if outcomes is None else outcomes))
        if pipeline is not None:
            async with services.database.transaction(who) as session:
                wanted = Wanted((await pipelines.find(session, pipeline)).id, wanted.outcomes)
        cursor = None if after is None else cursor_of(after, 0)
        async with aclosing(follow(services.database, services.bus, who, cursor, wanted)) as following:
            async for decided in following:
                yield ScheduleFire.of(decided)
