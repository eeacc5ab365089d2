"""What a server answers, as values: executions, steps, events, logs, sources and destinations."""

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from models.events import EventKind
from models.executions import ExecutionState, ExecutionStatus, ExecutionType, StepState, StepStatus
from models.fields import Json, JsonObject
from runtime.queue.pools import WaitReason


def lowered(value: object) -> object:
    """GraphQL writes the members of enums in capitals."""
    return value.lower() if isinstance(value, str) else value


Status: TypeAlias = Annotated[ExecutionStatus, BeforeValidator(lowered)]
State: TypeAlias = Annotated[ExecutionState, BeforeValidator(lowered)]
Type: TypeAlias = Annotated[ExecutionType, BeforeValidator(lowered)]
StatusOfStep: TypeAlias = Annotated[StepStatus, BeforeValidator(lowered)]
StateOfStep: TypeAlias = Annotated[StepState, BeforeValidator(lowered)]
Reason: TypeAlias = Annotated[WaitReason, BeforeValidator(lowered)]
Kind: TypeAlias = Annotated[EventKind, BeforeValidator(lowered)]


class Value(BaseModel):
    """A part of an answer; keys that a later server adds are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class Step(Value):
    """One step of an execution; times in milliseconds, fused steps share theirs."""

    step_name: str
    status: StatusOfStep
    state: StateOfStep
    records_in: int = 0
    records_out: int = 0
    processing_time_ms: int | None = None
    error_message: str | None = None
    retry_count: int = 0


class Failure(Value):
    """Why an execution failed."""

    error_type: str
    error_message: str
    failed_step: str
    hint: str | None = None
    path: str | None = None


class WaitingFor(Value):
    """What holds a queued execution back: the pipeline or the pool of this name, with its limit, or no free worker."""

    reason: Reason
    name: str | None = None
    limit: int | None = None
    running: int | None = None


class PipelineName(Value):
    """The pipeline of an execution."""

    pipeline_name: str


class Accepted(Value):
    """An execution as it is accepted."""

    id: UUID
    execution_id: str
    execution_type: Type
    status: Status
    state: State
    started_at: datetime
    dry_run: bool = False


class ExecutionSummary(Accepted):
    """An execution as lists show it."""

    completed_at: datetime | None = None
    records_processed: int = 0
    records_inserted: int = 0
    records_updated: int = 0
    records_deleted: int = 0
    records_failed: int = 0
    data_quality_score: float | None = None
    pipeline: PipelineName
    error_details: Failure | None = None
    waiting_for: WaitingFor | None = None
    late_at: datetime | None = None

    @property
    def milliseconds(self) -> float | None:
        """How long it took from acceptance to its end; None while it runs."""
        if self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds() * 1000


class Execution(ExecutionSummary):
    """An execution with its steps, in the plan's order."""

    steps: tuple[Step, ...] = ()


class Event(Value):
    """Something that happened in an execution; `seq` counts from 1 without gap, `cursor` says where to go on."""

    cursor: str
    seq: int
    kind: Kind
    step_name: str | None = None
    recorded_at: datetime
    payload: JsonObject

    @property
    def is_last(self) -> bool:
        """Whether the execution has ended with it."""
        return self.kind in (
            EventKind.EXECUTION_COMPLETED,
            EventKind.EXECUTION_FAILED,
            EventKind.EXECUTION_CANCELLED,
        )


class Log(Value):
    """Some lines of an execution's log, and the cursor behind them."""

    lines: tuple[JsonObject, ...]
    cursor: int


class Place(Value):
    """A source or destination, without its sealed parts."""

    id: UUID
    name: str
    kind: str
    documents: dict[str, Json]


class PlannedStep(Value):
    """A step of a plan: its name, its part and its own query, if it has one."""

    name: str
    type: str
    sql: str | None = None


class PlanText(Value):
    """A plan: as text for people, its fingerprint (SHA-256), what to know before the run, and its steps."""

    text: str
    fingerprint: str
    notes: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
