"""Turns both forms of a definition into one list of steps, the lookups of transforms among them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.errors import Invalid
from models.fields import StrictModel
from models.parsing import parse
from runtime.pipelines.definition import (
    ExtractConfig,
    ExtractStep,
    LoadStep,
    PipelineDefinition,
    Step,
    TransformStep,
)
from runtime.transforms._contract import TRANSFORMS, Transform

EXTRACT, LOAD = "extract", "load"
LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class PlacedStep:
    """A step of the explicit form, and where it was written.

    `path` names the step and `config_path` its configuration in the document, as in `steps[2]` and `steps[2].config`
    or `transformation_config.transformations[0]` for both. `transform` is set for a transform step alone.
    """

    step: Step
    path: str
    config_path: str
    transform: Transform[StrictModel] | None = None

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def transform_path(self) -> str:
        """Where the configuration of the transform's own model is."""
        return f"{self.config_path}.config"


def expand(definition: PipelineDefinition) -> list[Step]:
    """The explicit steps of a definition, in the order they were written.

    The simple form becomes `extract`, one step for each transformation named after its type and position
    (`mapping_1`, `filter_2`), and `load`. Raises `Invalid` for a transform that is not known or not well configured.
    """
    return [placed.step for placed in placed_steps(definition)]


def placed_steps(definition: PipelineDefinition) -> list[PlacedStep]:
    """The explicit steps with the places they were written at; a lookup comes before the step that reads it."""
    written = _explicit(definition.steps) if definition.steps is not None else _simple(definition)
    return [one for placed in written for one in _with_lookup(placed)]


def _explicit(steps: Sequence[Step]) -> Iterator[PlacedStep]:
    for index, step in enumerate(steps):
        yield _placed(step, f"steps[{index}]", f"steps[{index}].config")


def _simple(definition: PipelineDefinition) -> Iterator[PlacedStep]:
    if definition.source_config is None or definition.destination_config is None:
        raise Invalid("has neither form", hint="give source_config and destination_config, or steps")
    extract = ExtractStep(name=EXTRACT, type="extract", config=definition.source_config)
    yield _placed(extract, "source_config", "source_config")
    before = EXTRACT
    listed = definition.transformation_config.transformations if definition.transformation_config else []
    for index, entry in enumerate(listed):
        path = f"transformation_config.transformations[{index}]"
        kind = TRANSFORMS.get(entry.type, f"{path}.type").kind
        step = TransformStep(name=f"{kind}_{index + 1}", type="transform", depends_on=[before], config=entry)
        yield _placed(step, path, path)
        before = step.name
    load = LoadStep(name=LOAD, type="load", depends_on=[before], config=definition.destination_config)
    yield _placed(load, "destination_config", "destination_config")


def _placed(step: Step, path: str, config_path: str) -> PlacedStep:
    if not isinstance(step, TransformStep):
        return PlacedStep(step, path, config_path)
    plugin = TRANSFORMS.get(step.config.type, f"{config_path}.type")
    config = parse(plugin.Config, step.config.config, f"{config_path}.config")
    return PlacedStep(step, path, config_path, plugin(config))


def _with_lookup(placed: PlacedStep) -> Iterator[PlacedStep]:
    step, lookup = placed.step, placed.transform.lookup() if placed.transform else None
    if lookup is None or not isinstance(step, TransformStep):
        yield placed
        return
    name = f"{step.name}__lookup"
    if len(name) > LONGEST_NAME:
        raise Invalid("is too long for a step with a lookup", hint="shorten it", path=f"{placed.path}.name")
    extract = ExtractStep(
        name=name,
        type="extract",
        config=parse(ExtractConfig, lookup.config, placed.transform_path),
        timeout_minutes=step.timeout_minutes,
        timeout_seconds=step.timeout_seconds,
        retry_attempts=step.retry_attempts,
        retry_policy=step.retry_policy,
        resources=step.resources,
        critical=step.critical,
        is_enabled=step.is_enabled,
    )
    yield PlacedStep(extract, placed.path, placed.transform_path)
    reading = step.model_copy(update={"depends_on": [*step.depends_on, name]})
    yield PlacedStep(reading, placed.path, placed.config_path, placed.transform)


def references(definition: PipelineDefinition) -> list[str]:
    """The sources and destinations that a definition names, by UUID or name, each once."""
    steps = [placed.step for placed in placed_steps(definition)]
    sources = [step.config.source_id for step in steps if isinstance(step, ExtractStep)]
    return list(
        dict.fromkeys([*sources, *(step.config.destination_id for step in steps if isinstance(step, LoadStep))])
    )
