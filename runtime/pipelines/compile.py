"""Compiles a definition against the known sources and destinations into the plan that everything reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from models.errors import Invalid
from models.fields import StrictModel
from models.pipelines import RetryPolicy, StepType
from runtime.batches.types import Columns
from runtime.connectors.catalog import Catalog
from runtime.pipelines.definition import ExtractStep, LoadStep, PipelineDefinition, Step, TransformStep
from runtime.pipelines.expand import PlacedStep, placed_steps
from runtime.pipelines.extraction import compile_extract
from runtime.pipelines.fuse import tasks_of
from runtime.pipelines.graph import Wired, wire
from runtime.pipelines.loading import compile_load
from runtime.pipelines.notes import notes_on
from runtime.pipelines.plan import Plan, PlanColumn, PlanStep
from runtime.transforms import _types as t
from runtime.transforms._contract import Relation, Transform
from runtime.transforms._inference import Inference
from runtime.transforms._sql import column, name, render
from runtime.transforms.union import united

DEFAULT_RETRY = RetryPolicy()


def compile_definition(definition: PipelineDefinition, catalog: Catalog) -> Plan:
    """The plan of a definition: its steps with their SQL and output columns, and the tasks that run them.

    Raises `Invalid` whose path names the bad key of the document. What depends on a source that was not discovered
    is left to the run, and noted. A pipeline without a load is allowed (it previews and counts), and noted too.
    """
    compiling = _Compiling(definition, catalog)
    steps = tuple(compiling.step(wired, order) for order, wired in enumerate(wire(placed_steps(definition)), start=1))
    if not any(step.enabled for step in steps):
        raise Invalid("every step is disabled", hint="enable an extract step", path="steps")
    tasks = tasks_of(steps)
    return Plan(
        pipeline_name=definition.pipeline_name,
        steps=steps,
        tasks=tasks,
        parameters=definition.parameters,
        retry_policy=definition.retry_policy,
        notes=(*compiling.notes, *notes_on(definition, steps, tasks)),
        checkpoints=definition.checkpoints,
    )


@dataclass(slots=True)
class _Compiling:
    """Compiles step by step, in order, keeping the columns that each gives."""

    definition: PipelineDefinition
    catalog: Catalog
    columns: dict[str, Columns | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def step(self, wired: Wired, order: int) -> PlanStep:
        """Compile one step; all its inputs were compiled before."""
        placed, policy = wired.placed, self.definition.retry_policy
        retries = _retry_policy(placed, policy or DEFAULT_RETRY)
        default = (retries or policy or DEFAULT_RETRY).max_attempts - 1
        base = PlanStep(
            name=placed.name,
            path=placed.config_path,
            type=StepType(placed.step.type),
            order=order,
            inputs=wired.inputs,
            after=wired.after,
            parallel=placed.step.parallel_execution,
            timeout_minutes=_minutes(placed.step),
            timeout_seconds=placed.step.timeout_seconds,
            retry_attempts=default if placed.step.retry_attempts is None else placed.step.retry_attempts,
            retry_policy=retries,
            resources=placed.step.resources,
            critical=placed.step.critical,
            enabled=wired.enabled,
        )
        if placed.transform is not None:
            base = base.model_copy(update={"transform": placed.transform.kind, "path": placed.transform_path})
        if not wired.enabled:
            self.notes.append(f"Step {placed.name!r} does not run: {wired.because}.")
            return base
        return self._compiled(placed, base)

    def _compiled(self, placed: PlacedStep, base: PlanStep) -> PlanStep:
        relations = [Relation(one, self.columns[one]) for one in base.inputs]
        match placed.step:
            case ExtractStep():
                return self._extract(placed, base)
            case TransformStep():
                return self._transform(placed, base, relations)
            case LoadStep(config=config):
                query = united(relations)
                columns = Inference(relations, placed.config_path).columns(query)
                load = compile_load(config, placed.config_path, self.catalog, columns)
                return self._finished(base, columns, {"sql": render(query), "load": load})

    def _extract(self, placed: PlacedStep, base: PlanStep) -> PlanStep:
        assert isinstance(placed.step, ExtractStep)
        plan, columns = compile_extract(
            placed.step.config, placed.config_path, self.catalog, parallel=placed.step.parallel_execution
        )
        if columns is None:
            self.notes.append(f"The columns of {placed.name!r} are not known: what uses them is checked at the run.")
        return self._finished(base, columns, {"extract": plan})

    def _transform(self, placed: PlacedStep, base: PlanStep, relations: list[Relation]) -> PlanStep:
        assert placed.transform is not None
        query = _expression(placed.transform, relations, placed.transform_path)
        columns = Inference(relations, placed.transform_path).columns(query)
        _refuse_equal_names(columns, placed)
        if not placed.transform.row_wise:
            query, columns = _storable(query, columns)
        filters = placed.transform.row_wise and query.args.get("where") is not None
        aside = placed.transform.set_aside(relations) if filters else None
        changed = {"sql": render(query), "row_wise": placed.transform.row_wise, "filters_rows": filters}
        return self._finished(base, columns, {**changed, "set_aside": aside and render(aside)})

    def _finished(self, base: PlanStep, columns: Columns | None, changed: Mapping[str, object]) -> PlanStep:
        self.columns[base.name] = columns
        planned = None
        if columns is not None:
            planned = tuple(PlanColumn(name=one.name, type=one.type, nullable=one.nullable) for one in columns)
        return base.model_copy(update={**changed, "columns": planned})


def _minutes(step: Step) -> int:
    """The time limit in whole minutes, rounded up where it is told in seconds."""
    return step.timeout_minutes if step.timeout_seconds is None else math.ceil(step.timeout_seconds / 60)


def _retry_policy(placed: PlacedStep, policy: RetryPolicy) -> RetryPolicy | None:
    """The step's own retry policy, over its pipeline's; None where it overrides nothing."""
    overrides = placed.step.retry_policy
    if overrides is None:
        return None
    try:
        own = overrides.over(policy)
    except ValueError as error:
        raise Invalid(
            "max_seconds would be less than initial_seconds, over the pipeline's retry_policy",
            hint="set both of them on the step",
            path=f"{placed.path}.retry_policy",
        ) from error
    return None if own == policy else own


def _expression(transform: Transform[StrictModel], relations: list[Relation], path: str) -> exp.Query:
    """The transform's query; its errors' paths, which begin at its configuration, begin at the document."""
    try:
        return transform.expression(relations)
    except Invalid as error:
        place = f"{path}.{error.path}" if error.path else path
        raise Invalid(error.message, hint=error.hint, path=place, code=error.specific_code) from error


def _refuse_equal_names(columns: Columns | None, placed: PlacedStep) -> None:
    seen: set[str] = set()
    for one in columns or ():
        if one.name.lower() in seen:
            raise Invalid(
                f"step {placed.name!r} gives two columns called {one.name!r}",
                hint="give one of them another name",
                path=placed.transform_path,
            )
        seen.add(one.name.lower())


def _storable(query: exp.Query, columns: Columns | None) -> tuple[exp.Query, Columns | None]:
    """The query with 128-bit integers (sums of integers) as BIGINT: Arrow would make decimals of 38 digits of them."""
    huge = [one.name for one in columns or () if one.type == t.HUGEINT]
    if columns is None or not huge:
        return query, columns
    narrowed = [exp.Alias(this=exp.cast(column(one), exp.DataType.Type.BIGINT), alias=name(one)) for one in huge]
    outer = exp.Select(expressions=[exp.Star(replace=narrowed)])
    outer = outer.from_(query.subquery("result", copy=False), copy=False)
    return outer, tuple(
        type(one)(one.name, t.BIGINT if one.type == t.HUGEINT else one.type, one.nullable) for one in columns
    )
