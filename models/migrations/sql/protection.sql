-- The words in which policies.sql, and later migrations, say who may do what.

-- Nothing to anyone: takes back what default privileges gave, forces row-level security, closes it to unknown roles.
-- The last holds for whoever took the role `authenticated` on, not for an owner that happens to be a member of it.
CREATE PROCEDURE wedsync.protect(subject regclass)
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN given.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(given.grantee)) END
        FROM pg_catalog.pg_class AS class, aclexplode(class.relacl) AS given
        WHERE class.oid = subject AND given.grantee <> class.relowner
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', subject, grantee);
    END LOOP;
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', subject);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', subject);
    EXECUTE format(
        'CREATE POLICY "Only known roles" ON %s AS RESTRICTIVE TO authenticated USING ((
            SELECT current_user <> ''authenticated''
                OR (auth.jwt() ->> ''role'') IN (''data_engineer'', ''data_analyst'', ''system_admin'')
        ))',
        subject
    );
END
$$;

-- What SQL verbs people may use at all; policies decide on which rows. Sealed columns may be written, not read.
CREATE PROCEDURE wedsync.open_to_people(subject regclass, verbs text[], sealed name[] DEFAULT '{}')
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    readable text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO readable
    FROM pg_catalog.pg_attribute
    WHERE attrelid = subject AND attnum > 0 AND NOT attisdropped AND attname <> ALL (sealed);
    EXECUTE format('GRANT SELECT (%s) ON %s TO authenticated', readable, subject);
    EXECUTE format('GRANT %s ON %s TO authenticated', array_to_string(verbs, ', '), subject);
END
$$;

-- Engineers and administrators do everything that is open to people.
CREATE PROCEDURE wedsync.let_engineers_manage(subject regclass, title text)
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY %I ON %s FOR ALL TO authenticated USING (
            (SELECT auth.jwt() ->> ''role'') IN (''data_engineer'', ''system_admin'')
        )',
        'Data engineers can manage ' || title, subject
    );
END
$$;

CREATE PROCEDURE wedsync.let_analysts_read(subject regclass, title text)
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY %I ON %s FOR SELECT TO authenticated USING (
            (SELECT auth.jwt() ->> ''role'') = ''data_analyst''
        )',
        'Data analysts can read ' || title, subject
    );
END
$$;

-- Whoever sees an execution sees what belongs to it. The name sorts after the engineers' policy, as PostgreSQL
-- tries policies by name: an engineer's query then never looks executions up.
CREATE PROCEDURE wedsync.let_viewers_of_executions_read(subject regclass, execution name, title text)
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY %I ON %s FOR SELECT TO authenticated USING (
            EXISTS (SELECT FROM public.pipeline_executions AS execution WHERE execution.id = %s.%I)
        )',
        'Users can view ' || title || ' of their executions', subject, subject, execution
    );
END
$$;

-- The runtime's rights on a table, verb by verb; an UPDATE may name its columns: 'UPDATE (health_status)'.
CREATE PROCEDURE wedsync.let_runtime(subject regclass, VARIADIC verbs text[])
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    verb text;
    action text;
BEGIN
    FOREACH verb IN ARRAY verbs LOOP
        action := split_part(verb, ' ', 1);
        EXECUTE format('GRANT %s ON %s TO wedsync_runtime', verb, subject);
        EXECUTE format(
            'CREATE POLICY %I ON %s FOR %s TO wedsync_runtime %s',
            'The runtime can ' || lower(action),
            subject,
            action,
            CASE WHEN action = 'INSERT' THEN 'WITH CHECK (true)' ELSE 'USING (true)' END
        );
    END LOOP;
END
$$;
