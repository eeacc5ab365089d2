-- Sources and destinations, the versions of their schemas, and the lineage between datasets.
CREATE TABLE data_sources (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_name TEXT NOT NULL UNIQUE,
    source_type TEXT NOT NULL
        CONSTRAINT source_type_is_known CHECK (source_type IN ('database', 'api', 'file', 'stream', 'webhook')),
    kind TEXT NOT NULL,
    connection_config JSONB NOT NULL,
    schema_config JSONB NOT NULL DEFAULT '{}',
    monitoring_config JSONB NOT NULL DEFAULT '{}',
    rate_limit_config JSONB NOT NULL DEFAULT '{}',
    authentication_config JSONB NOT NULL DEFAULT '{}',
    is_active BOOLEAN NOT NULL DEFAULT true,
    health_status TEXT NOT NULL DEFAULT 'unknown'
        CONSTRAINT health_status_is_known
        CHECK (health_status IN ('healthy', 'degraded', 'unhealthy', 'unknown')),
    last_health_check TIMESTAMPTZ,
    archived_at TIMESTAMPTZ,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE data_destinations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    destination_name TEXT NOT NULL UNIQUE,
    destination_type TEXT NOT NULL
        CONSTRAINT destination_type_is_known
        CHECK (destination_type IN ('database', 'warehouse', 'api', 'file', 'stream')),
    kind TEXT NOT NULL,
    connection_config JSONB NOT NULL,
    schema_config JSONB NOT NULL DEFAULT '{}',
    write_mode TEXT NOT NULL DEFAULT 'append'
        CONSTRAINT write_mode_is_known CHECK (write_mode IN ('append', 'overwrite', 'upsert')),
    partition_config JSONB NOT NULL DEFAULT '{}',
    indexing_config JSONB NOT NULL DEFAULT '{}',
    backup_config JSONB NOT NULL DEFAULT '{}',
    is_active BOOLEAN NOT NULL DEFAULT true,
    health_status TEXT NOT NULL DEFAULT 'unknown'
        CONSTRAINT health_status_is_known
        CHECK (health_status IN ('healthy', 'degraded', 'unhealthy', 'unknown')),
    last_health_check TIMESTAMPTZ,
    archived_at TIMESTAMPTZ,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE schema_versions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_id UUID REFERENCES data_sources (id),
    destination_id UUID REFERENCES data_destinations (id),
    dataset TEXT,
    version_number INTEGER NOT NULL,
    schema_definition JSONB NOT NULL,
    schema_changes JSONB NOT NULL DEFAULT '[]',
    compatibility_mode TEXT NOT NULL DEFAULT 'backward'
        CONSTRAINT compatibility_mode_is_known
        CHECK (compatibility_mode IN ('backward', 'forward', 'full', 'none')),
    migration_script TEXT,
    validation_rules JSONB NOT NULL DEFAULT '[]',
    is_active BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_at TIMESTAMPTZ,
    UNIQUE NULLS NOT DISTINCT (source_id, destination_id, dataset, version_number)
);

CREATE TABLE data_lineage (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    source_dataset TEXT NOT NULL,
    source_table TEXT,
    source_column TEXT,
    target_dataset TEXT NOT NULL,
    target_table TEXT,
    target_column TEXT,
    transformation_type TEXT
        CONSTRAINT transformation_type_is_known
        CHECK (transformation_type IN ('direct', 'aggregation', 'join', 'calculation', 'derived')),
    transformation_logic TEXT,
    pipeline_id UUID REFERENCES data_pipelines (id),
    confidence_score NUMERIC NOT NULL DEFAULT 1.0,
    impact_analysis JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE INDEX idx_data_lineage_source ON data_lineage (source_dataset, source_table);
CREATE INDEX idx_data_lineage_target ON data_lineage (target_dataset, target_table);
CREATE INDEX idx_data_lineage_pipeline ON data_lineage (pipeline_id);

CREATE TRIGGER stamp_update BEFORE UPDATE ON data_sources
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
CREATE TRIGGER stamp_update BEFORE UPDATE ON data_destinations
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
CREATE TRIGGER stamp_update BEFORE UPDATE ON data_lineage
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
