"""The compiled plan: the one description of what a pipeline does, which everything else reads."""

import hashlib
from datetime import timedelta

from pydantic import Field

from models.base import StrictModel
from models.destinations import WriteMode
from models.executions import Keeping
from models.fields import Json
from models.pipelines import Resources, RetryPolicy, StepType


class PlanColumn(StrictModel):
    """A column: its name, its DuckDB type name (`UNKNOWN` before discovery) and whether it may be null."""

    name: str
    type: str
    nullable: bool = True


class ExtractPlan(StrictModel):
    """The source and the request of an extract step; `source` is the id of its row in `data_sources`."""

    source: str
    kind: str
    dataset: str | None = None
    query: str | None = None
    filters: dict[str, Json] = Field(default_factory=dict)
    batch_rows: int
    cursor_column: str | None = None
    cursor_initial: str | None = None
    cursor_lag_seconds: int = 0
    reads_last_run: bool = False
    partition_column: str | None = None
    partitions: int = 1

    @property
    def incremental(self) -> bool:
        """Whether the read depends on where the last run ended."""
        return self.reads_last_run or self.cursor_column is not None


class LoadPlan(StrictModel):
    """The destination and the target of a load step; `destination` is the id of its row in `data_destinations`."""

    destination: str
    kind: str
    table: str
    write_mode: WriteMode
    key_columns: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    options: dict[str, Json] = Field(default_factory=dict)


class PlanStep(StrictModel):
    """One step of the definition, compiled.

    `sql` is the step's own query (DuckDB dialect) over tables named as its inputs; None for an extract. A load's
    query unites its inputs by name. `set_aside` is the query of the input rows that it leaves out as bad: first why,
    then the row as it came. `columns` is the output schema; None where it is not known before the run.
    `after` are steps that must be done before this one, without giving it rows. A step that is not `enabled` has
    the inputs it was written with, and is in no task. `path` is where its configuration is in the document.
    `retry_policy` is set where the step's own differs from the pipeline's.
    """

    name: str
    path: str = ""
    type: StepType
    order: int
    inputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    transform: str | None = None
    sql: str | None = None
    set_aside: str | None = None
    columns: tuple[PlanColumn, ...] | None = None
    row_wise: bool = False
    filters_rows: bool = False
    extract: ExtractPlan | None = None
    load: LoadPlan | None = None
    parallel: bool = False
    timeout_minutes: int = 60
    timeout_seconds: int | None = None
    retry_attempts: int = 3
    retry_policy: RetryPolicy | None = None
    resources: Resources | None = None
    critical: bool = True
    enabled: bool = True

    @property
    def is_lookup(self) -> bool:
        """Whether this extract only serves an enrichment; its rows are not what the pipeline processes."""
        return self.extract is not None and self.name.endswith(LOOKUP_SUFFIX)


LOOKUP_SUFFIX = "__lookup"
"""How the extract that an enrichment reads from is named: `<step>__lookup`."""


class PlanTask(StrictModel):
    """What is left of neighbouring steps after fusion: one Ray task, or one for each partition of its read.

    `members` are the fused steps in order: at most one extract (the first), then queries, then at most one load (the
    last). `inputs` are the tasks whose outputs it reads, `after` those that must be done before it without giving it
    rows. A task's name is its last member's.
    """

    name: str
    members: tuple[str, ...]
    inputs: tuple[str, ...]
    after: tuple[str, ...] = ()
    partitions: int = 1
    timeout_minutes: int
    timeout_seconds: int | None = None
    retry_attempts: int
    retry_policy: RetryPolicy | None = None
    resources: Resources | None = None
    critical: bool

    @property
    def time_limit(self) -> timedelta:
        """How long one run of it may take."""
        return timedelta(seconds=self.timeout_seconds or 60 * self.timeout_minutes)


class Plan(StrictModel):
    """A DAG of compiled steps and the tasks that run them, both in an order that respects dependencies.

    `notes` say what a person should know before the run, such as what cannot be checked yet.
    """

    pipeline_name: str
    steps: tuple[PlanStep, ...]
    tasks: tuple[PlanTask, ...]
    parameters: dict[str, Json] = Field(default_factory=dict)
    retry_policy: RetryPolicy | None = None
    notes: tuple[str, ...] = ()
    checkpoints: Keeping = Keeping.UNTIL_SUCCESS

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the plan's canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def step(self, name: str) -> PlanStep:
        """The step of that name; KeyError if there is none."""
        return next(step for step in self.steps if step.name == name)

    def task_of(self, step: str) -> PlanTask:
        """The task that runs that step."""
        return next(task for task in self.tasks if step in task.members)

    def members(self, task: PlanTask) -> tuple[PlanStep, ...]:
        """The compiled steps that one task runs, in order."""
        return tuple(self.step(name) for name in task.members)
