"""Reads executions."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.executions.types import Execution
from graphql_schema.fields import query
from graphql_schema.paging import After, Connection, First, connection
from graphql_schema.permissions import Permission
from models.errors import NotFound
from models.executions import ExecutionStatus
from runtime.executions import store
from runtime.paging import Window
from runtime.pipelines import store as pipelines

Of: TypeAlias = Annotated[str | None, strawberry.argument(description="The id or name of the pipeline it must be of.")]


@strawberry.type
class ExecutionQueries:
    """Reads executions."""

    @query(Permission.SIGNED_IN, "The executions that you may see, those accepted last first.")
    async def executions(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        pipeline: Of = None,
        status: ExecutionStatus | None = None,
    ) -> Connection[Execution]:
        window = Window(first, after)
        async with info.context.reading() as session:
            owner = None if pipeline is None else (await pipelines.find(session, pipeline)).id
            wanted = store.ExecutionFilter(owner, status)
            found = await store.page(session, wanted, window)

        async def count(info: Info) -> int:
            async with info.context.reading() as session:
                return await store.total(session, wanted)

        return connection(found, Execution.of, count)

    @query(Permission.SIGNED_IN, "The execution of that id or `executionId`.")
    async def execution(self, info: Info, reference: str, pipeline: Of = None) -> Execution:
        async with info.context.reading() as session:
            row = await store.find(session, reference)
            if pipeline is not None and (await pipelines.find(session, pipeline)).id != row.pipeline_id:
                raise NotFound(f"the pipeline has no execution {reference!r}", path="execution_id")
        return Execution.of(row)
