-- The events of executions, in partitions by day (UTC) with a default one for what falls outside.
CREATE SEQUENCE wedsync.execution_event_position AS bigint CACHE 1;

-- No foreign key to executions: it would be checked for each event, and old days are dropped whole.
CREATE TABLE execution_events (
    position BIGINT NOT NULL DEFAULT nextval('wedsync.execution_event_position'),
    execution_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    kind TEXT NOT NULL
        CONSTRAINT kind_is_known
        CHECK (kind IN (
            'execution_queued', 'execution_started', 'execution_taken_over', 'execution_cancelling',
            'execution_completed', 'execution_failed', 'execution_cancelled',
            'step_started', 'step_progress', 'step_retrying',
            'step_completed', 'step_failed', 'step_skipped', 'step_cancelled'
        )),
    step_name TEXT,
    payload JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY (recorded_at, execution_id, seq)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX idx_execution_events_execution ON execution_events (execution_id, seq);
CREATE INDEX idx_execution_events_position ON execution_events (position);

-- Partitions live beside the functions, out of reach of default privileges on public; only the owner touches them.
CREATE FUNCTION wedsync.close_event_partition(child regclass) RETURNS void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', child);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', child);
    EXECUTE format('CREATE POLICY "The owner keeps partitions" ON %s TO %I USING (true)', child, current_user);
END
$$;

CREATE TABLE wedsync.execution_events_default PARTITION OF execution_events DEFAULT;
SELECT wedsync.close_event_partition('wedsync.execution_events_default');

-- Makes the partitions of today and `days_ahead` more days; what waited in the default partition moves in.
CREATE FUNCTION wedsync.ensure_event_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET timezone = 'UTC'
AS $$
DECLARE
    day date;
    child text;
    made integer := 0;
BEGIN
    IF days_ahead IS NULL OR days_ahead NOT BETWEEN 0 AND 366 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'days_ahead must be between 0 and 366';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('wedsync.execution_events', 0));
    FOR day IN SELECT current_date + ahead FROM generate_series(0, days_ahead) AS ahead LOOP
        child := 'execution_events_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('wedsync.' || child) IS NOT NULL;

        LOCK TABLE wedsync.execution_events_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format(
            'CREATE TABLE wedsync.%I (LIKE public.execution_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child
        );
        EXECUTE format(
            'WITH moved AS (
                DELETE FROM wedsync.execution_events_default
                WHERE recorded_at >= %L AND recorded_at < %L
                RETURNING *
            )
            INSERT INTO wedsync.%I SELECT * FROM moved',
            day, day + 1, child
        );
        EXECUTE format(
            'ALTER TABLE public.execution_events ATTACH PARTITION wedsync.%I FOR VALUES FROM (%L) TO (%L)',
            child, day, day + 1
        );
        PERFORM wedsync.close_event_partition(('wedsync.' || child)::regclass);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;

-- Drops the days that ended more than `older_than_days` ago; answers how many.
CREATE FUNCTION wedsync.drop_event_partitions(older_than_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' SET timezone = 'UTC'
AS $$
DECLARE
    oldest_kept date;
    child record;
    dropped integer := 0;
BEGIN
    IF older_than_days IS NULL OR older_than_days < 1 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'older_than_days must be at least 1';
    END IF;
    oldest_kept := current_date - older_than_days;
    PERFORM pg_advisory_xact_lock(hashtextextended('wedsync.execution_events', 0));
    FOR child IN
        SELECT leaf.relname
        FROM pg_catalog.pg_inherits AS inherited
        JOIN pg_catalog.pg_class AS leaf ON leaf.oid = inherited.inhrelid
        WHERE inherited.inhparent = 'public.execution_events'::regclass
            AND leaf.relname ~ '^execution_events_[0-9]{8}$'
            AND to_date(right(leaf.relname, 8), 'YYYYMMDD') < oldest_kept
    LOOP
        EXECUTE format('DROP TABLE wedsync.%I', child.relname);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM wedsync.execution_events_default WHERE recorded_at < oldest_kept;
    RETURN dropped;
END
$$;

SELECT wedsync.ensure_event_partitions(7);
