"""Reads schedules."""

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import query
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission
from graphql_schema.schedules.types import Schedule
from models.pipelines import DataPipeline
from runtime.paging import Window
from runtime.schedules import listing


@strawberry.type
class ScheduleQueries:
    """Reads schedules."""

    @query(Permission.SIGNED_IN, "The schedules, by the names of their pipelines.")
    async def schedules(self, info: Info, first: First = 20, after: After = None) -> Connection[Schedule]:
        async with info.context.reading() as session:
            found = await listing.page(session, Window(first, after))
            read = await listing.of_pipelines(session, [row.id for row in found.rows])
        known = {one.pipeline_id: one for one in read if one is not None}

        def shown(row: DataPipeline) -> Schedule:
            return Schedule.of(known[row.id])

        async def count(info: Info) -> int:
            async with info.context.reading() as session:
                return await listing.total(session)

        return connection(found, shown, count)
