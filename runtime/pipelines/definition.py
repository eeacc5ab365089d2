"""The pipeline definition as a person writes it, in WS-269's simple form or in the explicit form of steps."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.base import StrictModel
from models.destinations import WriteMode
from models.executions import Keeping
from models.fields import Json
from models.parsing import parse
from models.pipelines import (
    AlertConfig,
    Concurrency,
    PipelineType,
    QualityCheckRef,
    Resources,
    RetryOverrides,
    RetryPolicy,
)
from models.schedules import ScheduleConfig

Name = Annotated[str, Field(min_length=1, max_length=300)]
StepName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_\-]*$", max_length=120)]
Reference = Annotated[str, Field(min_length=1, description="A UUID or a name")]


class Incremental(StrictModel):
    """Read only what changed: rows with `lower <= cursor_column < upper`, `lag_seconds` kept back for late writers."""

    cursor_column: str
    initial: str | None = None
    lag_seconds: int = Field(default=0, ge=0)


class PartitionRead(StrictModel):
    """Read in `count` parallel ranges of `column` (a number, date or timestamp)."""

    column: str
    count: int = Field(default=4, ge=1, le=256)


class ExtractConfig(StrictModel):
    """What to read: `query` in the source's own SQL, or `dataset` (a table, an endpoint, a file pattern)."""

    source_id: Reference
    query: str | None = None
    dataset: str | None = None
    filters: dict[str, Json] = Field(default_factory=dict)
    batch_size: int = Field(default=65_536, ge=1, le=1_000_000)
    incremental: Incremental | None = None
    partition: PartitionRead | None = None


class LoadConfig(StrictModel):
    """Where to write, and how; `key_columns` are the keys of an upsert."""

    destination_id: Reference
    table_name: str = Field(min_length=1)
    write_mode: WriteMode | None = None
    key_columns: list[str] = Field(default_factory=list)
    partition_by: list[str] = Field(default_factory=list)
    options: dict[str, Json] = Field(default_factory=dict)


class TransformEntry(StrictModel):
    """One transform: its kind and the configuration that the kind's own model validates."""

    type: str
    config: dict[str, Json] = Field(default_factory=dict)


class TransformationConfig(StrictModel):
    """WS-269's list of transforms, applied in order."""

    transformations: list[TransformEntry] = Field(default_factory=list)


class StepBase(StrictModel):
    """What every step of the explicit form has; the defaults are WS-269's."""

    name: StepName
    depends_on: list[StepName] = Field(default_factory=list)
    parallel_execution: bool = False
    timeout_minutes: int = Field(default=60, ge=1)
    timeout_seconds: int | None = Field(default=None, ge=1, description="In place of timeout_minutes")
    retry_attempts: int | None = Field(default=None, ge=0, le=100, description="In place of max_attempts less one")
    retry_policy: RetryOverrides | None = None
    resources: Resources | None = None
    critical: bool = True
    is_enabled: bool = True


class ExtractStep(StepBase):
    """Reads a source."""

    type: Literal["extract"]
    config: ExtractConfig


class TransformStep(StepBase):
    """Derives rows from the outputs of the steps it depends on."""

    type: Literal["transform"]
    config: TransformEntry


class LoadStep(StepBase):
    """Writes the rows of the steps it depends on (their union, by column name) to a destination."""

    type: Literal["load"]
    config: LoadConfig


Step = Annotated[ExtractStep | TransformStep | LoadStep, Field(discriminator="type")]


class PipelineDefinition(StrictModel):
    """A pipeline. Either `source_config` and `destination_config` (simple form) or `steps` (explicit form)."""

    pipeline_name: Name
    pipeline_type: PipelineType
    description: str | None = None
    source_config: ExtractConfig | None = None
    destination_config: LoadConfig | None = None
    transformation_config: TransformationConfig | None = None
    steps: list[Step] | None = None
    parameters: dict[str, Json] = Field(default_factory=dict, description="Defaults of the parameters of its queries")
    schedule_config: ScheduleConfig | None = None
    retry_policy: RetryPolicy | None = None
    concurrency: Concurrency | None = None
    deadline_minutes: int | None = Field(
        default=None, ge=1, description="From when it may start, after which an execution is told to be late"
    )
    quality_checks: list[QualityCheckRef] = Field(default_factory=list)
    alert_config: AlertConfig | None = None
    checkpoints: Keeping = Field(default=Keeping.UNTIL_SUCCESS, description="How long outputs of steps are kept")
    tags: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_form(self) -> "PipelineDefinition":
        simple = self.source_config is not None and self.destination_config is not None
        if self.steps is None and not simple:
            raise ValueError("give source_config and destination_config (simple form), or steps (explicit form)")
        if self.steps is not None and (self.source_config or self.destination_config or self.transformation_config):
            raise ValueError("steps (explicit form) excludes source_config, destination_config, transformation_config")
        return self


def parse_definition(data: object, root: str = "") -> PipelineDefinition:
    """The definition that a JSON document holds; raises `Invalid` whose path, from `root` on, names the bad key."""
    return parse(PipelineDefinition, data, root)
