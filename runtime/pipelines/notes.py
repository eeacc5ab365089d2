"""What a person should know of a plan before its run: settings that nothing acts on yet, and steps to think about."""

from collections.abc import Iterator, Sequence

from models.destinations import WriteMode
from models.pipelines import PipelineType
from runtime.pipelines.definition import PipelineDefinition
from runtime.pipelines.plan import PlanStep, PlanTask


def notes_on(definition: PipelineDefinition, steps: Sequence[PlanStep], tasks: Sequence[PlanTask]) -> Iterator[str]:
    """The notes on a compiled definition, a sentence each."""
    enabled = [step for step in steps if step.enabled]
    yield from _settings(definition)
    if any(step.load for step in enabled):
        yield from _dead_ends(enabled)
    else:
        yield "No step loads: the rows are counted and dropped."
    yield from _losing_loads(enabled)
    yield from _undivided(enabled, tasks)


def _settings(definition: PipelineDefinition) -> Iterator[str]:
    """What is kept with the pipeline and has no effect yet."""
    if definition.pipeline_type is not PipelineType.ETL:
        yield f"A pipeline of the type {definition.pipeline_type.value} runs as etl does: from its start to its end."
    if definition.quality_checks:
        yield "quality_checks are kept, but no rows are checked yet, and no load is stopped by them."
    if definition.alert_config is not None:
        yield "alert_config is kept, but nobody is told of a failure yet."


def _dead_ends(steps: Sequence[PlanStep]) -> Iterator[str]:
    read = {name for step in steps for name in step.inputs}
    for step in steps:
        if step.load is None and step.name not in read:
            yield f"The rows of {step.name!r} go nowhere: no step that runs depends on it."


def _losing_loads(steps: Sequence[PlanStep]) -> Iterator[str]:
    """Loads that put what changed since the last run in the place of everything."""
    partial: set[str] = set()
    for step in steps:
        if partial.intersection(step.inputs) or (step.extract is not None and step.extract.incremental):
            partial.add(step.name)
        if step.name in partial and step.load is not None and step.load.write_mode is WriteMode.OVERWRITE:
            yield (
                f"{step.name!r} overwrites {step.load.table} with what changed since the last run alone: "
                "upsert or append keeps the rest."
            )


def _undivided(steps: Sequence[PlanStep], tasks: Sequence[PlanTask]) -> Iterator[str]:
    divided = {name for task in tasks if task.partitions > 1 for name in task.members}
    for step in steps:
        if not step.parallel or step.name in divided:
            continue
        if step.extract is not None:
            yield f"{step.name!r} is read in one part: `partition` names the number or moment that divides a table."
        else:
            yield f"{step.name!r} runs in one part: only a divided read, and what fuses with it, runs in several."
