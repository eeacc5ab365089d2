"""The shapes of REST's answers: which keys they have, and which GraphQL fields those come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models.fields import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Key:
    """A key of an answer.

    `source` is the GraphQL field, or a path of fields such as `pipeline.id`; the key in camel case unless named.
    An `optional` key is left out where it has no value; others then have `otherwise`. A `closed` one holds a member
    of a closed set, which GraphQL writes in capitals.
    """

    name: str
    shape: "Shape | None" = None
    source: str = ""
    optional: bool = False
    closed: bool = False
    otherwise: Json = None
    path: tuple[str, ...] = field(init=False)
    """The GraphQL fields, from the outermost in."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", tuple((self.source or camel(self.name)).split(".")))

    def selection(self) -> str:
        """The key as a selection of GraphQL fields."""
        inner = "" if self.shape is None else f" {{ {self.shape.selection()} }}"
        return " { ".join(self.path) + inner + " }" * (len(self.path) - 1)


class Shape:
    """An object of an answer, by its keys."""

    def __init__(self, *keys: Key | str) -> None:
        self.keys = tuple(Key(key) if isinstance(key, str) else key for key in keys)

    def selection(self) -> str:
        """The keys as a selection of GraphQL fields."""
        return " ".join(key.selection() for key in self.keys)

    def of(self, data: Mapping[str, Any]) -> JsonObject:
        """The object that GraphQL's answer to the selection makes. Documents in it stay as they are."""
        answer: JsonObject = {}
        for key in self.keys:
            value = _shaped(key, at(data, key.path))
            if value in (None, {}, []) and key.optional:
                continue
            answer[key.name] = key.otherwise if value is None else value
        return answer


def at(data: Any, path: Iterable[str]) -> Any:
    """The value at a path of fields; None below one that is null."""
    for name in path:
        data = None if data is None else data[name]
    return data


def camel(name: str) -> str:
    """A snake-case key as GraphQL writes it."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _shaped(key: Key, value: Any) -> Json:
    if key.shape is None or value is None:
        return value.lower() if key.closed and isinstance(value, str) else value
    return [key.shape.of(item) for item in value] if isinstance(value, list) else key.shape.of(value)


def optional(name: str, shape: Shape | None = None) -> Key:
    """A key that is left out where it has no value."""
    return Key(name, shape, optional=True)


def closed(name: str) -> Key:
    """A key with a member of a closed set."""
    return Key(name, closed=True)


LAST_EXECUTION: Final = Shape(
    "execution_id",
    closed("status"),
    "started_at",
    optional("completed_at"),
    "records_processed",
    optional("data_quality_score"),
)

PIPELINE: Final = Shape(
    "id",
    "pipeline_name",
    closed("pipeline_type"),
    Key("description", otherwise=""),
    "is_active",
    "is_paused",
    Key("last_execution", LAST_EXECUTION),
    optional("next_scheduled_run"),
    "success_rate_7d",
    "avg_execution_time_minutes",
    "created_at",
)

SUMMARY: Final = Shape("total_pipelines", "active_pipelines", "running_pipelines", "failed_pipelines_24h")

ACCEPTED: Final = Shape(
    "execution_id",
    Key("pipeline_id", source="pipeline.id"),
    closed("status"),
    optional("estimated_duration_minutes"),
    "started_at",
)

EXECUTION: Final = Shape(
    "id",
    "execution_id",
    closed("execution_type"),
    "started_at",
    optional("completed_at"),
    closed("status"),
    "records_processed",
    "records_failed",
    optional("data_quality_score"),
    optional("duration_minutes"),
    Key("triggered_by", otherwise="system"),
)

STATS: Final = Shape("total_executions", "success_rate", "avg_duration_minutes", "total_records_processed")

METRICS: Final = Shape(
    "total_duration_ms",
    "extract_duration_ms",
    "transform_duration_ms",
    "load_duration_ms",
    "peak_memory_usage_mb",
    "avg_cpu_usage_percent",
)

DETAILS: Final = Shape(
    "id",
    "execution_id",
    Key("pipeline_name", source="pipeline.pipelineName"),
    "started_at",
    optional("completed_at"),
    closed("status"),
    "records_processed",
    optional("data_quality_score"),
    Key("performance_metrics", METRICS),
    optional("error_details", Shape("error_type", "error_message", "failed_step", "retry_count")),
)

STEP: Final = Shape(
    "id",
    "step_name",
    closed("step_type"),
    optional("started_at"),
    optional("completed_at"),
    closed("status"),
    "records_in",
    "records_out",
    optional("processing_time_ms"),
    optional("error_message"),
    optional("transformation_stats"),
)

CHECK: Final = Shape(
    "rule_name",
    closed("rule_type"),
    "records_checked",
    "records_passed",
    "pass_rate",
    "quality_score",
    closed("status"),
    optional("sample_failures"),
)
