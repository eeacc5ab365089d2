"""Shows what a plan would do: the first rows and the schema after each step, nothing committed."""

from collections.abc import Mapping
from uuid import UUID, uuid4

import pyarrow as pa

from models.errors import DomainError
from models.fields import Json, JsonObject
from runtime.batches.types import columns_of
from runtime.executions.causes import traced
from runtime.executions.cursors import read_request
from runtime.executions.meters import masked_rows
from runtime.executions.program import RunContext, TaskRequest, program_of_step
from runtime.executions.steps import Worker
from runtime.pipelines.plan import Plan, PlanStep
from runtime.queue.failures import failure_to

SHOWN_ROWS = 20


def preview(plan: Plan, context: RunContext, worker: Worker) -> JsonObject:
    """Run each step by itself on the first `context.sample_rows` rows of its sources.

    A step that fails carries its `error` in place of rows, and so do those that depend on it.
    """
    tables: dict[str, pa.Table] = {}
    shown: list[Json] = []
    for step in plan.steps:
        missing = [name for name in step.inputs if name not in tables]
        if missing:
            hint = f"mend {missing[0]} first: its own error says how"
            needs: JsonObject = {"code": "missing_input", "message": f"needs {missing[0]}", "hint": hint}
            shown.append({"name": step.name, "type": step.type.value, "error": needs})
            continue
        try:
            with traced(step.extract, step.path):
                rows = _run(plan, step, context, tables, worker)
        except DomainError as error:
            told = {key: value for key, value in failure_to(error).items() if key != "class"}
            shown.append({"name": step.name, "type": step.type.value, "error": told})
            continue
        tables[step.name] = rows
        shown.append(_shown(step, rows, sum(tables[name].num_rows for name in step.inputs)))
    return {"steps": shown}


def sample_context(revisions: Mapping[UUID, str], parameters: Mapping[str, Json], rows: int) -> RunContext:
    """The context of a preview: a dry run of nobody's execution."""
    return RunContext(uuid4(), uuid4(), 0, parameters, revisions, dry_run=True, sample_rows=rows)


def _run(plan: Plan, step: PlanStep, context: RunContext, tables: Mapping[str, pa.Table], worker: Worker) -> pa.Table:
    if step.extract is not None:
        return _extract(plan, step, context, worker)
    inputs = {name: tables[name] for name in step.inputs}
    rows = worker.engine.table(step.sql, inputs) if step.sql is not None else inputs[step.inputs[0]]
    if step.load is not None:
        identity = UUID(step.load.destination)
        destination, target = worker.connections.destination(identity, context.revisions[identity], step.load)
        try:
            destination.fit(target, rows.schema)
        finally:
            destination.close()
    return rows


def _extract(plan: Plan, step: PlanStep, context: RunContext, worker: Worker) -> pa.Table:
    request = TaskRequest(program_of_step(plan, step), context)
    wanted = read_request(request)
    identity = UUID(step.extract.source) if step.extract else UUID(int=0)
    source = worker.connections.source(identity, context.revisions[identity])
    try:
        return source.read(wanted, source.split(wanted, 1)[0]).read_all()
    finally:
        source.close()


def _shown(step: PlanStep, rows: pa.Table, records_in: int) -> JsonObject:
    columns: list[Json] = [{"name": c.name, "type": c.type, "nullable": c.nullable} for c in columns_of(rows.schema)]
    names = rows.schema.names
    first = [row for row in masked_rows(rows, SHOWN_ROWS) if isinstance(row, dict)]
    return {
        "name": step.name,
        "type": step.type.value,
        "columns": columns,
        "rows": [[row.get(name) for name in names] for row in first],
        "records_in": records_in if step.inputs else rows.num_rows,
        "records_out": rows.num_rows,
    }
