-- Stream processors, reports and alerts.
CREATE TABLE stream_processors (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    processor_name TEXT NOT NULL UNIQUE,
    stream_source TEXT NOT NULL,
    stream_destination TEXT NOT NULL,
    processing_logic JSONB NOT NULL,
    windowing_config JSONB NOT NULL DEFAULT '{}',
    state_management JSONB NOT NULL DEFAULT '{}',
    error_handling JSONB NOT NULL DEFAULT '{}',
    scaling_config JSONB NOT NULL DEFAULT '{}',
    monitoring_config JSONB NOT NULL DEFAULT '{}',
    is_active BOOLEAN NOT NULL DEFAULT true,
    current_lag INTEGER NOT NULL DEFAULT 0,
    throughput_per_second INTEGER NOT NULL DEFAULT 0,
    last_processed_offset TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE bi_reports (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    report_name TEXT NOT NULL UNIQUE,
    report_type TEXT NOT NULL
        CONSTRAINT report_type_is_known CHECK (report_type IN ('dashboard', 'scheduled', 'adhoc', 'alert')),
    data_sources JSONB NOT NULL,
    report_config JSONB NOT NULL,
    schedule_config JSONB NOT NULL DEFAULT '{}',
    delivery_config JSONB NOT NULL DEFAULT '{}',
    cache_config JSONB NOT NULL DEFAULT '{}',
    access_control JSONB NOT NULL DEFAULT '{}',
    is_active BOOLEAN NOT NULL DEFAULT true,
    last_generated TIMESTAMPTZ,
    generation_duration_ms INTEGER,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE pipeline_alerts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    alert_name TEXT NOT NULL,
    alert_type TEXT NOT NULL
        CONSTRAINT alert_type_is_known
        CHECK (alert_type IN ('pipeline_failure', 'data_quality', 'performance', 'resource')),
    conditions JSONB NOT NULL,
    notification_channels JSONB NOT NULL DEFAULT '[]',
    escalation_policy JSONB NOT NULL DEFAULT '{}',
    suppression_config JSONB NOT NULL DEFAULT '{}',
    severity TEXT NOT NULL DEFAULT 'medium'
        CONSTRAINT severity_is_known CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    is_enabled BOOLEAN NOT NULL DEFAULT true,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE alert_instances (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    alert_id UUID NOT NULL REFERENCES pipeline_alerts (id) ON DELETE CASCADE,
    pipeline_execution_id UUID REFERENCES pipeline_executions (id),
    triggered_at TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ,
    status TEXT NOT NULL DEFAULT 'open'
        CONSTRAINT status_is_known CHECK (status IN ('open', 'acknowledged', 'resolved', 'suppressed')),
    severity TEXT NOT NULL
        CONSTRAINT severity_is_known CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    alert_data JSONB NOT NULL,
    notification_status JSONB NOT NULL DEFAULT '{}',
    acknowledged_by UUID REFERENCES auth.users (id),
    resolved_by UUID REFERENCES auth.users (id),
    resolution_notes TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX idx_alert_instances_triggered ON alert_instances (triggered_at DESC);
CREATE INDEX idx_alert_instances_status ON alert_instances (status);
CREATE INDEX idx_alert_instances_alert ON alert_instances (alert_id);
CREATE INDEX idx_alert_instances_execution ON alert_instances (pipeline_execution_id);

CREATE TRIGGER stamp_update BEFORE UPDATE ON stream_processors
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
CREATE TRIGGER stamp_update BEFORE UPDATE ON bi_reports
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
CREATE TRIGGER stamp_update BEFORE UPDATE ON pipeline_alerts
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
