"""Starts and stops executions."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.connectors import document
from graphql_schema.context import Info
from graphql_schema.executions.types import Execution
from graphql_schema.fields import mutation
from graphql_schema.permissions import Permission
from graphql_schema.scalars import Json
from models.errors import Invalid
from models.executions import ExecutionType
from models.pipelines import MOST_PRIORITY
from runtime.bus import ALL_EVENTS, WORK, control_topic, events_topic
from runtime.executions import retries, store, submission

EXECUTION = "execution"
LONGEST_KEY = 200
BY_PEOPLE = (ExecutionType.MANUAL, ExecutionType.RETRY)


@strawberry.input(description="How to execute a pipeline.")
class ExecutePipelineInput:
    """`runtime.executions.submission.Submission`."""

    execution_type: ExecutionType = strawberry.field(
        default=ExecutionType.MANUAL, description="`MANUAL` or `RETRY`; the others are not for people."
    )
    parameters: Json | None = strawberry.field(default=None, description="The parameters of its queries, by name.")
    dry_run: bool = strawberry.field(default=False, description="Do everything but commit, on a sample.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="The same key for the same pipeline gives the same execution."
    )
    retry_of: strawberry.ID | None = strawberry.field(
        default=None, description="With `RETRY`: the execution to take up; absent: the one that failed last."
    )
    priority: int | None = strawberry.field(
        default=None, description="-1000 to 1000, the highest goes first; null: its pipeline's, which is 0 unless set."
    )


PipelineId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The pipeline's id or name.")]
ExecutionId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="Its id or `executionId`.")]
How: TypeAlias = Annotated[ExecutePipelineInput | None, strawberry.argument(description="How; absent: as it is.")]


@strawberry.type
class ExecutionMutations:
    """Starts and stops executions."""

    @mutation(
        Permission.ENGINEERS,
        "Queue an execution of a pipeline's newest version, or with `RETRY` take up the one that failed last, as"
        " `retryExecution` does; a pipeline that is paused or not active refuses with a conflict.",
    )
    async def execute_pipeline(self, info: Info, id: PipelineId, input: How = None) -> Execution:
        given = input or ExecutePipelineInput()
        _check(given)
        if given.execution_type is ExecutionType.RETRY:
            return await _retried(info, id, given)
        wanted = submission.Submission(
            pipeline=id,
            execution_type=given.execution_type,
            parameters=document(given.parameters, "parameters") or {},
            dry_run=given.dry_run,
            idempotency_key=given.idempotency_key,
            priority=given.priority,
        )
        async with info.context.stating(WORK, ALL_EVENTS) as session:
            row = await submission.submit(session, wanted, info.context.signed_in)
            info.context.note("execute", "pipeline", row.pipeline_id, execution_id=row.execution_id)
        return Execution.of(row)

    @mutation(Permission.ENGINEERS, "Ask an execution to stop: one that waits is cancelled at once.")
    async def cancel_execution(self, info: Info, id: ExecutionId) -> Execution:
        async with info.context.reading() as session:
            identity = (await store.find(session, id)).id
        topics = control_topic(identity), events_topic(identity), ALL_EVENTS
        async with info.context.writing(*topics) as session:
            row = await submission.request_cancel(session, identity)
            info.context.note("cancel", EXECUTION, row.id, execution_id=row.execution_id)
        return Execution.of(row)


async def _retried(info: Info, pipeline: str, given: ExecutePipelineInput) -> Execution:
    key = given.idempotency_key
    async with info.context.writing(WORK, ALL_EVENTS) as session:
        artifacts = info.context.services.settings.artifacts
        row = await retries.retry_of(session, artifacts, pipeline, given.retry_of, info.context.signed_in, key=key)
        info.context.note("retry", EXECUTION, row.id, execution_id=row.execution_id)
    return Execution.of(row)


def _check(given: ExecutePipelineInput) -> None:
    if given.execution_type not in BY_PEOPLE:
        hint = "say manual or retry"
        raise Invalid(f"{given.execution_type.value} is not for people", hint=hint, path="execution_type")
    check_key(given.idempotency_key)
    if given.priority is not None and abs(given.priority) > MOST_PRIORITY:
        hint = f"say -{MOST_PRIORITY} to {MOST_PRIORITY}"
        raise Invalid(f"{given.priority} is no priority", hint=hint, path="priority")
    is_retry = given.execution_type is ExecutionType.RETRY
    if is_retry and (given.parameters or given.dry_run):
        hint = "leave it out: a retry has those of the execution that it takes up"
        path = "parameters" if given.parameters else "dry_run"
        raise Invalid("is not for a retry", hint=hint, path=path)
    if given.retry_of is not None and not is_retry:
        raise Invalid("is for a retry only", hint="say execution_type retry", path="retry_of")


def check_key(key: str | None) -> None:
    """Raise `Invalid` for what cannot be an idempotency key."""
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
        hint = f"1 to {LONGEST_KEY} printable letters, such as a UUID"
        raise Invalid("cannot be a key", hint=hint, path="idempotency_key")
