"""Joins neighbouring steps into tasks, and writes the one query that each task runs."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from runtime.batches.types import DIALECT
from runtime.pipelines.plan import Plan, PlanStep, PlanTask
from runtime.transforms._sql import name, render, same, table

_VOLATILE = re.compile(r"\b(?:RANDOM|UUID|UUIDV4|UUIDV7|GEN_RANDOM_UUID)\(", re.IGNORECASE)


@dataclass(slots=True)
class _Chain:
    """Steps that become one task."""

    members: list[PlanStep]
    open: bool = True

    @property
    def last(self) -> PlanStep:
        return self.members[-1]


def tasks_of(steps: Sequence[PlanStep]) -> tuple[PlanTask, ...]:
    """The tasks of the enabled steps, in an order that respects dependencies.

    A row-wise step, and a load of a single input, joins the task of its input if nothing else reads that input and
    both agree in `critical`, time limit, retries, resources and `parallel`. Every other step begins a task. After a
    step whose result is not the same twice (`random()`), only a load joins: its rows could not be counted by running it
    again.
    A step that sets rows aside joins row-wise steps only: those run batch by batch, so that its bad rows are at hand.
    """
    enabled = [step for step in steps if step.enabled]
    readers = Counter(one for step in enabled for one in step.inputs)
    chains: dict[str, _Chain] = {}
    for step in enabled:
        chain = chains.get(step.inputs[0]) if len(step.inputs) == 1 else None
        if chain is None or readers[step.inputs[0]] > 1 or not _joins(chain, step):
            chain = _Chain([])
        chain.members.append(step)
        chain.open = step.load is None and not _is_volatile(step)
        chains[step.name] = chain
    distinct = {id(chain): chain for chain in chains.values()}
    return tuple(_task(chain, chains) for chain in distinct.values())


def _joins(chain: _Chain, step: PlanStep) -> bool:
    if chain.last.load is not None or step.after or not (step.load or (step.row_wise and chain.open)):
        return False
    if step.set_aside and not all(one.row_wise or one.extract for one in chain.members):
        return False
    return _attributes(chain.last) == _attributes(step)


def _attributes(step: PlanStep) -> tuple[object, ...]:
    limits = (step.timeout_minutes, step.timeout_seconds, step.resources)
    return step.critical, limits, step.retry_attempts, step.retry_policy, step.parallel


def _is_volatile(step: PlanStep) -> bool:
    """Whether the step calls a function that gives something else each time, going by its rendered SQL."""
    return step.sql is not None and _VOLATILE.search(step.sql) is not None


def _task(chain: _Chain, chains: dict[str, _Chain]) -> PlanTask:
    first, last = chain.members[0], chain.last
    return PlanTask(
        name=last.name,
        members=tuple(step.name for step in chain.members),
        inputs=first.inputs,
        after=tuple(dict.fromkeys(chains[one].last.name for one in first.after)),
        partitions=first.extract.partitions if first.extract else 1,
        timeout_minutes=last.timeout_minutes,
        timeout_seconds=last.timeout_seconds,
        retry_attempts=last.retry_attempts,
        retry_policy=last.retry_policy,
        resources=last.resources,
        critical=last.critical,
    )


def fused_sql(plan: Plan, task: PlanTask) -> str | None:
    """One query that does what all the task's members do, one after the other; None where rows pass unchanged.

    It reads tables named as the task's inputs, or as its extract step, each of them once; so each may be a stream.
    """
    return _chained(_queries(plan, task))


def only_unites(plan: Plan, task: PlanTask) -> bool:
    """Whether the task's query does nothing but put the rows of its inputs one after the other, matched by name."""
    queries = _queries(plan, task)
    if len(queries) != 1 or queries[0].sql is None or not (queries[0].load or queries[0].transform == "union"):
        return False
    unions = list(sqlglot.parse_one(queries[0].sql, dialect=DIALECT).find_all(exp.Union))
    return bool(unions) and not any(union.args["distinct"] for union in unions)


def prefix_sql(plan: Plan, task: PlanTask, step: str) -> str | None:
    """The same up to and including one member."""
    names = task.members[: task.members.index(step) + 1]
    return _chained([one for one in _queries(plan, task) if one.name in names])


def set_aside_sql(plan: Plan, task: PlanTask, step: str) -> str | None:
    """The rows that one member sets aside of what the members before it give it; None where it never does."""
    member = plan.step(step)
    if member.set_aside is None:
        return None
    names = task.members[: task.members.index(step)]
    before = [one for one in _queries(plan, task) if one.name in names]
    return _chained([*before, member.model_copy(update={"sql": member.set_aside})])


def counting_sql(plan: Plan, task: PlanTask) -> str | None:
    """A query with one row: the rows after each member that changes their number, in a column named as the member.

    The last such member is left out, because its rows are the task's. None where none is left: then the rows before
    and after the task tell all.
    """
    queries = _queries(plan, task)
    changing = [step for step in queries if step.filters_rows or not step.row_wise][:-1]
    if not changing:
        return None
    last = queries.index(changing[-1])
    names = {step.name for step in changing}
    parts = [_cte(step, materialized=step.name in names) for step in queries[: last + 1]]
    counts = [f"(SELECT COUNT(*) FROM {_quoted(one.name)}) AS {_quoted(one.name)}" for one in changing]
    return f"WITH {', '.join([*_shared(queries[0]), *parts])} SELECT {', '.join(counts)}"


def _queries(plan: Plan, task: PlanTask) -> list[PlanStep]:
    """The members that do something to the rows: transforms, and a load that unites inputs."""
    steps = plan.members(task)
    return [step for step in steps if step.sql is not None and (step.load is None or len(step.inputs) > 1)]


def _chained(queries: Sequence[PlanStep]) -> str | None:
    if not queries:
        return None
    if len(queries) == 1 and not _shared(queries[0]):
        return queries[0].sql
    parts = [*_shared(queries[0]), *(_cte(step) for step in queries)]
    return f"WITH {', '.join(parts)} SELECT * FROM {_quoted(queries[-1].name)}"


def _cte(step: PlanStep, *, materialized: bool = False) -> str:
    return f"{_quoted(step.name)} AS {'MATERIALIZED ' if materialized else ''}({_reading_shared(step)})"


def _quoted(text: str) -> str:
    return render(name(text))


def _repeated(step: PlanStep) -> list[str]:
    """The inputs that a person's own SQL reads more than once."""
    if step.transform != "sql" or step.sql is None:
        return []
    read = Counter(one.name.lower() for one in sqlglot.parse_one(step.sql, dialect=DIALECT).find_all(exp.Table))
    return [one for one in step.inputs if read[one.lower()] > 1]


def _once(text: str) -> str:
    return f"{text} (read once)"


def _shared(step: PlanStep) -> list[str]:
    """CTEs that hold an input which is read more than once, so that a stream can be that input."""
    return [f"{_quoted(_once(one))} AS MATERIALIZED (SELECT * FROM {_quoted(one)})" for one in _repeated(step)]


def _reading_shared(step: PlanStep) -> str:
    repeated = _repeated(step)
    if not repeated or step.sql is None:
        return step.sql or ""
    tree = sqlglot.parse_one(step.sql, dialect=DIALECT)
    for node in list(tree.find_all(exp.Table)):
        for one in repeated:
            if same(node.name, one):
                node.replace(table(_once(one), node.alias or one))
    return render(tree)
