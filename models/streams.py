"""Stream processors: what they do to messages, over which windows, and how they scale."""

from enum import StrEnum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field as Limited
from pydantic import model_validator
from sqlalchemy import Text
from sqlmodel import Field

from models.base import ChangingEntity
from models.fields import Document, JsonObject, StrictModel, server
from models.sources import MonitoringConfig


class StreamOperation(StrEnum):
    """What a stream's transformation does."""

    FILTER = "filter"
    MAP = "map"
    AGGREGATE = "aggregate"
    ENRICH = "enrich"


class StateStore(StrEnum):
    """Where a processor keeps its state between messages."""

    MEMORY = "memory"
    POSTGRES = "postgres"


class StreamTransformation(StrictModel):
    """One operation on the messages of a stream."""

    type: StreamOperation
    config: JsonObject


class ProcessingLogic(StrictModel):
    """What happens to each message, in order."""

    transformations: tuple[StreamTransformation, ...]
    custom_code: str | None = None


class TumblingWindow(StrictModel):
    """Windows of a fixed size, one after the other."""

    type: Literal["tumbling"]
    size_seconds: float = Limited(gt=0)
    allowed_lateness_seconds: float = Limited(default=0, ge=0)


class SlidingWindow(StrictModel):
    """Windows of a fixed size, a new one every `advance_seconds`."""

    type: Literal["sliding"]
    size_seconds: float = Limited(gt=0)
    advance_seconds: float = Limited(gt=0)
    allowed_lateness_seconds: float = Limited(default=0, ge=0)

    @model_validator(mode="after")
    def _windows_touch(self) -> "SlidingWindow":
        if self.advance_seconds > self.size_seconds:
            raise ValueError(
                "advance_seconds must not be more than size_seconds: messages between windows would be lost"
            )
        return self


class SessionWindow(StrictModel):
    """Windows that end when a key was silent for `session_timeout_seconds`, at most `size_seconds` long."""

    type: Literal["session"]
    size_seconds: float = Limited(gt=0)
    session_timeout_seconds: float = Limited(gt=0)
    allowed_lateness_seconds: float = Limited(default=0, ge=0)


WindowingConfig: TypeAlias = Annotated[TumblingWindow | SlidingWindow | SessionWindow, Limited(discriminator="type")]
"""The windows of a stream, tagged by `type`."""


class StateManagement(StrictModel):
    """Where state lives, how often it is saved, and how long a silent key is kept."""

    store: StateStore = StateStore.POSTGRES
    checkpoint_interval_seconds: float = Limited(default=10.0, gt=0)
    ttl_seconds: float | None = Limited(default=None, gt=0)


class RetryMessages(StrictModel):
    """A message that fails is tried again, then set aside in `dlq_topic` if there is one."""

    strategy: Literal["retry"]
    max_retries: int = Limited(default=3, ge=1, le=100)
    dlq_topic: str | None = None


class DeadLetter(StrictModel):
    """A message that fails goes to `dlq_topic`."""

    strategy: Literal["dlq"]
    dlq_topic: str = Limited(min_length=1)
    max_retries: int = Limited(default=0, ge=0, le=100)


class SkipMessage(StrictModel):
    """A message that fails is counted and dropped."""

    strategy: Literal["skip"]
    max_retries: int = Limited(default=0, ge=0, le=100)


StreamErrorHandling: TypeAlias = Annotated[RetryMessages | DeadLetter | SkipMessage, Limited(discriminator="strategy")]
"""What becomes of a message that fails, tagged by `strategy`."""


class ScalingConfig(StrictModel):
    """How many workers a processor has; thresholds are messages of lag."""

    min_instances: int = Limited(default=1, ge=0, le=1000)
    max_instances: int = Limited(default=1, ge=1, le=1000)
    scale_up_threshold: float = Limited(default=1000, ge=0)
    scale_down_threshold: float = Limited(default=100, ge=0)

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> "ScalingConfig":
        if self.max_instances < self.min_instances:
            raise ValueError("max_instances must not be less than min_instances")
        if self.scale_up_threshold < self.scale_down_threshold:
            raise ValueError("scale_up_threshold must not be less than scale_down_threshold")
        return self


class StreamProcessor(ChangingEntity, table=True):
    """A processor that reads one stream and writes another."""

    __tablename__ = "stream_processors"

    processor_name: str = Field(sa_type=Text, unique=True)
    stream_source: str = Field(sa_type=Text)
    stream_destination: str = Field(sa_type=Text)
    processing_logic: ProcessingLogic = Field(sa_type=Document(ProcessingLogic))
    windowing_config: WindowingConfig | None = Field(
        default=None,
        nullable=False,
        sa_type=Document(WindowingConfig, empty_is_none=True),
        sa_column_kwargs=server("'{}'"),
    )
    state_management: StateManagement = Field(
        default_factory=StateManagement,
        sa_type=Document(StateManagement),
        sa_column_kwargs=server("'{}'"),
    )
    error_handling: StreamErrorHandling | None = Field(
        default=None,
        nullable=False,
        sa_type=Document(StreamErrorHandling, empty_is_none=True),
        sa_column_kwargs=server("'{}'"),
    )
    scaling_config: ScalingConfig = Field(
        default_factory=ScalingConfig,
        sa_type=Document(ScalingConfig),
        sa_column_kwargs=server("'{}'"),
    )
    monitoring_config: MonitoringConfig = Field(
        default_factory=MonitoringConfig,
        sa_type=Document(MonitoringConfig),
        sa_column_kwargs=server("'{}'"),
    )
    is_active: bool = Field(default=True, sa_column_kwargs=server("true"))
    current_lag: int = Field(default=0, sa_column_kwargs=server("0"))
    throughput_per_second: int = Field(default=0, sa_column_kwargs=server("0"))
    last_processed_offset: str | None = Field(default=None, sa_type=Text)
