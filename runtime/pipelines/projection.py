"""Projects a definition and its plan onto the columns of `data_pipelines` and the rows of `pipeline_steps`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from models.fields import Json, JsonObject, StrictModel
from models.pipelines import Concurrency, DataPipeline, PipelineStep, StepType
from runtime.pipelines.definition import ExtractStep, LoadStep, PipelineDefinition, Step, TransformStep
from runtime.pipelines.expand import expand
from runtime.pipelines.plan import Plan, PlanStep

SIMPLE_KEYS = ("source_config", "destination_config", "transformation_config")
EXPLICIT_KEYS = ("steps",)


@dataclass(frozen=True, slots=True)
class StepColumns:
    """What a step says of itself in `pipeline_steps`."""

    step_name: str
    step_type: StepType
    kind: str | None
    step_order: int
    step_config: JsonObject
    depends_on: list[str]
    parallel_execution: bool
    timeout_minutes: int
    retry_attempts: int
    critical: bool
    is_enabled: bool

    def onto(self, row: PipelineStep) -> None:
        """Set the row's columns, those alone that differ."""
        for name in self.__slots__:
            if getattr(row, name) != getattr(self, name):
                setattr(row, name, getattr(self, name))


def project(definition: PipelineDefinition, row: DataPipeline) -> None:
    """Set the columns of a pipeline. The explicit form shows its first extract, its first load and its transforms."""
    steps = expand(definition)
    row.pipeline_name = definition.pipeline_name
    row.pipeline_type = definition.pipeline_type
    row.description = definition.description
    row.source_config = next((_dumped(step.config) for step in steps if isinstance(step, ExtractStep)), {})
    row.destination_config = next((_dumped(step.config) for step in steps if isinstance(step, LoadStep)), {})
    transforms: list[Json] = [_dumped(step.config) for step in steps if isinstance(step, TransformStep)]
    row.transformation_config = {"transformations": transforms} if transforms else {}
    row.schedule_config = _dumped(definition.schedule_config)
    row.retry_policy = _dumped(definition.retry_policy)
    limits = definition.concurrency or Concurrency()
    row.max_active, row.pool, row.priority = limits.max_active, limits.pool, limits.priority
    row.quality_checks = [_dumped(check) for check in definition.quality_checks]
    row.alert_config = _dumped(definition.alert_config)
    row.tags = list(definition.tags)
    row.deadline_minutes = definition.deadline_minutes


def step_columns(definition: PipelineDefinition, plan: Plan) -> Iterator[StepColumns]:
    """The steps of a definition, the lookups of its transforms among them, in the plan's order."""
    written = {step.name: step for step in expand(definition)}
    for planned in plan.steps:
        step = written[planned.name]
        yield StepColumns(
            step_name=planned.name,
            step_type=planned.type,
            kind=_kind(step, planned),
            step_order=planned.order,
            step_config=_dumped(step.config),
            depends_on=list(step.depends_on),
            parallel_execution=planned.parallel,
            timeout_minutes=planned.timeout_minutes,
            retry_attempts=planned.retry_attempts,
            critical=planned.critical,
            is_enabled=step.is_enabled,
        )


def merged(document: Mapping[str, Json], changes: Mapping[str, Json]) -> JsonObject:
    """A document with top-level keys replaced; null removes one, and one form of a pipeline replaces the other."""
    dropped: tuple[str, ...] = ()
    if changes.get("steps") is not None:
        dropped = SIMPLE_KEYS
    elif any(changes.get(key) is not None for key in SIMPLE_KEYS):
        dropped = EXPLICIT_KEYS
    kept = {key: value for key, value in document.items() if key not in dropped}
    return {key: value for key, value in {**kept, **changes}.items() if value is not None}


def _kind(step: Step, planned: PlanStep) -> str | None:
    match step:
        case ExtractStep():
            return planned.extract.kind if planned.extract else None
        case LoadStep():
            return planned.load.kind if planned.load else None
        case TransformStep():
            return step.config.type


def _dumped(document: StrictModel | None) -> JsonObject:
    """What was written, without the defaults of what was not."""
    return {} if document is None else document.model_dump(mode="json", exclude_unset=True, exclude_none=True)
