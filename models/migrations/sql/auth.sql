-- Users and claims as Supabase provides them, made only where they are missing.
DO $$
DECLARE
    owns_schema boolean;
BEGIN
    IF to_regnamespace('auth') IS NULL THEN
        CREATE SCHEMA auth;
    END IF;

    SELECT pg_has_role(nspowner, 'MEMBER') INTO owns_schema FROM pg_namespace WHERE nspname = 'auth';
    IF owns_schema THEN
        GRANT USAGE ON SCHEMA auth TO authenticated, wedsync_runtime;
    END IF;

    IF to_regclass('auth.users') IS NULL THEN
        CREATE TABLE auth.users (
            id UUID PRIMARY KEY,
            email TEXT,
            created_at TIMESTAMPTZ DEFAULT now()
        );
    END IF;

    IF to_regprocedure('auth.jwt()') IS NULL THEN
        CREATE FUNCTION auth.jwt() RETURNS jsonb
        LANGUAGE sql STABLE
        AS $body$
            SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb
        $body$;
    END IF;

    IF to_regprocedure('auth.uid()') IS NULL THEN
        CREATE FUNCTION auth.uid() RETURNS uuid
        LANGUAGE sql STABLE
        AS $body$
            SELECT nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid
        $body$;
    END IF;
END
$$;

-- Makes sure that rows may refer to a user. Where users are not ours, says only whether there is such a one.
CREATE FUNCTION wedsync.ensure_user(p_id uuid, p_email text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
    IF current_setting('role') = 'authenticated'
        AND p_id IS DISTINCT FROM auth.uid()
        AND (auth.jwt() ->> 'role') IS DISTINCT FROM 'system_admin'
    THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'only a system_admin may enter another user',
            HINT = 'enter the user that the claims name';
    END IF;

    IF (SELECT relowner = current_user::regrole FROM pg_catalog.pg_class WHERE oid = 'auth.users'::regclass) THEN
        INSERT INTO auth.users AS known (id, email) VALUES (p_id, p_email)
        ON CONFLICT (id) DO UPDATE SET email = excluded.email
            WHERE excluded.email IS NOT NULL AND excluded.email IS DISTINCT FROM known.email;
        RETURN true;
    END IF;

    -- Whoever issues the claims keeps the users; where their rows are hidden from us, the foreign keys still guard.
    RETURN row_security_active('auth.users') OR EXISTS (SELECT FROM auth.users WHERE id = p_id);
END
$$;
