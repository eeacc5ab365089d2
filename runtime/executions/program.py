"""What a worker is sent: one task of a plan as a small picklable program, and the request to run it once."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property, lru_cache
from uuid import UUID

import pyarrow as pa

from models.fields import Json
from models.pipelines import Resources
from runtime.connectors._contract import Receipt, Split
from runtime.executions.state import ReadRange, TaskReport
from runtime.pipelines.fuse import counting_sql, fused_sql, only_unites, prefix_sql, set_aside_sql
from runtime.pipelines.plan import ExtractPlan, LoadPlan, Plan, PlanStep, PlanTask


@dataclass(frozen=True, slots=True)
class Member:
    """One step of a task. `prefix` is the query of the chain up to and including it, for its sample.

    `set_aside` is the query of the rows that it sets aside, over the task's input too; `path` is where the definition
    configures it.
    """

    name: str
    type: str
    transform: str | None
    prefix: str | None
    changes_rows: bool
    set_aside: str | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class CursorOwner:
    """A load that keeps the cursor of an extract."""

    load: LoadPlan
    step: str


@dataclass(frozen=True, eq=False)
class TaskProgram:
    """One task, ready to run: `sql` over tables named as `inputs` (or as the extract), None when rows pass unchanged.

    `unites` says that the query only puts the inputs' rows one after the other: none is needed for columns that are the
    same.
    `counting` gives the rows after each member that changes their number, where that cannot be told from both ends.
    It is sent with every request, so it is pickled once, and unpickled once in each process.
    """

    task: str
    members: tuple[Member, ...]
    inputs: tuple[str, ...]
    extract: ExtractPlan | None
    load: LoadPlan | None
    sql: str | None
    counting: str | None
    row_wise: bool
    partitions: int
    unites: bool = False
    cursor_owners: tuple[CursorOwner, ...] = ()
    resources: Resources | None = None

    @property
    def extract_step(self) -> str | None:
        """The name of the extract it begins with."""
        return self.members[0].name if self.extract else None

    @property
    def load_step(self) -> str | None:
        """The name of the load it ends with."""
        return self.members[-1].name if self.load else None

    @property
    def by_batches(self) -> bool:
        """Whether the query of its one stream must run batch by batch: for what is between its ends."""
        asks = self.counting is not None or any(member.set_aside for member in self.members)
        return asks and self.row_wise and len(self.inputs) <= 1

    @property
    def querying(self) -> tuple[Member, ...]:
        """The members that do something to the rows: the chain's query is theirs."""
        before = (None, *(member.prefix for member in self.members))
        return tuple(member for member, earlier in zip(self.members, before, strict=False) if member.prefix != earlier)

    @cached_property
    def _packed(self) -> bytes:
        return pickle.dumps([getattr(self, one.name) for one in fields(self)])

    def __reduce__(self) -> "tuple[Callable[[bytes], TaskProgram], tuple[bytes]]":
        return _unpacked, (self._packed,)


@lru_cache(maxsize=1024)
def _unpacked(packed: bytes) -> TaskProgram:
    return TaskProgram(*pickle.loads(packed))


class Phase(StrEnum):
    """Which part of a task a request runs: all of it, or one part of a partitioned one."""

    WHOLE = "whole"
    SPLIT = "split"
    PARTITION = "partition"
    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class CommitKey:
    """The execution and generation as which a load commits."""

    execution_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all tasks of one execution share. `parameters` are bound into queries; times in ms; samples in rows.

    `commits` names, by step, the loads that go on with what an earlier execution began, and commit as that one: so
    that what it published, though nobody heard of it, is not published again.
    `covers` is the range that an incremental read takes where a backfill says it: then no cursor is asked or moved.
    """

    pipeline_id: UUID
    execution_id: UUID
    generation: int
    parameters: Mapping[str, Json]
    revisions: Mapping[UUID, str]
    dry_run: bool = False
    sample_rows: int | None = None
    block_rows: int = 122_880
    commits: Mapping[str, CommitKey] = field(default_factory=dict)
    covers: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """Run one phase of one task.

    `ranges` are what extracts upstream have read; `range` is the incremental read of its own, once it is set, and
    `lower` where that begins if no load downstream has kept a cursor.
    """

    program: TaskProgram
    context: RunContext
    phase: Phase = Phase.WHOLE
    split: Split | None = None
    lower: str | None = None
    range: ReadRange | None = None
    ranges: Mapping[str, ReadRange] = field(default_factory=dict)
    receipts: tuple[Receipt, ...] = ()

    @property
    def delivers(self) -> bool:
        """Whether it has an output: blocks that other tasks read."""
        return self.program.load is None and self.phase in (Phase.WHOLE, Phase.PARTITION)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running task is, in rows."""

    records_in: int
    records_out: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The last item of a task's stream: its report, a small rest of its output, and what its phase made.

    `output_bytes` is the size of the whole output, the rest included.
    """

    report: TaskReport
    block: pa.Table | None = None
    receipt: Receipt | None = None
    splits: tuple[Split, ...] = ()
    range: ReadRange | None = None
    output_bytes: int = 0


def programs(plan: Plan) -> dict[str, TaskProgram]:
    """Each task's program by its name."""
    return {task.name: _program(plan, task) for task in plan.tasks}


def program_of_step(plan: Plan, step: PlanStep) -> TaskProgram:
    """One extract step as a program of its own, for previews."""
    member = Member(step.name, step.type.value, step.transform, None, changes_rows=False, path=step.path)
    owners = _cursor_owners(plan, step.name) if step.extract and step.extract.incremental else ()
    return TaskProgram(step.name, (member,), (), step.extract, None, None, None, True, 1, cursor_owners=owners)


def _program(plan: Plan, task: PlanTask) -> TaskProgram:
    steps = plan.members(task)
    extract = steps[0].extract
    return TaskProgram(
        task=task.name,
        members=tuple(
            Member(
                name=step.name,
                type=step.type.value,
                transform=step.transform,
                prefix=prefix_sql(plan, task, step.name),
                changes_rows=step.sql is not None and (step.filters_rows or not step.row_wise) and step.load is None,
                set_aside=set_aside_sql(plan, task, step.name),
                path=step.path,
            )
            for step in steps
        ),
        inputs=task.inputs,
        extract=extract,
        load=steps[-1].load,
        sql=fused_sql(plan, task),
        counting=counting_sql(plan, task),
        row_wise=all(step.row_wise or step.extract or step.load for step in steps),
        partitions=task.partitions,
        unites=only_unites(plan, task),
        cursor_owners=_cursor_owners(plan, steps[0].name) if extract and extract.incremental else (),
        resources=task.resources,
    )


def _cursor_owners(plan: Plan, extract: str) -> tuple[CursorOwner, ...]:
    """The loads downstream of an extract; each keeps its cursor in the transaction that publishes its rows."""
    reached = {extract}
    for step in plan.steps:
        if reached.intersection(step.inputs):
            reached.add(step.name)
    loads: Sequence[tuple[str, LoadPlan | None]] = [(s.name, s.load) for s in plan.steps if s.name in reached]
    return tuple(CursorOwner(load, name) for name, load in loads if load)
