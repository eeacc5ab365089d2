"""What an execution need not do again: of a take-over, of a retry, and of a re-run from a step. Pure, but for `chain`.

A finished task stays finished. It runs again only where a task that has yet to run reads its output and no copy of that
is left; then what it reads itself is needed, and so on upstream.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from models.errors import Invalid
from models.fields import Json, JsonObject
from models.parsing import parse
from runtime.database import Session
from runtime.executions.checkpoints import Kept, Place, Shelf, place_from
from runtime.executions.program import CommitKey
from runtime.executions.state import StepReport, Succeeded, TaskReport, TaskState, Waiting
from runtime.pipelines.plan import Plan, PlanTask

LONGEST_CHAIN: Final = 100


@dataclass(frozen=True, slots=True)
class Done:
    """A task that was finished: its last attempt, its report, and where its output is, as far as that is known."""

    attempt: int
    report: TaskReport
    places: tuple[Place, ...] = ()
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """An execution, or an earlier one that it takes up: what it finished, by task, and the step it ran again from.

    `states` are those of its steps, by name.
    """

    id: UUID
    execution_id: str
    generation: int
    from_step: str | None = None
    done: Mapping[str, Done] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recovery:
    """With what a supervisor begins: tasks that are done, those that are done but run again and why, and whether
    another supervisor had the execution before.
    """

    done: Mapping[str, Done] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)
    taken_over: bool = False
    origin: str | None = None

    @property
    def inherited(self) -> list[Kept]:
        """What was finished by an earlier execution, to be kept as this one's."""
        done = [(name, one) for name, one in self.done.items() if one.inherited]
        return [Kept(name, one.attempt, one.report, one.places) for name, one in done]

    def states(self, plan: Plan) -> dict[str, TaskState]:
        """The states that the plan's tasks begin in."""
        states: dict[str, TaskState] = {task.name: Waiting() for task in plan.tasks}
        return states | {name: Succeeded(one.attempt, one.report, one.inherited) for name, one in self.done.items()}


class Fate(StrEnum):
    """What becomes of a step in a retry or a re-run."""

    RUN = "run"
    RESTORE = "restore"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class StepFate:
    """A step, what becomes of it, and why."""

    step: str
    fate: Fate
    reason: str


def affected(plan: Plan, step: str) -> frozenset[str]:
    """The tasks that run again from a step on: its own and all that depend on that. Raises `Invalid` for no step."""
    names = [task.name for task in plan.tasks if step in task.members]
    if not names:
        enabled = [one.name for one in plan.steps if one.enabled]
        there = "is disabled" if any(one.name == step for one in plan.steps) else "is not a step of that version"
        hint = f"its steps are {', '.join(enabled)}"
        raise Invalid(f"{step!r} {there}", hint=hint, path="from_step", code="unknown_step")
    found = set(names)
    for task in plan.tasks:
        if found.intersection((*task.inputs, *task.after)):
            found.add(task.name)
    return frozenset(found)


def needed_again(plan: Plan, done: Collection[str], available: Collection[str]) -> dict[str, str]:
    """The done tasks that must run again, each with the task that needs its output, which is not available."""
    tasks = {task.name: task for task in plan.tasks}
    waiting = [task for task in plan.tasks if task.name not in done]
    found: dict[str, str] = {}
    while waiting:
        task = waiting.pop()
        for source in task.inputs:
            if source in done and source not in available and source not in found:
                found[source] = task.name
                waiting.append(tasks[source])
    return found


def done_before(plan: Plan, links: Sequence[Link]) -> dict[str, Done]:
    """What is finished of an execution and of those that it takes up, newest first: the newest word on a task counts.

    What an execution was to run again is not taken from those before it.
    """
    found: dict[str, Done] = {}
    closed: set[str] = set()
    for depth, link in enumerate(links):
        for name, done in link.done.items():
            if name not in found and name not in closed:
                found[name] = replace(done, inherited=depth > 0)
        if link.from_step is not None:
            closed |= affected(plan, link.from_step)
    return found


def recovered(
    plan: Plan, done: Mapping[str, Done], is_whole: Callable[[Sequence[Place]], bool]
) -> tuple[dict[str, Done], dict[str, str]]:
    """What of it stands, and which tasks run again although they were done, with the reason."""
    available = {name for name, one in done.items() if is_whole(one.places)}
    needing = needed_again(plan, done.keys(), available)
    reasons = {name: f"its output is gone, and {reader} needs it" for name, reader in needing.items()}
    return {name: one for name, one in done.items() if name not in needing}, reasons


def lost_step(plan: Plan, links: Sequence[Link], is_whole: Callable[[Sequence[Place]], bool]) -> str | None:
    """The first step that would run again only because a checkpoint that was kept of it is gone or damaged."""
    done = done_before(plan, links)
    _, again = recovered(plan, done, is_whole)
    lost = (task.members[0] for task in plan.tasks if task.name in again and done[task.name].places)
    return next(lost, None)


def recover(plan: Plan, links: Sequence[Link], shelf: Shelf, *, taken_over: bool) -> Recovery:
    """With what a supervisor begins; what it has of an earlier execution gets a file of its own. Reads files."""
    done = {
        name: replace(one, places=shelf.adopt(one.places)) if one.inherited and one.places else one
        for name, one in done_before(plan, links).items()
    }
    stands, again = recovered(plan, done, shelf.whole)
    return Recovery(stands, again, taken_over, links[1].execution_id if len(links) > 1 else None)


def commit_keys(plan: Plan, links: Sequence[Link]) -> dict[str, CommitKey]:
    """As which execution each load commits that goes on with an earlier one's.

    An execution loads as itself what it was to run again; else as the one whose load it takes up, in a generation
    younger than all before, which fences them off.
    """
    keys: dict[str, CommitKey] = {}
    for step in plan.steps:
        if step.load is None or not step.enabled:
            continue
        task, generation, owner = plan.task_of(step.name).name, 0, links[0]
        for owner in links:
            generation += owner.generation
            if owner.from_step is not None and task in affected(plan, owner.from_step):
                break
        if owner is not links[0]:
            keys[step.name] = CommitKey(owner.id, generation)
    return keys


def fates(plan: Plan, links: Sequence[Link], is_whole: Callable[[Sequence[Place]], bool]) -> list[StepFate]:
    """What becomes of each step when the first of these takes up the others, in the plan's order."""
    stands, again = recovered(plan, done_before(plan, links), is_whole)
    first, earlier = links[0], links[1]
    from_step = first.from_step
    chosen = affected(plan, from_step) if from_step is not None else frozenset[str]()
    found: list[StepFate] = []
    for step in plan.steps:
        if not step.enabled:
            found.append(StepFate(step.name, Fate.SKIP, "it is disabled"))
            continue
        task = plan.task_of(step.name)
        if task.name in stands:
            found.append(StepFate(step.name, Fate.RESTORE, _why_restored(plan, task, stands[task.name])))
        elif task.name in chosen and from_step is not None:
            found.append(StepFate(step.name, Fate.RUN, _why_chosen(task, step.name, from_step)))
        else:
            reason = again.get(task.name) or _why_unfinished(earlier.states.get(step.name))
            found.append(StepFate(step.name, Fate.RUN, reason))
    return found


def _why_restored(plan: Plan, task: PlanTask, done: Done) -> str:
    if plan.members(task)[-1].load is not None:
        return "it is done: what it loaded is not loaded again"
    return "it is done, and its output is kept" if done.places else "it is done, and nothing that runs needs its output"


def _why_chosen(task: PlanTask, step: str, from_step: str) -> str:
    if step == from_step:
        return "it is the step to run again from"
    if from_step in task.members:
        return f"it runs in one task with {from_step}"
    return f"it depends on {from_step}"


def _why_unfinished(state: str | None) -> str:
    match state:
        case None:
            return "it did not run"
        case "completed":
            return "it runs in one task with a step that did not finish"
        case "failed" | "skipped":
            return f"it {state}" if state == "failed" else "it was skipped"
        case _:
            return "it was stopped before it was done"


_CHAIN = text(f"""
    WITH RECURSIVE chain AS (
        SELECT id, execution_id, generation, 0 AS depth, execution_context ->> 'from_step' AS from_step,
            CAST(execution_context ->> 'retry_of' AS uuid) AS earlier
        FROM pipeline_executions WHERE id = :id
        UNION ALL
        SELECT before.id, before.execution_id, before.generation, chain.depth + 1,
            before.execution_context ->> 'from_step', CAST(before.execution_context ->> 'retry_of' AS uuid)
        FROM chain JOIN pipeline_executions AS before ON before.id = chain.earlier
        WHERE chain.depth < {LONGEST_CHAIN}
    )
    SELECT chain.id, chain.execution_id, chain.generation, chain.from_step,
        (SELECT jsonb_agg(jsonb_build_object('task', kept.task_name, 'attempt', kept.attempt, 'blocks', kept.blocks,
            'report', kept.report)) FROM checkpoints AS kept WHERE kept.execution_id = chain.id) AS kept,
        (SELECT jsonb_agg(jsonb_build_object('step', step.step_name, 'state', step.state, 'attempt', step.attempt,
            'records_in', step.records_in, 'records_out', step.records_out, 'ms', step.processing_time_ms,
            'stats', step.transformation_stats))
         FROM step_executions AS step WHERE step.pipeline_execution_id = chain.id) AS steps
    FROM chain ORDER BY chain.depth
""")


async def chain(session: Session, plan: Plan, execution_id: UUID) -> list[Link]:
    """An execution and those that it takes up, newest first, with what each finished."""
    rows = (await session.execute(_CHAIN, {"id": execution_id})).all()
    return [_link(plan, row) for row in rows]


def _link(plan: Plan, row: Any) -> Link:
    steps = {str(step["step"]): step for step in row.steps or ()}
    done = {task.name: _from_steps(task, steps) for task in plan.tasks if _all_completed(task, steps)}
    done |= {str(kept["task"]): _from_kept(kept) for kept in row.kept or ()}
    states = {name: str(step["state"]) for name, step in steps.items()}
    return Link(row.id, row.execution_id, row.generation, row.from_step, done, states)


def _all_completed(task: PlanTask, steps: Mapping[str, JsonObject]) -> bool:
    return all(name in steps and steps[name]["state"] == "completed" for name in task.members)


def _from_kept(kept: JsonObject) -> Done:
    blocks = kept["blocks"]
    places = tuple(place_from(block) for block in blocks if isinstance(block, dict)) if isinstance(blocks, list) else ()
    return Done(_whole(kept["attempt"]), parse(TaskReport, kept["report"]), places)


def _from_steps(task: PlanTask, steps: Mapping[str, JsonObject]) -> Done:
    """What the rows of its steps still tell of a task of which no checkpoint is left."""
    reports = tuple(_report(name, steps[name]) for name in task.members)
    return Done(_whole(steps[task.members[-1]]["attempt"]), TaskReport(reports))


def _report(name: str, row: JsonObject) -> StepReport:
    stats = row["stats"] if isinstance(row["stats"], dict) else {}
    return StepReport(
        step=name,
        records_in=_whole(row["records_in"]),
        records_out=_whole(row["records_out"]),
        inserted=_whole(stats.get("rows_inserted")),
        updated=_whole(stats.get("rows_updated")),
        deleted=_whole(stats.get("rows_deleted")),
        failed=_whole(stats.get("rows_failed")),
        processing_time_ms=_whole(row["ms"]),
        stats=dict(stats),
    )


def _whole(value: Json) -> int:
    return value if isinstance(value, int) else 0
