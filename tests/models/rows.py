"""A row of each table, another like it, and a change to it, in SQL: what the matrix of row-level security tries.

`SEED` makes what the engineer owns. In the statements of `TABLES`, `:me` and `:role` stand for whoever tries.
"""

from dataclasses import dataclass

ENGINEERS = "'00000000-0000-0000-0000-000000000002'"
BYSTANDERS = "'00000000-0000-0000-0000-000000000004'"
PIPELINE = "'10000000-0000-0000-0000-000000000000'"
SPARE_PIPELINE = "'10000000-0000-0000-0000-000000000001'"
SOURCE = "'20000000-0000-0000-0000-000000000000'"
SPARE_SOURCE = "'20000000-0000-0000-0000-000000000001'"
EXECUTION = "'30000000-0000-0000-0000-000000000000'"
SPARE_EXECUTION = "'30000000-0000-0000-0000-000000000001'"
RULE = "'40000000-0000-0000-0000-000000000000'"
SPARE_RULE = "'40000000-0000-0000-0000-000000000001'"
ALERT = "'50000000-0000-0000-0000-000000000000'"
SCHEDULE = "'60000000-0000-0000-0000-000000000000'"
SPARE_ALERT = "'50000000-0000-0000-0000-000000000001'"

SEED = f"""
    INSERT INTO data_pipelines (id, pipeline_name, pipeline_type, source_config, destination_config) VALUES
        ({PIPELINE}, 'bookings', 'etl', '{{}}', '{{}}'), ({SPARE_PIPELINE}, 'spare', 'etl', '{{}}', '{{}}');
    INSERT INTO pipeline_versions (pipeline_id, version, document, fingerprint) VALUES ({PIPELINE}, 1, '{{}}', 'f');
    INSERT INTO pipeline_steps (pipeline_id, step_name, step_type, step_order, step_config)
        VALUES ({PIPELINE}, 'read', 'extract', 1, '{{}}');
    INSERT INTO pipeline_cursors (pipeline_id, step_name, cursor) VALUES ({PIPELINE}, 'read', '{{}}');
    INSERT INTO pipeline_executions (id, pipeline_id, execution_id, execution_type, started_at, triggered_by) VALUES
        ({EXECUTION}, {PIPELINE}, 'e-1', 'manual', now(), {ENGINEERS}),
        ({SPARE_EXECUTION}, {PIPELINE}, 'e-2', 'manual', now(), {ENGINEERS});
    INSERT INTO step_executions (pipeline_execution_id, step_name, step_execution_id, started_at)
        VALUES ({EXECUTION}, 'read', 's-1', now());
    INSERT INTO execution_events (execution_id, seq, kind) VALUES ({EXECUTION}, 1, 'execution_queued');
    INSERT INTO commit_ledger (execution_id, step_name, partition, rows) VALUES ({EXECUTION}, 'load', 0, 1);
    INSERT INTO data_sources (id, source_name, source_type, kind, connection_config) VALUES
        ({SOURCE}, 'app', 'database', 'postgres', '{{}}'), ({SPARE_SOURCE}, 'spare', 'database', 'postgres', '{{}}');
    INSERT INTO data_destinations (destination_name, destination_type, kind, connection_config)
        VALUES ('warehouse', 'database', 'postgres', '{{}}');
    INSERT INTO schema_versions (source_id, version_number, schema_definition) VALUES ({SOURCE}, 1, '{{}}');
    INSERT INTO data_lineage (source_dataset, target_dataset) VALUES ('a', 'b');
    INSERT INTO data_quality_rules (id, rule_name, rule_type, target_table, rule_expression) VALUES
        ({RULE}, 'r', 'validity', 't', 'true'), ({SPARE_RULE}, 'spare', 'validity', 't', 'true');
    INSERT INTO data_quality_checks (pipeline_execution_id, rule_id, check_timestamp, records_checked, records_passed,
                                     records_failed, pass_rate, quality_score, rule_result)
        VALUES ({EXECUTION}, {RULE}, now(), 1, 1, 0, 100, 100, '{{}}');
    INSERT INTO quarantined_rows (pipeline_execution_id, step_name, "row", reason)
        VALUES ({EXECUTION}, 'read', '{{}}', 'bad');
    INSERT INTO stream_processors (processor_name, stream_source, stream_destination, processing_logic)
        VALUES ('p', 'a', 'b', '{{}}');
    INSERT INTO bi_reports (report_name, report_type, data_sources, report_config, created_by)
        VALUES ('r', 'adhoc', '[]', '{{}}', {ENGINEERS});
    INSERT INTO pipeline_alerts (id, alert_name, alert_type, conditions) VALUES
        ({ALERT}, 'a', 'resource', '{{}}'), ({SPARE_ALERT}, 'spare', 'resource', '{{}}');
    INSERT INTO alert_instances (alert_id, triggered_at, severity, alert_data) VALUES ({ALERT}, now(), 'low', '{{}}');
    INSERT INTO work_items (kind, requested_by) VALUES ('check', {ENGINEERS});
    INSERT INTO leases (name, holder, acquired_at, expires_at) VALUES ('l', 'h', now(), now());
    INSERT INTO schedules (id, pipeline_id, config) VALUES ({SCHEDULE}, {PIPELINE}, '{{}}');
    INSERT INTO schedule_fires (schedule_id, fire_time, outcome) VALUES ({SCHEDULE}, now(), 'skipped');
    INSERT INTO schedule_arrivals (schedule_id, cause) VALUES ({SCHEDULE}, 'execution:1');
    INSERT INTO backfills (pipeline_id, range_start, range_end, chunk, total, requested_by)
        VALUES ({PIPELINE}, '2026-01-01', '2026-02-01', '1d', 31, {ENGINEERS});
    INSERT INTO checkpoints (execution_id, task_name, generation, attempt, blocks, report, kept)
        VALUES ({EXECUTION}, 'read', 1, 1, '[]', '{{}}', 'always');
    INSERT INTO concurrency_pools (name, slots) VALUES ('warehouse', 2);
    INSERT INTO pipeline_turns (pipeline_id, taken_at) VALUES (gen_random_uuid(), now());
    INSERT INTO audit_log (actor_role, action, entity_type) VALUES ('runtime', 'a', 'e');
"""


@dataclass(frozen=True)
class Statements:
    """How a table is written: the values of a new row, the change of an old one, and which old one."""

    new: str
    change: str
    where: str = "true"


TABLES = {
    "data_pipelines": Statements(
        "(pipeline_name, pipeline_type, source_config, destination_config) VALUES ('new', 'etl', '{}', '{}')",
        "is_paused = true",
        f"id = {SPARE_PIPELINE}",
    ),
    "pipeline_versions": Statements(
        f"(pipeline_id, version, document, fingerprint) VALUES ({PIPELINE}, 2, '{{}}', 'f')", "message = 'm'"
    ),
    "pipeline_steps": Statements(
        f"""(pipeline_id, step_name, step_type, step_order, step_config)
            VALUES ({PIPELINE}, 'load', 'load', 2, '{{}}')""",
        "is_enabled = false",
    ),
    "pipeline_cursors": Statements(
        f"(pipeline_id, step_name, cursor) VALUES ({PIPELINE}, 'new', '{{}}')", "cursor = '{}'"
    ),
    "pipeline_executions": Statements(
        f"""(pipeline_id, execution_id, execution_type, started_at, triggered_by)
            VALUES ({PIPELINE}, 'e-3', 'manual', now(), :me)""",
        "cancel_requested_at = now()",
        f"id = {SPARE_EXECUTION}",
    ),
    "step_executions": Statements(
        f"""(pipeline_execution_id, step_name, step_execution_id, started_at)
            VALUES ({EXECUTION}, 'load', 's-2', now())""",
        "attempt = 2",
    ),
    "execution_events": Statements(
        f"(execution_id, seq, kind) VALUES ({EXECUTION}, 2, 'execution_started')", "payload = '{}'"
    ),
    "commit_ledger": Statements(
        f"(execution_id, step_name, partition, rows) VALUES ({EXECUTION}, 'load', 1, 1)", "token = 't'"
    ),
    "data_sources": Statements(
        """(source_name, source_type, kind, connection_config, authentication_config)
            VALUES ('new', 'api', 'http', '{}', '{}')""",
        "health_status = 'healthy'",
        f"id = {SPARE_SOURCE}",
    ),
    "data_destinations": Statements(
        """(destination_name, destination_type, kind, connection_config) VALUES ('new', 'file', 'csv', '{}')""",
        "health_status = 'healthy'",
    ),
    "schema_versions": Statements(
        f"(source_id, version_number, schema_definition) VALUES ({SOURCE}, 2, '{{}}')", "is_active = false"
    ),
    "data_lineage": Statements("(source_dataset, target_dataset) VALUES ('a', 'c')", "confidence_score = 0.5"),
    "data_quality_rules": Statements(
        "(rule_name, rule_type, target_table, rule_expression) VALUES ('new', 'accuracy', 't', 'true')",
        "is_active = false",
        f"id = {SPARE_RULE}",
    ),
    "data_quality_checks": Statements(
        f"""(pipeline_execution_id, rule_id, check_timestamp, records_checked, records_passed, records_failed,
             pass_rate, quality_score, rule_result) VALUES ({EXECUTION}, {RULE}, now(), 1, 1, 0, 100, 100, '{{}}')""",
        "status = 'skipped'",
    ),
    "quarantined_rows": Statements(
        f"(pipeline_execution_id, step_name, \"row\", reason) VALUES ({EXECUTION}, 'read', '{{}}', 'bad')",
        "status = 'released', reviewed_by = :me, reviewed_at = now()",
    ),
    "stream_processors": Statements(
        "(processor_name, stream_source, stream_destination, processing_logic) VALUES ('new', 'a', 'b', '{}')",
        "current_lag = 1",
    ),
    "bi_reports": Statements(
        """(report_name, report_type, data_sources, report_config, created_by)
            VALUES ('new', 'adhoc', '[]', '{}', :me)""",
        "last_generated = now()",
    ),
    "pipeline_alerts": Statements(
        "(alert_name, alert_type, conditions) VALUES ('new', 'resource', '{}')",
        "is_enabled = false",
        f"id = {SPARE_ALERT}",
    ),
    "alert_instances": Statements(
        f"(alert_id, triggered_at, severity, alert_data) VALUES ({ALERT}, now(), 'low', '{{}}')",
        "status = 'acknowledged', acknowledged_by = :me",
    ),
    "work_items": Statements("(kind, requested_by) VALUES ('check', :me)", "priority = 1"),
    "leases": Statements("(name, holder, acquired_at, expires_at) VALUES ('new', 'h', now(), now())", "holder = 'x'"),
    "schedules": Statements(f"(pipeline_id, config) VALUES ({SPARE_PIPELINE}, '{{}}')", "is_paused = true"),
    "schedule_fires": Statements(
        f"(schedule_id, fire_time, outcome) VALUES ({SCHEDULE}, 'epoch', 'missed')", "reason = 'r'"
    ),
    "schedule_arrivals": Statements(f"(schedule_id, cause) VALUES ({SCHEDULE}, 'new')", "decided_at = now()"),
    "backfills": Statements(
        f"""(pipeline_id, range_start, range_end, chunk, total)
            VALUES ({PIPELINE}, '2026-03-01', '2026-04-01', '1d', 31)""",
        "state = 'paused'",
    ),
    "checkpoints": Statements(
        f"""(execution_id, task_name, generation, attempt, blocks, report, kept)
            VALUES ({EXECUTION}, 'load', 1, 1, '[]', '{{}}', 'always')""",
        "generation = 2",
    ),
    "concurrency_pools": Statements("(name, slots) VALUES ('new', 1)", "slots = 3"),
    "pipeline_turns": Statements("(pipeline_id, taken_at) VALUES (gen_random_uuid(), now())", "taken_at = now()"),
    "audit_log": Statements(
        "(actor, actor_role, action, entity_type) VALUES (:me, :role, 'a', 'e')", "action = 'forged'"
    ),
    "auth.users": Statements("(id) VALUES (gen_random_uuid())", "email = 'x@y.example'", f"id = {BYSTANDERS}"),
}
