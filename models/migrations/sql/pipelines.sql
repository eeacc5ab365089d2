-- Pipelines, their versions and steps.
CREATE FUNCTION wedsync.stamp_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TABLE data_pipelines (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_name TEXT NOT NULL UNIQUE,
    pipeline_type TEXT NOT NULL
        CONSTRAINT pipeline_type_is_known CHECK (pipeline_type IN ('etl', 'streaming', 'reporting', 'sync')),
    description TEXT,
    source_config JSONB NOT NULL,
    destination_config JSONB NOT NULL,
    transformation_config JSONB NOT NULL DEFAULT '{}',
    schedule_config JSONB NOT NULL DEFAULT '{}',
    retry_policy JSONB NOT NULL DEFAULT '{}',
    quality_checks JSONB NOT NULL DEFAULT '[]',
    alert_config JSONB NOT NULL DEFAULT '{}',
    tags JSONB NOT NULL DEFAULT '[]',
    is_active BOOLEAN NOT NULL DEFAULT true,
    is_paused BOOLEAN NOT NULL DEFAULT false,
    version INTEGER NOT NULL DEFAULT 0,
    archived_at TIMESTAMPTZ,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE pipeline_versions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID NOT NULL REFERENCES data_pipelines (id) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    document JSON NOT NULL,
    fingerprint TEXT NOT NULL,
    plan JSON,
    difference JSONB NOT NULL DEFAULT '[]',
    message TEXT,
    created_by UUID REFERENCES auth.users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (pipeline_id, version)
);

CREATE TABLE pipeline_steps (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID NOT NULL REFERENCES data_pipelines (id) ON DELETE CASCADE,
    step_name TEXT NOT NULL,
    step_type TEXT NOT NULL
        CONSTRAINT step_type_is_known CHECK (step_type IN ('extract', 'transform', 'load', 'validate', 'notify')),
    kind TEXT,
    step_order INTEGER NOT NULL,
    step_config JSONB NOT NULL,
    depends_on JSONB NOT NULL DEFAULT '[]',
    parallel_execution BOOLEAN NOT NULL DEFAULT false,
    timeout_minutes INTEGER NOT NULL DEFAULT 60,
    retry_attempts INTEGER NOT NULL DEFAULT 3,
    critical BOOLEAN NOT NULL DEFAULT true,
    is_enabled BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (pipeline_id, step_name)
);

CREATE INDEX idx_pipeline_steps_order ON pipeline_steps (pipeline_id, step_order);

CREATE TRIGGER stamp_update BEFORE UPDATE ON data_pipelines
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
CREATE TRIGGER stamp_update BEFORE UPDATE ON pipeline_steps
    FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();
