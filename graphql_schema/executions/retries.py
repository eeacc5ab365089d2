"""Takes ended executions up again, and shows beforehand what would run."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.executions.mutations import EXECUTION, ExecutionId, check_key
from graphql_schema.executions.types import Execution
from graphql_schema.fields import mutation, query
from graphql_schema.permissions import Permission, permitted
from runtime.bus import ALL_EVENTS, WORK
from runtime.executions import retries
from runtime.executions.recovery import Fate

strawberry.enum(Fate, name="StepFate", description="What becomes of a step when an execution is taken up again.")

Key: TypeAlias = Annotated[
    str | None, strawberry.argument(description="The same key for the same pipeline gives the same execution.")
]
FromStep: TypeAlias = Annotated[str, strawberry.argument(description="The step to run again from.")]
MaybeStep: TypeAlias = Annotated[
    str | None, strawberry.argument(description="The step to run again from; absent: what a retry would do.")
]


@permitted(Permission.ENGINEERS)
@strawberry.type(description="What becomes of a step when an execution is taken up again.")
class RerunStep:
    """`runtime.executions.recovery.StepFate`."""

    step_name: str = strawberry.field(description="The step.")
    fate: Fate = strawberry.field(description="Whether it runs, is restored from what is kept, or is skipped.")
    reason: str = strawberry.field(description="Why.")


@permitted(Permission.ENGINEERS)
@strawberry.type(description="What taking an execution up again would do, as far as that can be told now.")
class RerunPreview:
    """`runtime.executions.retries.Preview`."""

    execution_id: str = strawberry.field(description="The execution that would be taken up.")
    version: int | None = strawberry.field(description="The version that would run: that execution's own.")
    steps: list[RerunStep] = strawberry.field(description="Its steps, in the plan's order.")

    @classmethod
    def of(cls, preview: retries.Preview) -> "RerunPreview":
        """Show a preview."""
        steps = [RerunStep(step_name=one.step, fate=one.fate, reason=one.reason) for one in preview.steps]
        return cls(execution_id=preview.execution.execution_id, version=preview.execution.version, steps=steps)


@strawberry.type
class RetryQueries:
    """Shows what would run."""

    @query(Permission.ENGINEERS, "What a re-run from a step, or a retry, would run again and what it would restore.")
    async def rerun_preview(self, info: Info, id: ExecutionId, from_step: MaybeStep = None) -> RerunPreview:
        artifacts = info.context.services.settings.artifacts
        async with info.context.reading() as session:
            return RerunPreview.of(await retries.preview(session, artifacts, id, from_step))


@strawberry.type
class RetryMutations:
    """Takes executions up again."""

    @mutation(
        Permission.ENGINEERS,
        "Queue an execution of what a failed or cancelled one did not finish, in its version, with its parameters.",
    )
    async def retry_execution(self, info: Info, id: ExecutionId, idempotency_key: Key = None) -> Execution:
        return await _taken_up(info, "retry", id, None, idempotency_key)

    @mutation(
        Permission.ENGINEERS,
        "Queue an execution that runs an ended one's steps again from one on; the steps before it are restored.",
    )
    async def rerun_execution(
        self, info: Info, id: ExecutionId, from_step: FromStep, idempotency_key: Key = None
    ) -> Execution:
        return await _taken_up(info, "rerun", id, from_step, idempotency_key)


async def _taken_up(info: Info, action: str, reference: str, from_step: str | None, key: str | None) -> Execution:
    check_key(key)
    async with info.context.writing(WORK, ALL_EVENTS) as session:
        by = info.context.signed_in
        artifacts = info.context.services.settings.artifacts
        row = await retries.retry(session, artifacts, reference, by, from_step=from_step, key=key)
        info.context.note(action, EXECUTION, row.id, execution_id=row.execution_id, of=str(reference), step=from_step)
    return Execution.of(row)
