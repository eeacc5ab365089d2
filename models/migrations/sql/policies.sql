-- Who may do what. Engineers and administrators manage all but users and the audit log; analysts read all but sealed
-- columns, the audit log and others' executions, write their own reports and review quarantined rows.

-- Pipelines
CALL wedsync.protect('data_pipelines');
CALL wedsync.open_to_people('data_pipelines', '{INSERT,UPDATE,DELETE}');
CREATE POLICY "Data engineers can manage pipelines" ON data_pipelines
    FOR ALL TO authenticated
    USING ((SELECT auth.jwt() ->> 'role') IN ('data_engineer', 'system_admin'));
CALL wedsync.let_analysts_read('data_pipelines', 'pipelines');

CALL wedsync.protect('pipeline_versions');
CALL wedsync.open_to_people('pipeline_versions', '{INSERT,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_versions', 'versions');
CALL wedsync.let_analysts_read('pipeline_versions', 'versions');

CALL wedsync.protect('pipeline_steps');
CALL wedsync.open_to_people('pipeline_steps', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_steps', 'steps');
CALL wedsync.let_analysts_read('pipeline_steps', 'steps');

CALL wedsync.protect('pipeline_cursors');
CALL wedsync.open_to_people('pipeline_cursors', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_cursors', 'cursors');
CALL wedsync.let_analysts_read('pipeline_cursors', 'cursors');

-- Executions, and what belongs to them
CALL wedsync.protect('pipeline_executions');
CALL wedsync.open_to_people('pipeline_executions', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_executions', 'executions');
CREATE POLICY "Users can view their pipeline executions" ON pipeline_executions
    FOR SELECT TO authenticated
    USING (
        triggered_by = (SELECT auth.uid())
        OR (SELECT auth.jwt() ->> 'role') IN ('data_engineer', 'system_admin')
    );
CREATE POLICY "Nobody submits in another's name" ON pipeline_executions
    AS RESTRICTIVE FOR INSERT TO authenticated
    WITH CHECK (triggered_by = (SELECT auth.uid()));

CALL wedsync.protect('step_executions');
CALL wedsync.open_to_people('step_executions', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('step_executions', 'step executions');
CALL wedsync.let_viewers_of_executions_read('step_executions', 'pipeline_execution_id', 'steps');

CALL wedsync.protect('execution_events');
CALL wedsync.open_to_people('execution_events', '{INSERT}');
CALL wedsync.let_engineers_manage('execution_events', 'events');
CALL wedsync.let_viewers_of_executions_read('execution_events', 'execution_id', 'events');

CALL wedsync.protect('commit_ledger');
CALL wedsync.open_to_people('commit_ledger', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('commit_ledger', 'the ledger');
CALL wedsync.let_viewers_of_executions_read('commit_ledger', 'execution_id', 'the ledger');

-- Sources and destinations
CALL wedsync.protect('data_sources');
CALL wedsync.open_to_people('data_sources', '{INSERT,UPDATE,DELETE}', '{connection_config,authentication_config}');
CALL wedsync.let_engineers_manage('data_sources', 'sources');
CALL wedsync.let_analysts_read('data_sources', 'sources');

CALL wedsync.protect('data_destinations');
CALL wedsync.open_to_people('data_destinations', '{INSERT,UPDATE,DELETE}', '{connection_config}');
CALL wedsync.let_engineers_manage('data_destinations', 'destinations');
CALL wedsync.let_analysts_read('data_destinations', 'destinations');

CALL wedsync.protect('schema_versions');
CALL wedsync.open_to_people('schema_versions', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('schema_versions', 'schema versions');
CALL wedsync.let_analysts_read('schema_versions', 'schema versions');

CALL wedsync.protect('data_lineage');
CALL wedsync.open_to_people('data_lineage', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('data_lineage', 'lineage');
CALL wedsync.let_analysts_read('data_lineage', 'lineage');

-- Quality
CALL wedsync.protect('data_quality_rules');
CALL wedsync.open_to_people('data_quality_rules', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('data_quality_rules', 'quality rules');
CALL wedsync.let_analysts_read('data_quality_rules', 'quality rules');

CALL wedsync.protect('data_quality_checks');
CALL wedsync.open_to_people('data_quality_checks', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('data_quality_checks', 'quality checks');
CALL wedsync.let_viewers_of_executions_read('data_quality_checks', 'pipeline_execution_id', 'quality checks');
CREATE POLICY "Data analysts can read quality checks made on demand" ON data_quality_checks
    FOR SELECT TO authenticated
    USING (pipeline_execution_id IS NULL AND (SELECT auth.jwt() ->> 'role') = 'data_analyst');

CALL wedsync.protect('quarantined_rows');
CALL wedsync.open_to_people('quarantined_rows', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('quarantined_rows', 'quarantined rows');
CALL wedsync.let_analysts_read('quarantined_rows', 'quarantined rows');
CREATE POLICY "Data analysts can review quarantined rows" ON quarantined_rows
    FOR UPDATE TO authenticated
    USING ((SELECT auth.jwt() ->> 'role') = 'data_analyst')
    WITH CHECK ((SELECT auth.jwt() ->> 'role') = 'data_analyst' AND reviewed_by = (SELECT auth.uid()));

-- Streams, reports, alerts
CALL wedsync.protect('stream_processors');
CALL wedsync.open_to_people('stream_processors', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('stream_processors', 'stream processors');
CALL wedsync.let_analysts_read('stream_processors', 'stream processors');

CALL wedsync.protect('bi_reports');
CALL wedsync.open_to_people('bi_reports', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('bi_reports', 'reports');
CREATE POLICY "Data analysts can read reports" ON bi_reports
    FOR SELECT TO authenticated
    USING (
        (access_control ->> 'public')::boolean = true
        OR (SELECT auth.jwt() ->> 'role') IN ('data_analyst', 'data_engineer', 'system_admin')
    );
CREATE POLICY "Data analysts can add reports" ON bi_reports
    FOR INSERT TO authenticated
    WITH CHECK ((SELECT auth.jwt() ->> 'role') = 'data_analyst' AND created_by = (SELECT auth.uid()));
CREATE POLICY "Data analysts can change their reports" ON bi_reports
    FOR UPDATE TO authenticated
    USING ((SELECT auth.jwt() ->> 'role') = 'data_analyst' AND created_by = (SELECT auth.uid()));
CREATE POLICY "Data analysts can remove their reports" ON bi_reports
    FOR DELETE TO authenticated
    USING ((SELECT auth.jwt() ->> 'role') = 'data_analyst' AND created_by = (SELECT auth.uid()));

CALL wedsync.protect('pipeline_alerts');
CALL wedsync.open_to_people('pipeline_alerts', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('pipeline_alerts', 'alerts');
CALL wedsync.let_analysts_read('pipeline_alerts', 'alerts');

CALL wedsync.protect('alert_instances');
CALL wedsync.open_to_people('alert_instances', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('alert_instances', 'alert instances');
CALL wedsync.let_analysts_read('alert_instances', 'alert instances');

-- Work
CALL wedsync.protect('work_items');
CALL wedsync.open_to_people('work_items', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('work_items', 'work');
CREATE POLICY "Users can view their work" ON work_items
    FOR SELECT TO authenticated
    USING (requested_by = (SELECT auth.uid()));
CREATE POLICY "Nobody asks in another's name" ON work_items
    AS RESTRICTIVE FOR INSERT TO authenticated
    WITH CHECK (requested_by = (SELECT auth.uid()) AND requested_role = (SELECT auth.jwt() ->> 'role'));

CALL wedsync.protect('leases');
CALL wedsync.open_to_people('leases', '{INSERT,UPDATE,DELETE}');
CALL wedsync.let_engineers_manage('leases', 'leases');
CALL wedsync.let_analysts_read('leases', 'leases');

-- The audit log: everyone writes their own deeds, administrators read, nobody changes. Its owner reads the chain's end.
CALL wedsync.protect('audit_log');
CALL wedsync.open_to_people('audit_log', '{INSERT}');
CREATE POLICY "Users can record their own deeds" ON audit_log
    FOR INSERT TO authenticated
    WITH CHECK (actor = (SELECT auth.uid()) AND actor_role = (SELECT auth.jwt() ->> 'role'));
CREATE POLICY "System administrators can read the audit log" ON audit_log
    FOR SELECT TO authenticated
    USING ((SELECT auth.jwt() ->> 'role') = 'system_admin');
CREATE POLICY "The owner can read the chain" ON audit_log FOR SELECT TO CURRENT_USER USING (true);
GRANT INSERT ON audit_log TO wedsync_runtime;
CREATE POLICY "The runtime can record its own deeds" ON audit_log
    FOR INSERT TO wedsync_runtime
    WITH CHECK (actor IS NULL AND actor_role = 'runtime');

-- Users, where they are ours: everyone sees themselves, administrators all.
DO $$
BEGIN
    IF (SELECT relowner = current_user::regrole FROM pg_class WHERE oid = 'auth.users'::regclass) THEN
        CALL wedsync.protect('auth.users');
        CALL wedsync.open_to_people('auth.users', '{INSERT,UPDATE,DELETE}');
        CALL wedsync.let_runtime('auth.users', 'SELECT');
        CREATE POLICY "System administrators can manage users" ON auth.users
            FOR ALL TO authenticated
            USING ((SELECT auth.jwt() ->> 'role') = 'system_admin');
        CREATE POLICY "Users can view themselves" ON auth.users
            FOR SELECT TO authenticated
            USING (id = (SELECT auth.uid()));
        CREATE POLICY "The owner can enter users" ON auth.users TO CURRENT_USER USING (true);
    END IF;
END
$$;

-- The runtime
CALL wedsync.let_runtime('data_pipelines', 'SELECT');
CALL wedsync.let_runtime('pipeline_versions', 'SELECT');
CALL wedsync.let_runtime('pipeline_steps', 'SELECT');
CALL wedsync.let_runtime('pipeline_executions', 'SELECT', 'INSERT', 'UPDATE');
CALL wedsync.let_runtime('step_executions', 'SELECT', 'INSERT', 'UPDATE');
CALL wedsync.let_runtime('execution_events', 'SELECT', 'INSERT');
CALL wedsync.let_runtime('commit_ledger', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL wedsync.let_runtime('pipeline_cursors', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL wedsync.let_runtime('data_sources', 'SELECT', 'UPDATE (health_status, last_health_check)');
CALL wedsync.let_runtime('data_destinations', 'SELECT', 'UPDATE (health_status, last_health_check)');
CALL wedsync.let_runtime('schema_versions', 'SELECT', 'INSERT', 'UPDATE');
CALL wedsync.let_runtime('data_lineage', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL wedsync.let_runtime('data_quality_rules', 'SELECT');
CALL wedsync.let_runtime('data_quality_checks', 'SELECT', 'INSERT');
CALL wedsync.let_runtime('quarantined_rows', 'SELECT', 'INSERT', 'UPDATE');
CALL wedsync.let_runtime(
    'stream_processors', 'SELECT', 'UPDATE (current_lag, throughput_per_second, last_processed_offset)'
);
CALL wedsync.let_runtime('bi_reports', 'SELECT', 'UPDATE (last_generated, generation_duration_ms)');
CALL wedsync.let_runtime('pipeline_alerts', 'SELECT');
CALL wedsync.let_runtime('alert_instances', 'SELECT', 'INSERT', 'UPDATE');
CALL wedsync.let_runtime('work_items', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');
CALL wedsync.let_runtime('leases', 'SELECT', 'INSERT', 'UPDATE', 'DELETE');

-- Functions
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wedsync FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA wedsync FROM PUBLIC;
GRANT USAGE ON SCHEMA wedsync TO authenticated, wedsync_runtime;
GRANT USAGE ON SEQUENCE wedsync.execution_event_position TO authenticated, wedsync_runtime;
GRANT EXECUTE ON FUNCTION
    wedsync.ensure_user(uuid, text),
    wedsync.verify_audit(),
    wedsync.stamp_update()
TO authenticated, wedsync_runtime;
GRANT EXECUTE ON FUNCTION
    wedsync.ensure_event_partitions(integer),
    wedsync.drop_event_partitions(integer)
TO wedsync_runtime;
