-- Quality rules, their checks, and rows set aside.
CREATE TABLE data_quality_rules (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    rule_name TEXT NOT NULL UNIQUE,
    rule_type TEXT NOT NULL
        CONSTRAINT rule_type_is_known
        CHECK (rule_type IN ('completeness', 'accuracy', 'consistency', 'validity', 'uniqueness')),
    target_table TEXT NOT NULL,
    target_column TEXT,
    rule_expression TEXT NOT NULL,
    rule_config JSONB NOT NULL DEFAULT '{}',
    severity TEXT NOT NULL DEFAULT 'warning'
        CONSTRAINT severity_is_known CHECK (severity IN ('info', 'warning', 'error', 'critical')),
    threshold_config JSONB NOT NULL DEFAULT '{}',
    alert_on_failure BOOLEAN NOT NULL DEFAULT true,
    is_active BOOLEAN NOT NULL DEFAULT true,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE data_quality_checks (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_execution_id UUID REFERENCES pipeline_executions (id) ON DELETE CASCADE,
    rule_id UUID NOT NULL REFERENCES data_quality_rules (id) ON DELETE CASCADE,
    check_timestamp TIMESTAMPTZ NOT NULL,
    records_checked BIGINT NOT NULL,
    records_passed BIGINT NOT NULL,
    records_failed BIGINT NOT NULL,
    pass_rate NUMERIC NOT NULL,
    quality_score NUMERIC NOT NULL,
    rule_result JSONB NOT NULL,
    sample_failures JSONB NOT NULL DEFAULT '[]',
    remediation_suggested TEXT,
    status TEXT NOT NULL DEFAULT 'completed'
        CONSTRAINT status_is_known CHECK (status IN ('completed', 'failed', 'skipped')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX idx_data_quality_checks_execution ON data_quality_checks (pipeline_execution_id);
CREATE INDEX idx_data_quality_checks_timestamp ON data_quality_checks (check_timestamp DESC);
CREATE INDEX idx_data_quality_checks_rule ON data_quality_checks (rule_id, check_timestamp DESC);

CREATE TABLE quarantined_rows (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_execution_id UUID NOT NULL REFERENCES pipeline_executions (id) ON DELETE CASCADE,
    step_name TEXT NOT NULL,
    rule_id UUID REFERENCES data_quality_rules (id) ON DELETE SET NULL,
    "row" JSONB NOT NULL,
    corrected_row JSONB,
    reason TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending'
        CONSTRAINT status_is_known CHECK (status IN ('pending', 'released', 'corrected', 'discarded')),
    reviewed_by UUID REFERENCES auth.users (id),
    reviewed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX idx_quarantined_rows_execution ON quarantined_rows (pipeline_execution_id);
CREATE INDEX idx_quarantined_rows_pending ON quarantined_rows (created_at) WHERE status = 'pending';

CREATE TRIGGER stamp_update BEFORE UPDATE ON data_quality_rules
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
