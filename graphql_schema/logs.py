"""Reads the logs of executions, for whoever may see the execution."""

import asyncio
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import query
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json, Long
from models.errors import Invalid, NotFound
from models.executions import PipelineExecution
from models.fields import JsonObject
from runtime.executions import store
from runtime.executions.logs import LogFile, read_log

LoggedId: TypeAlias = Annotated[str, strawberry.argument(description="The execution's id or `executionId`.")]
Behind: TypeAlias = Annotated[
    Long, strawberry.argument(description="The `cursor` of the last page; 0: from the start.")
]

START: Final = Long(0)


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="Some lines of an execution's log, masked.")
class ExecutionLog:
    """A page of a log."""

    lines: list[Json] = strawberry.field(description="Objects with `at`, `kind`, `step` and what else there is to say.")
    cursor: Long = strawberry.field(description="Give this as `after` to go on; the same again when there is no more.")


@strawberry.type
class LogQueries:
    """Reads logs."""

    @query(Permission.SIGNED_IN, "What an execution logged, up to 1 MB at once; while it runs, what it has so far.")
    async def execution_logs(self, info: Info, reference: LoggedId, after: Behind = START) -> ExecutionLog:
        if after < 0:
            raise Invalid("cannot be negative", hint="give the `cursor` of the page before", path="after")
        async with info.context.reading() as session:
            row = await store.find(session, reference)
        info.context.note("read_logs", "execution", row.id)
        artifacts = info.context.services.settings.artifacts
        lines, cursor = await asyncio.to_thread(_read, artifacts, row, after)
        return ExecutionLog(lines=[Json(line) for line in lines], cursor=Long(cursor))


def _read(artifacts: Path, row: PipelineExecution, after: int) -> tuple[list[JsonObject], int]:
    """A page of the log; an execution that has yet to begin has an empty one."""
    try:
        return read_log(artifacts, row.logs_location or LogFile(artifacts, row.id).location, after)
    except NotFound:
        if row.logs_location is None:
            return [], after
        raise
