"""Plans: what a pipeline's definition was compiled to, as people and the dashboard read it."""

import strawberry

from graphql_schema.fields import computed
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json
from models.pipelines import StepType
from runtime.pipelines import plan as compiled
from runtime.pipelines.document import describe_plan, document_plan

__all__ = ["Plan", "PlanColumn", "PlanStep", "PlanTask", "StepType"]

strawberry.enum(StepType, description="The part a step plays.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A column that a step gives.")
class PlanColumn:
    """`runtime.pipelines.plan.PlanColumn`."""

    name: str = strawberry.field(description="Its name.")
    type: str = strawberry.field(description="Its type, as DuckDB names it; `UNKNOWN` before discovery.")
    nullable: bool = strawberry.field(description="Whether it may be null.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="A step, compiled.")
class PlanStep:
    """`runtime.pipelines.plan.PlanStep`."""

    name: str = strawberry.field(description="Its name.")
    type: StepType = strawberry.field(description="The part it plays.")
    order: int = strawberry.field(description="Its place in an order that respects dependencies.")
    inputs: list[str] = strawberry.field(description="The steps whose rows it takes.")
    after: list[str] = strawberry.field(description="The steps that must be done before, without giving it rows.")
    transform: str | None = strawberry.field(description="The kind of its transform, if it is one.")
    sql: str | None = strawberry.field(description="Its own query, over tables named as its inputs.")
    set_aside: str | None = strawberry.field(
        description="The query of the rows it leaves out as bad: first why, then the row as it came; null for none."
    )
    columns: list[PlanColumn] | None = strawberry.field(description="What it gives; null where not known before a run.")
    extract: Json | None = strawberry.field(description="What it reads, for an extract.")
    load: Json | None = strawberry.field(description="What it writes, for a load.")
    row_wise: bool = strawberry.field(description="Whether each row is made of one row, so that it fuses.")
    timeout_minutes: int = strawberry.field(description="How long it may take.")
    retry_attempts: int = strawberry.field(description="How often it is tried again.")
    critical: bool = strawberry.field(description="Whether its failure fails the execution.")
    enabled: bool = strawberry.field(description="Whether it runs.")

    @classmethod
    def of(cls, step: compiled.PlanStep) -> "PlanStep":
        """Show a step."""
        columns = None if step.columns is None else [PlanColumn(**one.model_dump()) for one in step.columns]
        return cls(
            name=step.name,
            type=step.type,
            order=step.order,
            inputs=list(step.inputs),
            after=list(step.after),
            transform=step.transform,
            sql=step.sql,
            set_aside=step.set_aside,
            columns=columns,
            extract=None if step.extract is None else Json(step.extract.model_dump(mode="json", exclude_none=True)),
            load=None if step.load is None else Json(step.load.model_dump(mode="json", exclude_none=True)),
            row_wise=step.row_wise,
            timeout_minutes=step.timeout_minutes,
            retry_attempts=step.retry_attempts,
            critical=step.critical,
            enabled=step.enabled,
        )


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="Neighbouring steps that run as one, after fusion.")
class PlanTask:
    """`runtime.pipelines.plan.PlanTask`."""

    name: str = strawberry.field(description="Its last step's name.")
    members: list[str] = strawberry.field(description="Its steps, in order.")
    inputs: list[str] = strawberry.field(description="The tasks whose rows it takes.")
    after: list[str] = strawberry.field(description="The tasks that must be done before, without giving it rows.")
    partitions: int = strawberry.field(description="In how many parallel parts it reads.")


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What a pipeline does: its steps with their queries and columns, and the tasks that run.")
class Plan:
    """`runtime.pipelines.plan.Plan`."""

    plan: strawberry.Private[compiled.Plan]
    fingerprint: str = strawberry.field(description="The SHA-256 of the plan; equal plans have equal ones.")
    steps: list[PlanStep] = strawberry.field(description="The steps, in an order that respects dependencies.")
    tasks: list[PlanTask] = strawberry.field(description="What runs, in an order that respects dependencies.")
    parameters: Json = strawberry.field(description="The defaults of the parameters of its queries.")
    notes: list[str] = strawberry.field(description="What one should know before the run.")

    @classmethod
    def of(cls, plan: compiled.Plan) -> "Plan":
        """Show a plan."""
        tasks = [
            PlanTask(
                name=task.name,
                members=list(task.members),
                inputs=list(task.inputs),
                after=list(task.after),
                partitions=task.partitions,
            )
            for task in plan.tasks
        ]
        return cls(
            plan=plan,
            fingerprint=plan.fingerprint,
            steps=[PlanStep.of(step) for step in plan.steps],
            tasks=tasks,
            parameters=Json(plan.parameters),
            notes=list(plan.notes),
        )

    @computed("The plan as plain text, for a terminal.")
    def text(self) -> str:
        return describe_plan(self.plan)

    @computed("The plan as Markdown, for documentation.")
    def markdown(self) -> str:
        return document_plan(self.plan)
