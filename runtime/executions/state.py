"""The states of a running execution's tasks, each carrying its own data, and the results that move them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from models.errors import Cancelled, DomainError, Retryable, Unavailable
from models.fields import Json, JsonObject
from models.pipelines import RetryClass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task failed: the stable type, the message, the remedy, and in which class of retries it falls, if any."""

    error_type: str
    message: str
    hint: str | None = None
    path: str | None = None
    stack: str | None = None
    step: str | None = None
    retry_class: RetryClass | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: BaseException, *, step: str | None = None, stack: str | None = None) -> "Failure":
        """The failure that an exception stands for; what is not a `DomainError` is unexpected and not retried."""
        if not isinstance(error, DomainError):
            return cls(type(error).__name__, str(error) or type(error).__name__, stack=stack, step=step)
        return cls(
            error_type=error.specific_code,
            message=error.message,
            hint=error.hint,
            path=error.path,
            stack=stack,
            step=step,
            retry_class=_retry_class(error),
            retry_after=error.retry_after if isinstance(error, Retryable) else None,
        )

    @property
    def is_cancellation(self) -> bool:
        """Whether the task stopped because it was asked to."""
        return self.error_type == Cancelled.code


def _retry_class(error: DomainError) -> RetryClass | None:
    if isinstance(error, Retryable):
        return RetryClass.RETRYABLE
    return RetryClass.UNAVAILABLE if isinstance(error, Unavailable) else None


@dataclass(frozen=True, slots=True)
class ReadRange:
    """What one incremental read takes: from `lower` (None the first time) up to `upper`, which is not included.

    `kept` holds, by load step, the cursor that each load downstream had in its destination when the range was set.
    """

    lower: str | None
    upper: str
    kept: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did. Times are in ms; `shared_with` names the steps fused with it, whose time and memory it shares.

    Samples are lists of masked rows as JSON objects, or None.
    """

    step: str
    records_in: int = 0
    records_out: int = 0
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    failed: int = 0
    processing_time_ms: int = 0
    memory_usage_mb: int = 0
    cpu_usage_percent: float = 0.0
    input_sample: Json = None
    output_sample: Json = None
    stats: dict[str, Json] = field(default_factory=dict)
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """A row that a step set aside: as it came, or where it was and how its text begins, and why."""

    step: str
    row: JsonObject
    reason: str


@dataclass(frozen=True, slots=True)
class TaskReport:
    """What one task did: its steps' reports, the split of its time in ms, the ranges that extracts read, by step, and
    the first of the rows that its steps set aside.
    """

    steps: tuple[StepReport, ...]
    extract_ms: int = 0
    transform_ms: int = 0
    load_ms: int = 0
    peak_memory_mb: int = 0
    cpu_percent: float = 0.0
    ranges: dict[str, ReadRange] = field(default_factory=dict)
    set_aside: tuple[SetAside, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started; its inputs may not be there yet."""


@dataclass(frozen=True, slots=True)
class Running:
    """In a worker since `since`, for the `attempt`-th time (1 is the first)."""

    attempt: int
    since: datetime


@dataclass(frozen=True, slots=True)
class BackingOff:
    """Failed at its `attempt`-th run and will run again at `until`."""

    attempt: int
    until: datetime
    failure: Failure


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Done; its report stands. `inherited`: by the earlier execution that this one takes up."""

    attempt: int
    report: TaskReport
    inherited: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Will not run again; `attempt` is 0 when it never ran."""

    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Skipped:
    """Never ran, because something it needs did not deliver."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Was told to stop before it was done."""

    attempt: int


TaskState = Waiting | Running | BackingOff | Succeeded | Failed | Skipped | Stopped
Settled = Succeeded | Failed | Skipped | Stopped


def attempt_of(state: TaskState) -> int:
    """Which run of a task goes on or failed last; 0 where there is none."""
    return state.attempt if isinstance(state, Running | BackingOff) else 0


def ranges_read(states: Mapping[str, TaskState], tasks: Sequence[str]) -> dict[str, ReadRange]:
    """What the extracts in or upstream of these tasks have read; a load downstream keeps how far they came."""
    found: dict[str, ReadRange] = {}
    for name in tasks:
        state = states[name]
        if isinstance(state, Succeeded):
            found |= state.report.ranges
    return found
