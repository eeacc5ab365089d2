"""Who may do what, over the app's login: every role, every table, every verb, and what the matrix cannot say."""

from uuid import UUID

import asyncpg
import pytest

from tests.models.conftest import Migrated
from tests.models.people import ADMIN, ANALYST, ENGINEER, NO_ONE, NOBODY, RUNTIME, STRANGER, Person
from tests.models.rows import EXECUTION, PIPELINE, RULE, TABLES

PIPELINE_ID = UUID(PIPELINE.strip("'"))
EXECUTION_ID = UUID(EXECUTION.strip("'"))

# Letters: S sees the engineer's row, I adds one of their own, U changes the engineer's row, D removes it.
# Versions and events are never changed, the audit log neither, by anyone.
MATRIX = {
    #                       admin   engineer analyst runtime
    "data_pipelines":      ("SIUD", "SIUD",  "S---", "S---"),
    "pipeline_versions":   ("SI-D", "SI-D",  "S---", "S---"),
    "pipeline_steps":      ("SIUD", "SIUD",  "S---", "S---"),
    "pipeline_cursors":    ("SIUD", "SIUD",  "S---", "SIUD"),
    "pipeline_executions": ("SIUD", "SIUD",  "----", "SIU-"),
    "step_executions":     ("SIUD", "SIUD",  "----", "SIU-"),
    "execution_events":    ("SI--", "SI--",  "----", "SI--"),
    "commit_ledger":       ("SIUD", "SIUD",  "----", "SIUD"),
    "data_sources":        ("SIUD", "SIUD",  "S---", "S-U-"),
    "data_destinations":   ("SIUD", "SIUD",  "S---", "S-U-"),
    "schema_versions":     ("SIUD", "SIUD",  "S---", "SIU-"),
    "data_lineage":        ("SIUD", "SIUD",  "S---", "SIUD"),
    "data_quality_rules":  ("SIUD", "SIUD",  "S---", "S---"),
    "data_quality_checks": ("SIUD", "SIUD",  "----", "SI--"),
    "quarantined_rows":    ("SIUD", "SIUD",  "S-U-", "SIU-"),
    "stream_processors":   ("SIUD", "SIUD",  "S---", "S-U-"),
    "bi_reports":          ("SIUD", "SIUD",  "SI--", "S-U-"),
    "pipeline_alerts":     ("SIUD", "SIUD",  "S---", "S---"),
    "alert_instances":     ("SIUD", "SIUD",  "S---", "SIU-"),
    "work_items":          ("SIUD", "SIUD",  "----", "SIUD"),
    "leases":              ("SIUD", "SIUD",  "S---", "SIUD"),
    "schedules":           ("SIUD", "SIUD",  "S---", "SIUD"),
    "schedule_fires":      ("S---", "S---",  "S---", "SIUD"),
    "schedule_arrivals":   ("SI-D", "SI-D",  "----", "SIUD"),
    "backfills":           ("SIUD", "SIUD",  "S---", "S-U-"),
    "checkpoints":         ("SIUD", "SIUD",  "----", "SIUD"),
    "concurrency_pools":   ("SIUD", "SIUD",  "S---", "S---"),
    "pipeline_turns":      ("SIUD", "SIUD",  "S---", "SIUD"),
    "audit_log":           ("SI--", "-I--",  "-I--", "-I--"),
    "auth.users":          ("SIUD", "----",  "----", "S---"),
}  # fmt: skip


async def may(connection: asyncpg.Connection, sql: str, *values: object) -> bool:
    """Whether a statement is let through and touches a row; what it did is undone."""
    attempt = connection.transaction()
    await attempt.start()
    try:
        status: str = await connection.execute(sql, *values)
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await attempt.rollback()
    return not status.endswith(" 0")


async def verbs_of(database: Migrated, person: Person, table: str) -> str:
    """The verbs that a person has on a table, as the matrix writes them."""
    own = {
        ":me": "NULL" if person.user_id == NO_ONE else f"'{person.user_id}'",
        ":role": f"'{person.role or 'runtime'}'",
    }

    def filled(sql: str) -> str:
        return sql.replace(":me", own[":me"]).replace(":role", own[":role"])

    statements = TABLES[table]
    tries = {
        "S": f"SELECT 1 FROM {table} WHERE {statements.where}",
        "I": f"INSERT INTO {table} {filled(statements.new)}",
        "U": f"UPDATE {table} SET {filled(statements.change)} WHERE {statements.where}",
        "D": f"DELETE FROM {table} WHERE {statements.where}",
    }
    async with database.acting(person) as connection:
        return "".join([verb if await may(connection, sql) else "-" for verb, sql in tries.items()])


@pytest.mark.parametrize("table", MATRIX)
async def test_each_role_has_exactly_its_verbs_on_each_table(shared: Migrated, table: str) -> None:
    found = [await verbs_of(shared, person, table) for person in (ADMIN, ENGINEER, ANALYST, RUNTIME)]
    assert tuple(found) == MATRIX[table]


@pytest.mark.parametrize("table", MATRIX)
async def test_without_claims_or_with_an_unknown_role_nothing_is_seen_or_done(shared: Migrated, table: str) -> None:
    assert await verbs_of(shared, NOBODY, table) == "----"
    assert await verbs_of(shared, STRANGER, table) == "----"


async def test_the_login_alone_reaches_no_table(shared: Migrated) -> None:
    async with shared.postgres.connect(shared.name, "wedsync_app") as connection:
        for table in TABLES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT 1 FROM {table}")


async def test_the_matrix_has_every_table(shared: Migrated) -> None:
    async with shared.as_owner() as connection:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
    assert {row["relname"] for row in tables} | {"auth.users"} == set(MATRIX) == set(TABLES)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("data_sources", "connection_config"),
        ("data_sources", "authentication_config"),
        ("data_destinations", "connection_config"),
    ],
)
async def test_a_sealed_column_is_read_by_the_runtime_alone(shared: Migrated, table: str, column: str) -> None:
    for person in (ADMIN, ENGINEER, ANALYST, STRANGER):
        async with shared.acting(person) as connection:
            assert not await may(connection, f"SELECT {column} FROM {table}")
            assert not await may(connection, f"SELECT * FROM {table}")
            assert not await may(connection, f"UPDATE {table} SET kind = 'x' RETURNING {column}")
            assert not await may(connection, f"SELECT 1 FROM {table} WHERE {column}::text LIKE '%a%'")
    async with shared.acting(ENGINEER) as connection:
        assert await may(connection, f"UPDATE {table} SET {column} = '{{}}'")
    async with shared.acting(RUNTIME) as connection:
        assert await may(connection, f"SELECT {column} FROM {table}")
        assert not await may(connection, f"UPDATE {table} SET {column} = '{{}}'")


async def test_an_analyst_sees_the_executions_they_triggered_and_what_belongs_to_them(migrated: Migrated) -> None:
    own = "INSERT INTO pipeline_executions (id, pipeline_id, execution_id, execution_type, started_at, triggered_by)"
    async with migrated.as_owner() as connection:
        await connection.execute(
            f"""
            INSERT INTO data_pipelines (id, pipeline_name, pipeline_type, source_config, destination_config)
                VALUES ({PIPELINE}, 'bookings', 'etl', '{{}}', '{{}}');
            INSERT INTO data_quality_rules (id, rule_name, rule_type, target_table, rule_expression)
                VALUES ({RULE}, 'r', 'validity', 't', 'true');
            {own} VALUES ({EXECUTION}, {PIPELINE}, 'mine', 'manual', now(), '{ANALYST.user_id}');
            {own} VALUES (gen_random_uuid(), {PIPELINE}, 'theirs', 'manual', now(), '{ENGINEER.user_id}');
            {own} VALUES (gen_random_uuid(), {PIPELINE}, 'scheduled', 'scheduled', now(), NULL);
            INSERT INTO step_executions (pipeline_execution_id, step_name, step_execution_id, started_at)
                SELECT id, execution_id, 's', now() FROM pipeline_executions;
            INSERT INTO execution_events (execution_id, seq, kind, step_name)
                SELECT id, 1, 'step_started', execution_id FROM pipeline_executions;
            INSERT INTO commit_ledger (execution_id, step_name, partition, rows)
                SELECT id, execution_id, 0, 0 FROM pipeline_executions;
            INSERT INTO data_quality_checks (pipeline_execution_id, rule_id, check_timestamp, records_checked,
                    records_passed, records_failed, pass_rate, quality_score, rule_result, remediation_suggested)
                SELECT id, {RULE}, now(), 1, 1, 0, 100, 100, '{{}}', execution_id
                FROM (SELECT id, execution_id FROM pipeline_executions UNION ALL SELECT NULL, 'on demand') AS every;
            """
        )
    async with migrated.acting(ANALYST) as connection:
        assert await connection.fetchval("SELECT array_agg(execution_id) FROM pipeline_executions") == ["mine"]
        for table in ("step_executions", "execution_events", "commit_ledger"):
            assert await connection.fetchval(f"SELECT array_agg(step_name) FROM {table}") == ["mine"]
        checks = await connection.fetch("SELECT remediation_suggested FROM data_quality_checks ORDER BY 1")
        assert [row[0] for row in checks] == ["mine", "on demand"]
    async with migrated.acting(ENGINEER) as connection:
        assert await connection.fetchval("SELECT count(*) FROM execution_events") == 3


async def test_an_unknown_role_does_not_see_even_what_it_triggered(migrated: Migrated) -> None:
    async with migrated.as_owner() as connection:
        await connection.execute(
            f"""
            INSERT INTO auth.users (id) VALUES ('{STRANGER.user_id}');
            INSERT INTO data_pipelines (id, pipeline_name, pipeline_type, source_config, destination_config)
                VALUES ({PIPELINE}, 'bookings', 'etl', '{{}}', '{{}}');
            INSERT INTO pipeline_executions (pipeline_id, execution_id, execution_type, started_at, triggered_by)
                VALUES ({PIPELINE}, 'e', 'manual', now(), '{STRANGER.user_id}');
            INSERT INTO bi_reports (report_name, report_type, data_sources, report_config, access_control)
                VALUES ('open', 'adhoc', '[]', '{{}}', '{{"public": true}}');
            """
        )
    async with migrated.acting(STRANGER) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pipeline_executions") == 0
        assert await connection.fetchval("SELECT count(*) FROM bi_reports") == 0


async def test_an_analyst_writes_their_own_reports_and_no_others(shared: Migrated) -> None:
    add = "INSERT INTO bi_reports (report_name, report_type, data_sources, report_config, created_by)"
    async with shared.acting(ANALYST) as connection:
        assert not await may(connection, f"{add} VALUES ('x', 'adhoc', '[]', '{{}}', $1)", ENGINEER.user_id)
        attempt = connection.transaction()
        await attempt.start()
        await connection.execute(f"{add} VALUES ('x', 'adhoc', '[]', '{{}}', $1)", ANALYST.user_id)
        assert await may(connection, "UPDATE bi_reports SET is_active = false WHERE report_name = 'x'")
        assert await may(connection, "DELETE FROM bi_reports WHERE report_name = 'x'")
        give = "UPDATE bi_reports SET created_by = $1 WHERE report_name = 'x'"
        assert not await may(connection, give, ENGINEER.user_id)
        await attempt.rollback()


async def test_a_reviewer_signs_with_their_own_name(shared: Migrated) -> None:
    review = "UPDATE quarantined_rows SET status = 'discarded', reviewed_by = $1"
    async with shared.acting(ANALYST) as connection:
        assert await may(connection, review, ANALYST.user_id)
        assert not await may(connection, review, ENGINEER.user_id)


async def test_nobody_submits_asks_or_records_in_anothers_name(shared: Migrated) -> None:
    for person, other in ((ENGINEER, ADMIN), (ADMIN, ENGINEER)):
        async with shared.acting(person) as connection:
            for sql in (
                f"""INSERT INTO pipeline_executions
                    (pipeline_id, execution_id, execution_type, started_at, triggered_by)
                    VALUES ({PIPELINE}, 'x', 'manual', now(), $1)""",
                "INSERT INTO work_items (kind, requested_by) VALUES ('check', $1)",
                f"""INSERT INTO audit_log (actor, actor_role, action, entity_type)
                    VALUES ($1, '{person.role}', 'a', 'e')""",
            ):
                assert await may(connection, sql, person.user_id)
                assert not await may(connection, sql, other.user_id)
            forged = "INSERT INTO work_items (kind, requested_by, requested_role) VALUES ('check', $1, $2)"
            assert not await may(connection, forged, person.user_id, other.role)
    async with shared.acting(RUNTIME) as connection:
        in_a_persons_name = "INSERT INTO audit_log (actor, actor_role, action, entity_type) VALUES ($1, $2, 'a', 'e')"
        assert not await may(connection, in_a_persons_name, ADMIN.user_id, ADMIN.role)


async def test_work_notes_the_role_that_asked(migrated: Migrated) -> None:
    async with migrated.acting(ENGINEER) as connection:
        await connection.execute("INSERT INTO work_items (kind, requested_by) VALUES ('check', $1)", ENGINEER.user_id)
        assert await connection.fetchval("SELECT requested_role FROM work_items") == "data_engineer"


async def test_everyone_sees_themselves_among_the_users_and_administrators_all(shared: Migrated) -> None:
    async with shared.acting(ANALYST) as connection:
        assert await connection.fetchval("SELECT array_agg(id) FROM auth.users") == [ANALYST.user_id]
    async with shared.acting(ADMIN) as connection:
        assert await connection.fetchval("SELECT count(*) FROM auth.users") == 4


async def test_people_enter_themselves_as_users_and_only_administrators_others(migrated: Migrated) -> None:
    enter = "SELECT wedsync.ensure_user($1, $2)"
    newcomer = Person("newcomer", PIPELINE_ID, "data_analyst")
    async with migrated.acting(newcomer) as connection:
        assert await connection.fetchval(enter, newcomer.user_id, "a@b.example") is True
        assert await connection.fetchval(enter, newcomer.user_id, "c@d.example") is True
        assert await connection.fetchval(enter, newcomer.user_id, None) is True
        assert await connection.fetchval("SELECT email FROM auth.users") == "c@d.example"
        assert not await may(connection, enter, EXECUTION_ID, None)
    for person in (ADMIN, RUNTIME):
        async with migrated.acting(person) as connection:
            assert await connection.fetchval(enter, EXECUTION_ID, None) is True


async def test_the_partitions_of_events_cannot_be_reached_around_their_table(shared: Migrated) -> None:
    async with shared.as_owner() as connection:
        partitions = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'execution_events'::regclass"
        )
    assert len(partitions) == 9
    for person in (ADMIN, ENGINEER, ANALYST, RUNTIME):
        async with shared.acting(person) as connection:
            for partition in partitions:
                assert not await may(connection, f"SELECT 1 FROM {partition['name']}")


async def test_a_role_does_not_outlive_its_transaction(shared: Migrated) -> None:
    async with shared.postgres.connect(shared.name, "wedsync_app") as connection:
        async with connection.transaction():
            await ADMIN.act(connection)
            assert await connection.fetchval("SELECT current_user") == "authenticated"
        assert await connection.fetchval("SELECT current_user") == "wedsync_app"
        assert await connection.fetchval("SELECT nullif(current_setting('request.jwt.claims', true), '')") is None
