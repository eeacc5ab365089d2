"""The migrations: what they make is what the tables say and WS-269 asks, on any database, by a plain owner."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection
from sqlalchemy.ext.asyncio import create_async_engine

from models.errors import Denied, Invalid, Unavailable
from models.fields import Choice
from models.migrations.run import HEAD_REVISION, REVISIONS, current_revision, migrate
from models.migrations.scope import is_ours, metadata
from runtime.embedded.postgres import EmbeddedPostgres
from tests.kit.database import Postgres
from tests.models.conftest import Migrated
from tests.models.people import ADMIN, ENGINEER, RUNTIME

WS269 = Path(__file__).with_name("ws269.sql").read_text(encoding="utf-8")

SUPABASE = """
    CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
    SET ROLE supabase_auth_admin;
    CREATE TABLE auth.users (
        instance_id uuid, id uuid PRIMARY KEY, email varchar(255), encrypted_password varchar(255),
        created_at timestamptz, updated_at timestamptz
    );
    ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
    CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
        SELECT coalesce(
            nullif(current_setting('request.jwt.claim', true), ''),
            nullif(current_setting('request.jwt.claims', true), '')
        )::jsonb
    $$;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
        SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
    $$;
    GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, plain_owner;
    GRANT SELECT (id), REFERENCES (id) ON auth.users TO plain_owner;
    INSERT INTO auth.users (id) VALUES ('00000000-0000-0000-0000-000000000002');
    RESET ROLE;
    SET ROLE plain_owner;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
    RESET ROLE;
"""


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"include_object": is_ours, "compare_server_default": True, "compare_type": True}
    )
    return list(compare_metadata(context, metadata))


async def test_the_migrated_database_is_what_the_tables_say(migrated: Migrated) -> None:
    engine = create_async_engine(migrated.postgres.server.owner_url(migrated.name))
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_checks_allow_exactly_the_members_of_their_closed_sets(migrated: Migrated) -> None:
    async with migrated.as_owner() as connection:
        rows = await connection.fetch(
            """
            SELECT conrelid::regclass::text AS table_name, conname, pg_get_constraintdef(oid) AS definition
            FROM pg_constraint
            WHERE contype = 'c' AND conname LIKE '%_is_known' AND connamespace = 'public'::regnamespace
            """
        )
    in_database = {
        (row["table_name"], row["conname"]): set(re.findall(r"'([^']*)'", row["definition"])) for row in rows
    }
    in_tables: dict[tuple[str, str], set[str]] = {}
    for table in metadata.tables.values():
        closed: dict[str, type[StrEnum]] = {
            column.name: column.type.choices for column in table.columns if isinstance(column.type, Choice)
        }
        checked = {str(check.name) for check in table.constraints if isinstance(check, CheckConstraint)}
        assert {name for name in checked if name.endswith("_is_known")} == {f"{name}_is_known" for name in closed}
        for name, choices in closed.items():
            in_tables[table.name, f"{name}_is_known"] = {choice.value for choice in choices}
    assert in_database == in_tables


async def test_every_column_default_and_key_of_ws_269_is_there(postgres: Postgres, migrated: Migrated) -> None:
    specified = await postgres.create()
    async with postgres.connect(specified) as connection:
        await connection.execute("CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY)")
        await connection.execute(WS269)
        asked = await shape_of(connection)
    async with migrated.as_owner() as connection:
        made = await shape_of(connection)
    widened = re.compile(r"records_\w+ integer")
    replaced = {"schema_versions UNIQUE (source_id, destination_id, version_number)"}
    missing = {fact for fact in asked - made if not widened.search(fact)} - replaced
    assert len({fact.split()[0] for fact in asked}) == 14
    assert missing == set()
    assert {fact for fact in asked - made if widened.search(fact)} <= {
        fact.replace("bigint", "integer") for fact in made
    }


async def shape_of(connection: asyncpg.Connection) -> set[str]:
    """Columns with type and default, keys and indexes of the tables in public, a fact each."""
    columns = await connection.fetch(
        """
        SELECT format('%s %s %s default %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      coalesce(pg_get_expr(d.adbin, d.adrelid), '-')) AS fact
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0
        """
    )
    keys = await connection.fetch(
        """
        SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) AS fact FROM pg_constraint
        WHERE contype IN ('p', 'u', 'f') AND connamespace = 'public'::regnamespace
        """
    )
    indexes = await connection.fetch(
        """
        SELECT format('%s %s', tablename, indexdef) AS fact FROM pg_indexes
        WHERE schemaname = 'public' AND indexname LIKE 'idx_%'
        """
    )
    return {row["fact"] for row in (*columns, *keys, *indexes)}


async def test_every_table_of_ours_forces_row_level_security_and_has_a_policy(migrated: Migrated) -> None:
    async with migrated.as_owner() as connection:
        open_tables = await connection.fetch(
            """
            SELECT oid::regclass::text FROM pg_class AS c
            WHERE relkind IN ('r', 'p') AND relname <> 'alembic_version'
                AND relnamespace IN ('public'::regnamespace, 'wedsync'::regnamespace, 'auth'::regnamespace)
                AND NOT (relrowsecurity AND relforcerowsecurity
                         AND EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid))
            """
        )
        owned = await connection.fetchval(
            """
            SELECT count(*) FROM pg_class
            WHERE pg_get_userbyid(relowner) IN ('wedsync_app', 'wedsync_runtime', 'authenticated')
            """
        )
    assert open_tables == []
    assert owned == 0


async def test_migrating_again_applies_nothing(postgres: Postgres) -> None:
    name = await postgres.create()
    assert await current_revision(postgres.server.owner_url(name)) is None
    assert await migrate(postgres.server.owner_url(name)) == REVISIONS
    assert await migrate(postgres.server.owner_url(name)) == []
    assert await current_revision(postgres.server.url(name, "wedsync_app")) == HEAD_REVISION


async def test_two_migrations_at_once_apply_each_revision_once(postgres: Postgres) -> None:
    name = await postgres.create()
    first, second = await asyncio.gather(
        migrate(postgres.server.owner_url(name)), migrate(postgres.server.owner_url(name))
    )
    assert sorted([first, second]) == [[], REVISIONS]


@pytest.fixture
async def plain_owner(postgres: Postgres) -> str:
    """A login that may create roles and nothing else, and Supabase's roles around it."""
    async with postgres.connect("postgres") as connection:
        for role in ("anon", "service_role BYPASSRLS", "supabase_auth_admin", "plain_owner LOGIN CREATEROLE"):
            if not await connection.fetchval("SELECT to_regrole($1)", role.split()[0]):
                await connection.execute(f"CREATE ROLE {role}")
    return "plain_owner"


async def test_a_plain_owner_migrates_a_database_with_supabases_auth(
    postgres: Postgres, migrated_template: str, plain_owner: str
) -> None:
    name = await postgres.create()
    async with postgres.connect(name) as connection:
        await connection.execute(f"ALTER DATABASE {name} OWNER TO {plain_owner}")
        await connection.execute("GRANT authenticated TO plain_owner")
        await connection.execute(SUPABASE)
    assert await migrate(postgres.server.url(name, plain_owner)) == REVISIONS
    supabase = Migrated(postgres, name)
    async with supabase.as_owner() as connection:
        given = await connection.fetch(
            """
            SELECT DISTINCT grantee FROM information_schema.role_table_grants
            WHERE table_schema = 'public' AND grantee <> 'plain_owner' ORDER BY 1
            """
        )
        assert [row["grantee"] for row in given] == ["authenticated", "wedsync_runtime"]
        owner = await connection.fetchval(
            "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'auth.users'::regclass"
        )
        assert owner == "supabase_auth_admin"
    async with supabase.acting(ENGINEER) as connection:
        assert await connection.fetchval("SELECT wedsync.ensure_user($1, 'a@b.example')", ENGINEER.user_id) is True
        await connection.execute(
            """
            INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config, created_by)
            VALUES ('a', 'etl', '{}', '{}', $1)
            """,
            ENGINEER.user_id,
        )
    await audit_and_partitions_work(supabase)


async def audit_and_partitions_work(database: Migrated) -> None:
    """What runs with the owner's rights works though the owner is itself under row-level security."""
    for _ in range(2):
        async with database.acting(ENGINEER) as connection:
            await connection.execute(
                """
                INSERT INTO audit_log (actor, actor_role, action, entity_type)
                VALUES ($1, 'data_engineer', 'create', 'x')
                """,
                ENGINEER.user_id,
            )
    async with database.acting(RUNTIME) as connection:
        await connection.execute(
            "INSERT INTO audit_log (actor_role, action, entity_type) VALUES ('runtime', 'run', 'x')"
        )
        await connection.execute(
            """
            INSERT INTO execution_events (execution_id, seq, kind, recorded_at)
            VALUES (gen_random_uuid(), 1, 'step_started', now() + interval '9 days')
            """
        )
        assert await connection.fetchval("SELECT wedsync.ensure_event_partitions(9)") == 2
        assert await connection.fetchval("SELECT count(*) FROM execution_events") == 1
    async with database.acting(ADMIN) as connection:
        assert [row["id"] for row in await connection.fetch("SELECT id FROM audit_log ORDER BY id")] == [1, 2, 3]
        assert await connection.fetchval("SELECT wedsync.verify_audit()") is None


@pytest.fixture
def new_cluster() -> Iterator[Postgres]:
    """A server on which nobody has made a role yet."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-test-"))
    folder.chmod(0o755)
    started = EmbeddedPostgres(folder / "data").start()
    yield Postgres(started)
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_plain_owner_makes_the_roles_of_a_new_cluster_though_two_migrate_at_once(new_cluster: Postgres) -> None:
    async with new_cluster.connect("postgres") as connection:
        await connection.execute("CREATE ROLE plain_owner LOGIN CREATEROLE")
    names = [await new_cluster.create() for _ in range(2)]
    for name in names:
        async with new_cluster.connect(name) as connection:
            await connection.execute(f"ALTER DATABASE {name} OWNER TO plain_owner")
    urls = [new_cluster.server.url(name, "plain_owner") for name in names]
    assert await asyncio.gather(*(migrate(url) for url in urls)) == [REVISIONS, REVISIONS]
    for name in names:
        async with Migrated(new_cluster, name).acting(ENGINEER) as connection:
            assert await connection.fetchval("SELECT wedsync.ensure_user($1, 'a@b.example')", ENGINEER.user_id)
        await audit_and_partitions_work(Migrated(new_cluster, name))


async def test_a_login_without_rights_is_told_what_a_dba_must_run(postgres: Postgres, plain_owner: str) -> None:
    name = await postgres.create()
    with pytest.raises(Denied) as refused:
        await migrate(postgres.server.url(name, plain_owner), login_role="wedsync_other_app")
    assert refused.value.hint is not None
    assert "GRANT CREATE ON SCHEMA public TO plain_owner;" in refused.value.hint
    assert f"GRANT CREATE ON DATABASE {name} TO plain_owner;" in refused.value.hint
    async with postgres.connect(name) as connection:
        await connection.execute(refused.value.hint.removeprefix("let a superuser run: "))
    assert await migrate(postgres.server.url(name, plain_owner), login_role="wedsync_other_app") == REVISIONS


async def test_a_login_role_that_bypasses_row_level_security_is_refused(postgres: Postgres) -> None:
    name = await postgres.create()
    async with postgres.connect(name) as connection:
        await connection.execute("CREATE ROLE too_powerful LOGIN BYPASSRLS")
    for login in ("too_powerful", "postgres"):
        with pytest.raises(Invalid, match="bypasses row-level security"):
            await migrate(postgres.server.owner_url(name), login_role=login)


async def test_a_server_that_is_away_is_unavailable(postgres: Postgres, tmp_path: Path) -> None:
    for url in (
        f"postgresql+asyncpg://postgres@/postgres?host={tmp_path}",
        postgres.server.owner_url("no_such_database"),
    ):
        with pytest.raises(Unavailable):
            await migrate(url)
        with pytest.raises(Unavailable):
            await current_revision(url)
