-- The audit log: append-only, numbered without gaps, each entry hashed over the one before.
CREATE TABLE audit_log (
    id BIGINT PRIMARY KEY,
    recorded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    actor UUID,
    actor_role TEXT NOT NULL,
    action TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    entity_id TEXT,
    detail JSONB NOT NULL DEFAULT '{}',
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL
);

CREATE INDEX idx_audit_log_entity ON audit_log (entity_type, entity_id);
CREATE INDEX idx_audit_log_actor ON audit_log (actor, recorded_at);

-- Moments count as seconds: their text depends on the session's time zone.
CREATE FUNCTION wedsync.audit_hash(entry public.audit_log) RETURNS bytea
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT sha256(
        entry.previous_hash || convert_to(
            jsonb_build_array(
                entry.id,
                extract(epoch FROM entry.recorded_at),
                entry.actor,
                entry.actor_role,
                entry.action,
                entry.entity_type,
                entry.entity_id,
                entry.detail
            )::text,
            'UTF8'
        )
    )
$$;

-- The number comes from the chain, not a sequence: numbers are taken in the order of the chain and leave no gap,
-- so a removed entry shows.
CREATE FUNCTION wedsync.chain_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
    last public.audit_log;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('wedsync.audit_log', 0));
    SELECT * INTO last FROM public.audit_log ORDER BY id DESC LIMIT 1;
    NEW.id := coalesce(last.id, 0) + 1;
    NEW.recorded_at := clock_timestamp();
    NEW.previous_hash := coalesce(last.hash, sha256(''));
    NEW.hash := wedsync.audit_hash(NEW);
    RETURN NEW;
END
$$;

CREATE FUNCTION wedsync.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('%s is append-only', TG_TABLE_NAME),
        HINT = 'add a correcting entry';
END
$$;

CREATE TRIGGER chain_audit BEFORE INSERT ON audit_log
    FOR EACH ROW EXECUTE FUNCTION wedsync.chain_audit();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION wedsync.refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION wedsync.refuse_change();

-- The first entry that was changed, or that follows a removed one; null when the chain is whole.
CREATE FUNCTION wedsync.verify_audit() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    IF current_setting('role') = 'authenticated' AND (auth.jwt() ->> 'role') IS DISTINCT FROM 'system_admin' THEN
        RAISE insufficient_privilege USING MESSAGE = 'only a system_admin may verify the audit log';
    END IF;
    RETURN (
        SELECT min(id)
        FROM (
            SELECT
                entry.id,
                entry.id = row_number() OVER chain
                AND entry.previous_hash = coalesce(lag(entry.hash) OVER chain, sha256(''))
                AND entry.hash = wedsync.audit_hash(entry) AS is_whole
            FROM public.audit_log AS entry
            WINDOW chain AS (ORDER BY entry.id)
        ) AS checked
        WHERE NOT is_whole
    );
END
$$;
