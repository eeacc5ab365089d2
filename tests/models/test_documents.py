"""The documents of JSON columns: each column has its model, which takes the column's default and refuses nonsense."""

import json
from typing import get_args

import pytest
from sqlalchemy import Column, make_url
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import DefaultClause
from typing_extensions import TypeForm

from models.alerts import AlertConditions, EscalationPolicy
from models.destinations import BackupConfig, IndexingConfig, PartitionConfig
from models.errors import Invalid
from models.executions import ErrorDetails, ExecutionContext, ExecutionState, ExecutionStatus, PerformanceMetrics
from models.fields import Document, parse
from models.migrations.scope import metadata
from models.pipelines import AlertConfig, QualityCheckRef, RetryPolicy
from models.quality import RuleConfig, ThresholdConfig
from models.reports import AccessControl, ReportConfig, ReportData, ReportSchedule
from models.schedules import ScheduleConfig
from models.schemas import SchemaConfig, SchemaDefinition
from models.sources import MonitoringConfig, RateLimitConfig
from models.streams import ProcessingLogic, ScalingConfig, StreamErrorHandling, WindowingConfig

DIALECT = make_url("postgresql+asyncpg://").get_dialect()()
JSON_COLUMNS = [
    pytest.param(column, id=f"{table.name}.{column.name}")
    for table in metadata.sorted_tables
    for column in table.columns
    if isinstance(column.type.dialect_impl(DIALECT), JSONB) or isinstance(column.type, Document)
]


@pytest.mark.parametrize("column", JSON_COLUMNS)
def test_a_json_column_has_a_model_that_takes_its_default(column: Column[object]) -> None:
    assert isinstance(column.type, Document)
    if isinstance(column.server_default, DefaultClause):
        written = json.loads(str(column.server_default.arg).strip("'"))
        read = column.type.process_result_value(written, DIALECT)
        stored = column.type.process_bind_param(read, DIALECT)
        assert column.type.process_result_value(stored, DIALECT) == read


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (RetryPolicy, {"max_attempts": 5, "retry_on": ["timeout", "worker_lost"]}),
        (ScheduleConfig, {"type": "cron", "expression": "0 */4 * * *", "timezone": "UTC"}),
        (ScheduleConfig, {"type": "interval", "expression": "15m"}),
        (ScheduleConfig, {"type": "event", "expression": "webhook:vendor-updated"}),
        (QualityCheckRef, {"rule_id": "completeness", "threshold": 95, "action": "warn"}),
        (AlertConfig, {"on_failure": True, "on_quality_issues": False, "notification_channels": ["ops"]}),
        (
            ExecutionContext,
            {"parameters": {"start_date": "2024-01-01"}, "date_range": {"start": "2024-01-01", "end": "2024-02-01"}},
        ),
        (PerformanceMetrics, {"total_duration_ms": 12, "avg_cpu_usage_percent": 41.5}),
        (ErrorDetails, {"error_type": "timeout", "error_message": "m", "failed_step": "load", "retry_count": 3}),
        (RuleConfig, {"parameters": {"max": 10}, "custom_logic": "x > 1"}),
        (ThresholdConfig, {"pass_threshold": 95, "quality_weight": 0.8}),
        (SchemaDefinition, {"columns": [{"name": "id", "type": "int64", "nullable": False}], "primary_key": ["id"]}),
        (SchemaConfig, {"datasets": {"bookings": {"columns": []}}}),
        (MonitoringConfig, {"interval_seconds": 30}),
        (RateLimitConfig, {"requests_per_second": 2.5, "burst": 5}),
        (PartitionConfig, {"columns": ["wedding_date"], "granularity": "year"}),
        (IndexingConfig, {"indexes": [{"columns": ["venue_id"], "unique": False, "method": "btree"}]}),
        (BackupConfig, {"enabled": True, "retention_days": 30}),
        (ProcessingLogic, {"transformations": [{"type": "filter", "config": {"expression": "a > 1"}}]}),
        (WindowingConfig, {"type": "session", "size_seconds": 3600, "session_timeout_seconds": 60}),
        (StreamErrorHandling, {"strategy": "dlq", "dlq_topic": "dead"}),
        (ScalingConfig, {"min_instances": 1, "max_instances": 4, "scale_up_threshold": 10, "scale_down_threshold": 1}),
        (ReportData, {"source_type": "query", "source_config": {"query": "SELECT 1"}, "refresh_strategy": "realtime"}),
        (ReportConfig, {"format": "pdf", "visualizations": []}),
        (ReportSchedule, {"type": "cron", "expression": "0 8 * * *", "timezone": "Europe/London"}),
        (AccessControl, {"public": False, "allowed_roles": ["data_analyst"]}),
        (
            AlertConditions,
            {"pipelines": ["bookings"], "all_of": [{"metric": "failures", "operator": "above", "value": 3}]},
        ),
    ],
)
def test_a_good_document_is_taken_and_written_back(kind: TypeForm[object], document: dict[str, object]) -> None:
    stored = Document(kind).process_bind_param(parse(kind, document), DIALECT)
    assert document.items() <= stored.items() or parse(kind, stored) == parse(kind, document)


@pytest.mark.parametrize(
    ("kind", "document", "path", "message"),
    [
        (RetryPolicy, {"initial_seconds": 10, "max_seconds": 5}, None, "max_seconds must not be less"),
        (RetryPolicy, {"max_attempts": 0}, "max_attempts", "greater than or equal to 1"),
        (RetryPolicy, {"retry_on": ["sometimes"]}, "retry_on[0]", "not known: 'sometimes'"),
        (ScheduleConfig, {"type": "interval", "expression": "often"}, "expression", "such as 15m"),
        (ScheduleConfig, {"type": "moon", "expression": "full"}, "type", "not known: 'moon'"),
        (QualityCheckRef, {"rule_id": "r", "threshold": 101, "action": "warn"}, "threshold", "less than or equal"),
        (ExecutionContext, {"date_range": {"start": "2024-02-01", "end": "2024-01-01"}}, "date_range", "must be after"),
        (SchemaDefinition, {"columns": [{"name": "a", "type": "x"}] * 2}, None, "more than once: a"),
        (SchemaDefinition, {"columns": [], "primary_key": ["id"]}, None, "names no column: id"),
        (IndexingConfig, {"indexes": [{"columns": []}]}, "indexes[0].columns", "at least 1"),
        (WindowingConfig, {"type": "sliding", "size_seconds": 5, "advance_seconds": 6}, None, "must not be more"),
        (WindowingConfig, {"type": "sliding", "size_seconds": 5}, "advance_seconds", "is required"),
        (ScalingConfig, {"min_instances": 3, "max_instances": 2}, None, "max_instances must not be less"),
        (ScalingConfig, {"scale_up_threshold": 1, "scale_down_threshold": 2}, None, "must not be less"),
        (StreamErrorHandling, {"strategy": "dlq"}, "dlq_topic", "is required"),
        (ReportData, {"source_type": "tabel"}, "source_type", "not known"),
        (EscalationPolicy, {"steps": [{"after_minutes": 5, "notification_channels": []}] * 2}, None, "must grow"),
        (BackupConfig, {"enabled": "yes"}, "enabled", "boolean, not text"),
        (BackupConfig, {"retain": 3}, "retain", "not a known key"),
    ],
)  # fmt: skip
def test_a_bad_document_is_refused_with_its_place(
    kind: TypeForm[object], document: object, path: str | None, message: str
) -> None:
    with pytest.raises(Invalid, match=message) as refused:
        parse(kind, document)
    assert refused.value.path == path


def test_a_document_nobody_wrote_as_json_is_frozen() -> None:
    policy = RetryPolicy()
    with pytest.raises(ValueError, match="frozen"):
        policy.max_attempts = 9  # type: ignore[misc]


def test_every_state_of_an_execution_has_its_word_in_ws_269() -> None:
    words = {state.value: state.status.value for state in ExecutionState}
    assert words == {
        "queued": "running",
        "starting": "running",
        "running": "running",
        "backing_off": "running",
        "cancelling": "running",
        "completed": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
    }
    assert {state.status for state in ExecutionState if state.is_terminal} == set(ExecutionStatus) - {
        ExecutionStatus.RUNNING
    }


def test_the_unions_are_tagged() -> None:
    for union in (ScheduleConfig, WindowingConfig, StreamErrorHandling, ReportData, ReportSchedule):
        assert get_args(union)[1].discriminator
