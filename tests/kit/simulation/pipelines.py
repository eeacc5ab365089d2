"""The pipelines that simulated worlds run: a chain, a diamond, a divided load, and one with a part that may fail."""

from typing import Final
from uuid import UUID

from models.destinations import WriteMode
from models.pipelines import RetryPolicy, StepType
from runtime.pipelines.plan import ExtractPlan, LoadPlan, Plan, PlanStep, PlanTask

EXTRACT: Final = ExtractPlan(source=str(UUID(int=7)), kind="postgres", batch_rows=10)
LOAD: Final = LoadPlan(destination=str(UUID(int=8)), kind="postgres", table="t", write_mode=WriteMode.APPEND)
RETRIES: Final = 3


def _read(name: str = "read", partitions: int = 1) -> PlanStep:
    extract = EXTRACT.model_copy(update={"partitions": partitions})
    return PlanStep(name=name, type=StepType.EXTRACT, order=0, extract=extract)


def _shape(name: str, source: str) -> PlanStep:
    return PlanStep(
        name=name,
        type=StepType.TRANSFORM,
        order=1,
        inputs=(source,),
        transform="filter",
        sql=f"SELECT * FROM {source}",
    )


def _load(name: str, *sources: str, critical: bool = True) -> PlanStep:
    sql = " UNION ALL BY NAME ".join(f"SELECT * FROM {source}" for source in sources)
    return PlanStep(name=name, type=StepType.LOAD, order=2, inputs=sources, sql=sql, load=LOAD, critical=critical)


def _plan(name: str, *chains: tuple[PlanStep, ...], partitions: int = 1) -> Plan:
    """A plan whose tasks are these chains of steps."""
    return Plan(
        pipeline_name=name,
        steps=tuple(step for chain in chains for step in chain),
        tasks=tuple(
            PlanTask(
                name=chain[-1].name,
                members=tuple(step.name for step in chain),
                inputs=chain[0].inputs,
                partitions=partitions,
                timeout_minutes=1,
                retry_attempts=RETRIES,
                critical=chain[-1].critical,
            )
            for chain in chains
        ),
        retry_policy=RetryPolicy(initial_seconds=0.5, max_seconds=4.0),
    )


PLANS: Final = (
    _plan("chain", (_read(),), (_shape("shape", "read"),), (_load("load", "shape"),)),
    _plan(
        "diamond",
        (_read(),),
        (_shape("left", "read"),),
        (_shape("right", "read"),),
        (_load("load", "left", "right"),),
    ),
    _plan("divided", (_read(partitions=3), _load("load", "read")), partitions=3),
    _plan(
        "branches",
        (_read(),),
        (_shape("shape", "read"), _load("load", "shape")),
        (_load("aside", "read", critical=False),),
    ),
)


def loads_of(plan: Plan) -> dict[str, int]:
    """A plan's load steps and how many parts each publishes."""
    return {step.name: plan.task_of(step.name).partitions for step in plan.steps if step.load is not None}
