-- Schedules and what became of each of their moments, backfills, checkpoints of steps, and pools that limit work.

-- One row a pipeline that has a schedule: the document says when, this row how far it has come.
CREATE TABLE schedules (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID NOT NULL UNIQUE REFERENCES data_pipelines (id) ON DELETE CASCADE,
    config JSONB NOT NULL,
    is_paused BOOLEAN NOT NULL DEFAULT false,
    next_fire_at TIMESTAMPTZ,
    due_at TIMESTAMPTZ,
    last_fire_at TIMESTAMPTZ,
    watches TEXT,
    event_cursor JSONB NOT NULL DEFAULT '{}',
    webhook_secret JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE INDEX idx_schedules_due ON schedules (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX idx_schedules_watches ON schedules (watches) WHERE watches IS NOT NULL;
CREATE TRIGGER stamp_update BEFORE UPDATE ON schedules FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();

CREATE SEQUENCE wedsync.schedule_fire_position AS bigint CACHE 1;
GRANT USAGE ON SEQUENCE wedsync.schedule_fire_position TO wedsync_runtime;

-- The primary key is what makes a moment fire once, however many schedulers there are.
CREATE TABLE schedule_fires (
    schedule_id UUID NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    fire_time TIMESTAMPTZ NOT NULL,
    outcome TEXT NOT NULL
        CONSTRAINT outcome_is_known CHECK (outcome IN ('submitted', 'skipped', 'missed')),
    reason TEXT,
    execution_id UUID REFERENCES pipeline_executions (id) ON DELETE SET NULL,
    decided_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    position BIGINT NOT NULL DEFAULT nextval('wedsync.schedule_fire_position'),
    PRIMARY KEY (schedule_id, fire_time)
);

CREATE INDEX idx_schedule_fires_position ON schedule_fires (position);
CREATE INDEX idx_schedule_fires_execution ON schedule_fires (execution_id);

-- What event schedules wait for, as it happens: written in the transaction that makes it so, decided by the scheduler.
CREATE TABLE schedule_arrivals (
    schedule_id UUID NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
    cause TEXT NOT NULL,
    happened_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    decided_at TIMESTAMPTZ,
    parameters JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY (schedule_id, cause)
);

CREATE INDEX idx_schedule_arrivals_open ON schedule_arrivals (schedule_id, happened_at) WHERE decided_at IS NULL;

CREATE FUNCTION wedsync.tell_completion() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    INSERT INTO public.schedule_arrivals (schedule_id, cause)
    SELECT id, 'execution:' || NEW.id FROM public.schedules WHERE watches = 'pipeline:' || NEW.pipeline_id
    ON CONFLICT DO NOTHING;
    IF EXISTS (SELECT FROM public.schedules WHERE watches IS NOT NULL AND starts_with(watches, 'dataset:')) THEN
        INSERT INTO public.schedule_arrivals (schedule_id, cause)
        SELECT DISTINCT schedule.id, 'execution:' || NEW.id
        FROM public.pipeline_versions AS version
        CROSS JOIN LATERAL json_array_elements(version.plan -> 'steps') AS step
        JOIN public.schedules AS schedule
            ON schedule.watches = 'dataset:' || (step #>> '{load,destination}') || '/' || (step #>> '{load,table}')
        WHERE version.pipeline_id = NEW.pipeline_id AND version.version = NEW.version
            AND schedule.pipeline_id <> NEW.pipeline_id AND coalesce((step ->> 'enabled')::boolean, true)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_completion AFTER UPDATE OF status ON pipeline_executions
    FOR EACH ROW WHEN (NEW.status = 'completed' AND OLD.status <> 'completed' AND NOT NEW.dry_run)
    EXECUTE FUNCTION wedsync.tell_completion();

-- Which of a pipeline's executions have not ended: a few among all that it ever had.
CREATE INDEX idx_pipeline_executions_unfinished ON pipeline_executions (pipeline_id) WHERE status = 'running';
-- Executions that wait for the one before them to end.
CREATE INDEX idx_work_items_held ON work_items (created_at) WHERE state = 'queued' AND run_after = 'infinity';

CREATE TABLE backfills (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    pipeline_id UUID NOT NULL REFERENCES data_pipelines (id) ON DELETE CASCADE,
    range_start TIMESTAMPTZ NOT NULL,
    range_end TIMESTAMPTZ NOT NULL,
    chunk TEXT NOT NULL,
    most_at_once INTEGER NOT NULL DEFAULT 1 CONSTRAINT runs_some CHECK (most_at_once > 0),
    priority INTEGER NOT NULL DEFAULT -10,
    parameters JSONB NOT NULL DEFAULT '{}',
    total INTEGER NOT NULL,
    already INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'running'
        CONSTRAINT state_is_known CHECK (state IN ('running', 'paused', 'completed', 'failed', 'cancelled')),
    requested_by UUID REFERENCES auth.users (id),
    finished_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT range_goes_forward CHECK (range_end > range_start)
) WITH (fillfactor = 70);

CREATE INDEX idx_backfills_pipeline ON backfills (pipeline_id, created_at DESC);
CREATE INDEX idx_backfills_open ON backfills (created_at) WHERE finished_at IS NULL;
CREATE TRIGGER stamp_update BEFORE UPDATE ON backfills FOR EACH ROW EXECUTE FUNCTION wedsync.stamp_update();

ALTER TABLE pipeline_executions ADD COLUMN backfill_id UUID REFERENCES backfills (id) ON DELETE SET NULL;
CREATE INDEX idx_pipeline_executions_backfill ON pipeline_executions (backfill_id, state)
    WHERE backfill_id IS NOT NULL;

GRANT SELECT (backfill_id) ON pipeline_executions TO authenticated;

-- What a finished task left: where its blocks are, and its report. A take-over and a retry read it instead of running
-- the task again.
CREATE TABLE checkpoints (
    execution_id UUID NOT NULL REFERENCES pipeline_executions (id) ON DELETE CASCADE,
    task_name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    blocks JSONB NOT NULL,
    report JSONB NOT NULL,
    kept TEXT NOT NULL
        CONSTRAINT kept_is_known CHECK (kept IN ('until_success', 'always', 'never')),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, task_name)
);

CREATE INDEX idx_checkpoints_created ON checkpoints (created_at);

-- How many executions may run at once in a pool; a claim holds its slot, and gives it back when its lease lapses.
CREATE TABLE concurrency_pools (
    name TEXT PRIMARY KEY,
    slots INTEGER NOT NULL CONSTRAINT has_slots CHECK (slots > 0),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

ALTER TABLE work_items ADD COLUMN pipeline_id UUID;
GRANT SELECT (pipeline_id) ON work_items TO authenticated;
CREATE INDEX idx_work_items_running ON work_items (pool, pipeline_id) WHERE state = 'claimed';

ALTER TABLE execution_events DROP CONSTRAINT kind_is_known;
ALTER TABLE execution_events ADD CONSTRAINT kind_is_known
    CHECK (kind IN (
        'execution_queued', 'execution_started', 'execution_taken_over', 'execution_cancelling',
        'execution_completed', 'execution_failed', 'execution_cancelled', 'execution_late', 'execution_stalled',
        'step_started', 'step_progress', 'step_retrying', 'step_restored',
        'step_completed', 'step_failed', 'step_skipped', 'step_cancelled'
    ));

CALL wedsync.protect('schedules');
CALL wedsync.open_to_people('schedules', '{INSERT,UPDATE,DELETE}', '{webhook_secret}');
CALL wedsync.let_engineers_manage('schedules', 'schedules');
CALL wedsync.let_analysts_read('schedules', 'schedules');
CALL wedsync.let_runtime('schedules', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL wedsync.protect('schedule_fires');
GRANT SELECT ON schedule_fires TO authenticated;
CALL wedsync.let_engineers_manage('schedule_fires', 'fires');
CALL wedsync.let_analysts_read('schedule_fires', 'fires');
CALL wedsync.let_runtime('schedule_fires', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL wedsync.protect('schedule_arrivals');
CALL wedsync.open_to_people('schedule_arrivals', '{INSERT,DELETE}');
CALL wedsync.let_engineers_manage('schedule_arrivals', 'arrivals');
CALL wedsync.let_runtime('schedule_arrivals', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL wedsync.protect('backfills');
CALL wedsync.open_to_people('backfills', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('backfills', 'backfills');
CALL wedsync.let_analysts_read('backfills', 'backfills');
CALL wedsync.let_runtime('backfills', 'SELECT', 'UPDATE');

CALL wedsync.protect('checkpoints');
CALL wedsync.open_to_people('checkpoints', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('checkpoints', 'checkpoints');
CALL wedsync.let_viewers_of_executions_read('checkpoints', 'execution_id', 'checkpoints');
CALL wedsync.let_runtime('checkpoints', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

CALL wedsync.protect('concurrency_pools');
CALL wedsync.open_to_people('concurrency_pools', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('concurrency_pools', 'pools');
CALL wedsync.let_analysts_read('concurrency_pools', 'pools');
CALL wedsync.let_runtime('concurrency_pools', 'SELECT');

-- A backfill's items wait as `held`, out of the way of every claim, until it is their turn.
ALTER TABLE work_items DROP CONSTRAINT state_is_known;
ALTER TABLE work_items ADD CONSTRAINT state_is_known
    CHECK (state IN ('held', 'queued', 'claimed', 'done', 'failed', 'cancelled'));
ALTER TABLE work_items ADD COLUMN backfill_id UUID;
GRANT SELECT (backfill_id) ON work_items TO authenticated;
CREATE INDEX idx_work_items_backfill ON work_items (backfill_id, state, created_at)
    WHERE backfill_id IS NOT NULL AND state IN ('held', 'queued', 'claimed');

-- Deadlines
ALTER TABLE data_pipelines ADD COLUMN deadline_minutes INTEGER;
GRANT SELECT (deadline_minutes) ON data_pipelines TO authenticated;
ALTER TABLE pipeline_executions ADD COLUMN late_at TIMESTAMPTZ;
GRANT SELECT (late_at) ON pipeline_executions TO authenticated;
CREATE INDEX idx_pipeline_executions_due ON pipeline_executions (pipeline_id, started_at)
    WHERE status = 'running' AND late_at IS NULL AND backfill_id IS NULL;
CREATE INDEX idx_pipeline_executions_history ON pipeline_executions (pipeline_id, started_at DESC)
    INCLUDE (completed_at) WHERE status = 'completed' AND NOT dry_run AND backfill_id IS NULL;
