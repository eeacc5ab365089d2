"""Writes a plan down for people: as text for a terminal, as Markdown for documentation."""

from collections.abc import Iterator

import sqlglot

from runtime.batches.types import DIALECT
from runtime.pipelines.plan import ExtractPlan, LoadPlan, Plan, PlanColumn, PlanStep, PlanTask

SHORT_FINGERPRINT = 12


def describe_plan(plan: Plan) -> str:
    """The steps with their SQL and output columns, the tasks, and the notes, as plain text."""
    lines = [f"{plan.pipeline_name}  ({len(plan.steps)} steps in {len(plan.tasks)} tasks, {_short(plan)})", "", "Steps"]
    for step in plan.steps:
        lines.extend(_step_lines(step))
    lines.extend(["", "Tasks"])
    lines.extend(f"  {_task_line(task)}" for task in plan.tasks)
    if plan.notes:
        lines.extend(["", "Notes", *(f"  {note}" for note in plan.notes)])
    return "\n".join(lines) + "\n"


def document_plan(plan: Plan) -> str:
    """The same as Markdown, with a table of columns for each step."""
    lines = [f"# {plan.pipeline_name}", "", f"{len(plan.steps)} steps in {len(plan.tasks)} tasks. {_short(plan)}.", ""]
    for note in plan.notes:
        lines.append(f"> {note}")
    for step in plan.steps:
        lines.extend(["", f"## {step.order}. {step.name}", "", f"{_summary(step)}."])
        lines.extend(_markdown_sql(step))
        lines.extend(_markdown_columns(step.columns))
    lines.extend(["", "## Tasks", ""])
    lines.extend(f"- {_task_line(task)}" for task in plan.tasks)
    return "\n".join(lines) + "\n"


def _short(plan: Plan) -> str:
    return f"fingerprint {plan.fingerprint[:SHORT_FINGERPRINT]}"


def _step_lines(step: PlanStep) -> Iterator[str]:
    yield f"  {step.order:>2}. {step.name}: {_summary(step)}"
    if step.columns is not None:
        listed = ", ".join(_column(one) for one in step.columns)
        yield f"      columns: {listed}"
    elif step.enabled:
        yield "      columns: not known before the run"
    query = step.extract.query if step.extract else _own_sql(step)
    if query is not None:
        pretty = query if step.extract else _pretty(query)
        yield from (f"      {line}" for line in pretty.splitlines())
    if step.set_aside is not None:
        yield "      sets aside:"
        yield from (f"      {line}" for line in _pretty(step.set_aside).splitlines())


def _summary(step: PlanStep) -> str:
    if not step.enabled:
        return f"{step.type.value}, off"
    parts = [_action(step)]
    if step.inputs:
        parts.append(f"of {', '.join(step.inputs)}")
    if step.after:
        parts.append(f"after {', '.join(step.after)}")
    if not step.critical:
        parts.append("(may fail)")
    return " ".join(parts)


def _action(step: PlanStep) -> str:
    if step.extract is not None:
        return _extract(step.extract)
    return _load(step.load) if step.load is not None else step.transform or step.type.value


def _extract(extract: ExtractPlan) -> str:
    what = "a query" if extract.query else extract.dataset or "everything"
    cursor = f", new by {extract.cursor_column}" if extract.cursor_column else ""
    since = ", since the last run" if extract.reads_last_run else ""
    parts = f", in {extract.partitions} partitions" if extract.partitions > 1 else ""
    return f"extract {what} from {extract.kind} {extract.source}{cursor}{since}{parts}"


def _load(load: LoadPlan) -> str:
    keys = f" by {', '.join(load.key_columns)}" if load.key_columns else ""
    return f"{load.write_mode.value}{keys} into {load.table} of {load.kind} {load.destination}"


def _own_sql(step: PlanStep) -> str | None:
    """The SQL worth showing: a load of one input only passes rows on."""
    return step.sql if step.load is None or len(step.inputs) > 1 else None


def _pretty(sql: str) -> str:
    return sqlglot.parse_one(sql, dialect=DIALECT).sql(dialect=DIALECT, pretty=True)


def _column(column: PlanColumn) -> str:
    return f"{column.name} {column.type}{'' if column.nullable else ' not null'}"


def _task_line(task: PlanTask) -> str:
    chain = " > ".join(task.members)
    reads = f" reading {', '.join(task.inputs)}" if task.inputs else ""
    after = f" after {', '.join(task.after)}" if task.after else ""
    parts = f", {task.partitions} partitions" if task.partitions > 1 else ""
    return f"{chain}{reads}{after}{parts}"


def _markdown_sql(step: PlanStep) -> Iterator[str]:
    query = step.extract.query if step.extract else _own_sql(step)
    if query is not None:
        yield from ("", "```sql", query if step.extract else _pretty(query), "```")
    if step.set_aside is not None:
        yield from ("", "Sets aside:", "", "```sql", _pretty(step.set_aside), "```")


def _markdown_columns(columns: tuple[PlanColumn, ...] | None) -> Iterator[str]:
    if columns:
        yield from ("", "| column | type | null |", "|---|---|---|")
        yield from (f"| {one.name} | {one.type} | {'yes' if one.nullable else 'no'} |" for one in columns)
