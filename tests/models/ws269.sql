-- Data Pipeline Definitions
CREATE TABLE data_pipelines (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_name TEXT NOT NULL UNIQUE,
    pipeline_type TEXT NOT NULL, -- 'etl', 'streaming', 'reporting', 'sync'
    description TEXT,
    source_config JSONB NOT NULL, -- Source connection and query configuration
    destination_config JSONB NOT NULL, -- Destination connection and schema
    transformation_config JSONB DEFAULT '{}', -- Data transformation rules
    schedule_config JSONB DEFAULT '{}', -- Cron expressions, triggers, etc.
    retry_policy JSONB DEFAULT '{}', -- Retry configuration
    quality_checks JSONB DEFAULT '[]', -- Data quality validation rules
    alert_config JSONB DEFAULT '{}', -- Alert and notification settings
    tags JSONB DEFAULT '[]', -- Pipeline tags for organization
    is_active BOOLEAN DEFAULT true,
    is_paused BOOLEAN DEFAULT false,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Pipeline Execution History
CREATE TABLE pipeline_executions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID REFERENCES data_pipelines(id) ON DELETE CASCADE,
    execution_id TEXT NOT NULL UNIQUE, -- Unique execution identifier
    execution_type TEXT NOT NULL, -- 'scheduled', 'manual', 'triggered', 'retry'
    started_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    status TEXT NOT NULL DEFAULT 'running', -- 'running', 'completed', 'failed', 'cancelled'
    records_processed INTEGER DEFAULT 0,
    records_inserted INTEGER DEFAULT 0,
    records_updated INTEGER DEFAULT 0,
    records_deleted INTEGER DEFAULT 0,
    records_failed INTEGER DEFAULT 0,
    data_quality_score NUMERIC, -- Overall data quality score (0-100)
    execution_context JSONB DEFAULT '{}', -- Execution parameters and context
    performance_metrics JSONB DEFAULT '{}', -- Execution performance data
    error_details JSONB, -- Error information if failed
    logs_location TEXT, -- Location of detailed execution logs
    triggered_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now()
);

-- Pipeline Steps and Transformations
CREATE TABLE pipeline_steps (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID REFERENCES data_pipelines(id) ON DELETE CASCADE,
    step_name TEXT NOT NULL,
    step_type TEXT NOT NULL, -- 'extract', 'transform', 'load', 'validate', 'notify'
    step_order INTEGER NOT NULL,
    step_config JSONB NOT NULL, -- Step-specific configuration
    depends_on JSONB DEFAULT '[]', -- Dependencies on other steps
    parallel_execution BOOLEAN DEFAULT false,
    timeout_minutes INTEGER DEFAULT 60,
    retry_attempts INTEGER DEFAULT 3,
    critical BOOLEAN DEFAULT true, -- If false, failure doesn't stop pipeline
    is_enabled BOOLEAN DEFAULT true,
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now(),
    UNIQUE(pipeline_id, step_name)
);

-- Step Execution Details
CREATE TABLE step_executions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_execution_id UUID REFERENCES pipeline_executions(id) ON DELETE CASCADE,
    step_id UUID REFERENCES pipeline_steps(id) ON DELETE CASCADE,
    step_execution_id TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    status TEXT NOT NULL DEFAULT 'running', -- 'running', 'completed', 'failed', 'skipped'
    records_in INTEGER DEFAULT 0,
    records_out INTEGER DEFAULT 0,
    processing_time_ms INTEGER,
    memory_usage_mb INTEGER,
    cpu_usage_percent NUMERIC,
    input_data_sample JSONB, -- Sample of input data for debugging
    output_data_sample JSONB, -- Sample of output data for debugging
    transformation_stats JSONB DEFAULT '{}', -- Transformation statistics
    error_message TEXT,
    error_stack TEXT,
    retry_count INTEGER DEFAULT 0,
    created_at TIMESTAMPTZ DEFAULT now()
);

-- Data Quality Rules and Monitoring
CREATE TABLE data_quality_rules (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    rule_name TEXT NOT NULL UNIQUE,
    rule_type TEXT NOT NULL, -- 'completeness', 'accuracy', 'consistency', 'validity', 'uniqueness'
    target_table TEXT NOT NULL,
    target_column TEXT,
    rule_expression TEXT NOT NULL, -- SQL or validation expression
    rule_config JSONB DEFAULT '{}', -- Rule-specific configuration
    severity TEXT DEFAULT 'warning', -- 'info', 'warning', 'error', 'critical'
    threshold_config JSONB DEFAULT '{}', -- Pass/fail thresholds
    alert_on_failure BOOLEAN DEFAULT true,
    is_active BOOLEAN DEFAULT true,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Data Quality Check Results
CREATE TABLE data_quality_checks (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_execution_id UUID REFERENCES pipeline_executions(id) ON DELETE CASCADE,
    rule_id UUID REFERENCES data_quality_rules(id) ON DELETE CASCADE,
    check_timestamp TIMESTAMPTZ NOT NULL,
    records_checked INTEGER NOT NULL,
    records_passed INTEGER NOT NULL,
    records_failed INTEGER NOT NULL,
    pass_rate NUMERIC NOT NULL, -- Percentage of records that passed
    quality_score NUMERIC NOT NULL, -- Quality score based on rule weight
    rule_result JSONB NOT NULL, -- Detailed rule evaluation results
    sample_failures JSONB DEFAULT '[]', -- Sample of failed records
    remediation_suggested TEXT, -- Suggested fixes for quality issues
    status TEXT DEFAULT 'completed', -- 'completed', 'failed', 'skipped'
    created_at TIMESTAMPTZ DEFAULT now()
);

-- Data Source Configurations
CREATE TABLE data_sources (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_name TEXT NOT NULL UNIQUE,
    source_type TEXT NOT NULL, -- 'database', 'api', 'file', 'stream', 'webhook'
    connection_config JSONB NOT NULL, -- Connection parameters (encrypted)
    schema_config JSONB DEFAULT '{}', -- Expected data schema
    monitoring_config JSONB DEFAULT '{}', -- Health check and monitoring
    rate_limit_config JSONB DEFAULT '{}', -- Rate limiting configuration
    authentication_config JSONB DEFAULT '{}', -- Auth configuration
    is_active BOOLEAN DEFAULT true,
    health_status TEXT DEFAULT 'unknown', -- 'healthy', 'degraded', 'unhealthy', 'unknown'
    last_health_check TIMESTAMPTZ,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Data Destinations Configuration
CREATE TABLE data_destinations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    destination_name TEXT NOT NULL UNIQUE,
    destination_type TEXT NOT NULL, -- 'database', 'warehouse', 'api', 'file', 'stream'
    connection_config JSONB NOT NULL, -- Connection parameters (encrypted)
    schema_config JSONB DEFAULT '{}', -- Target schema configuration
    write_mode TEXT DEFAULT 'append', -- 'append', 'overwrite', 'upsert'
    partition_config JSONB DEFAULT '{}', -- Partitioning configuration
    indexing_config JSONB DEFAULT '{}', -- Index creation configuration
    backup_config JSONB DEFAULT '{}', -- Backup and retention settings
    is_active BOOLEAN DEFAULT true,
    health_status TEXT DEFAULT 'unknown',
    last_health_check TIMESTAMPTZ,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Schema Evolution and Versioning
CREATE TABLE schema_versions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id UUID REFERENCES data_sources(id),
    destination_id UUID REFERENCES data_destinations(id),
    version_number INTEGER NOT NULL,
    schema_definition JSONB NOT NULL, -- Complete schema definition
    schema_changes JSONB DEFAULT '[]', -- List of changes from previous version
    compatibility_mode TEXT DEFAULT 'backward', -- 'backward', 'forward', 'full', 'none'
    migration_script TEXT, -- SQL or script for schema migration
    validation_rules JSONB DEFAULT '[]', -- Schema validation rules
    is_active BOOLEAN DEFAULT true,
    created_at TIMESTAMPTZ DEFAULT now(),
    applied_at TIMESTAMPTZ,
    UNIQUE(source_id, destination_id, version_number)
);

-- Data Lineage Tracking
CREATE TABLE data_lineage (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_dataset TEXT NOT NULL,
    source_table TEXT,
    source_column TEXT,
    target_dataset TEXT NOT NULL,
    target_table TEXT,
    target_column TEXT,
    transformation_type TEXT, -- 'direct', 'aggregation', 'join', 'calculation', 'derived'
    transformation_logic TEXT, -- SQL or description of transformation
    pipeline_id UUID REFERENCES data_pipelines(id),
    confidence_score NUMERIC DEFAULT 1.0, -- Confidence in lineage accuracy (0-1)
    impact_analysis JSONB DEFAULT '{}', -- Impact of changes to this lineage
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Real-time Stream Processing
CREATE TABLE stream_processors (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    processor_name TEXT NOT NULL UNIQUE,
    stream_source TEXT NOT NULL, -- Kafka topic, Redis stream, etc.
    stream_destination TEXT NOT NULL,
    processing_logic JSONB NOT NULL, -- Stream processing configuration
    windowing_config JSONB DEFAULT '{}', -- Time/count window configuration
    state_management JSONB DEFAULT '{}', -- State store configuration
    error_handling JSONB DEFAULT '{}', -- Error handling strategy
    scaling_config JSONB DEFAULT '{}', -- Auto-scaling configuration
    monitoring_config JSONB DEFAULT '{}', -- Monitoring and alerting
    is_active BOOLEAN DEFAULT true,
    current_lag INTEGER DEFAULT 0, -- Current processing lag
    throughput_per_second INTEGER DEFAULT 0, -- Current throughput
    last_processed_offset TEXT, -- Last processed stream offset
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Business Intelligence Reports
CREATE TABLE bi_reports (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    report_name TEXT NOT NULL UNIQUE,
    report_type TEXT NOT NULL, -- 'dashboard', 'scheduled', 'adhoc', 'alert'
    data_sources JSONB NOT NULL, -- Source tables and queries
    report_config JSONB NOT NULL, -- Report generation configuration
    schedule_config JSONB DEFAULT '{}', -- Report scheduling
    delivery_config JSONB DEFAULT '{}', -- Email, Slack, etc. delivery
    cache_config JSONB DEFAULT '{}', -- Report caching settings
    access_control JSONB DEFAULT '{}', -- Who can access this report
    is_active BOOLEAN DEFAULT true,
    last_generated TIMESTAMPTZ,
    generation_duration_ms INTEGER,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Alert and Notification Management
CREATE TABLE pipeline_alerts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    alert_name TEXT NOT NULL,
    alert_type TEXT NOT NULL, -- 'pipeline_failure', 'data_quality', 'performance', 'resource'
    conditions JSONB NOT NULL, -- Alert trigger conditions
    notification_channels JSONB DEFAULT '[]', -- Slack, email, webhook, etc.
    escalation_policy JSONB DEFAULT '{}', -- Alert escalation rules
    suppression_config JSONB DEFAULT '{}', -- Alert suppression settings
    severity TEXT DEFAULT 'medium', -- 'low', 'medium', 'high', 'critical'
    is_enabled BOOLEAN DEFAULT true,
    created_by UUID REFERENCES auth.users(id),
    created_at TIMESTAMPTZ DEFAULT now(),
    updated_at TIMESTAMPTZ DEFAULT now()
);

-- Alert Instances and History
CREATE TABLE alert_instances (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    alert_id UUID REFERENCES pipeline_alerts(id) ON DELETE CASCADE,
    pipeline_execution_id UUID REFERENCES pipeline_executions(id),
    triggered_at TIMESTAMPTZ NOT NULL,
    resolved_at TIMESTAMPTZ,
    status TEXT DEFAULT 'open', -- 'open', 'acknowledged', 'resolved', 'suppressed'
    severity TEXT NOT NULL,
    alert_data JSONB NOT NULL, -- Context data that triggered the alert
    notification_status JSONB DEFAULT '{}', -- Status of notifications sent
    acknowledged_by UUID REFERENCES auth.users(id),
    resolved_by UUID REFERENCES auth.users(id),
    resolution_notes TEXT,
    created_at TIMESTAMPTZ DEFAULT now()
);

-- Indexes for performance optimization
CREATE INDEX idx_pipeline_executions_pipeline_id ON pipeline_executions(pipeline_id);
CREATE INDEX idx_pipeline_executions_started_at ON pipeline_executions(started_at DESC);
CREATE INDEX idx_pipeline_executions_status ON pipeline_executions(status);
CREATE INDEX idx_step_executions_pipeline_execution ON step_executions(pipeline_execution_id);
CREATE INDEX idx_data_quality_checks_execution ON data_quality_checks(pipeline_execution_id);
CREATE INDEX idx_data_quality_checks_timestamp ON data_quality_checks(check_timestamp DESC);
CREATE INDEX idx_data_lineage_source ON data_lineage(source_dataset, source_table);
CREATE INDEX idx_data_lineage_target ON data_lineage(target_dataset, target_table);
CREATE INDEX idx_alert_instances_triggered ON alert_instances(triggered_at DESC);
CREATE INDEX idx_alert_instances_status ON alert_instances(status);
