"""The database roles and rights that migrating needs: makes what the migrating login may make, tells a DBA the rest."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from models.access import DatabaseRole
from models.errors import Denied, Invalid, Unavailable

OLDEST_POSTGRES = 15

GROUPS = tuple(role.value for role in DatabaseRole)


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


async def prepare(connection: AsyncConnection, login_role: str) -> None:
    """Make the roles and the schema `wedsync`, and check the rights that the revisions need.

    `login_role` is whom the API and the runtime log in as. Raises `Denied` with the statements a DBA must run
    when the migrating login may not do so itself, `Invalid` when `login_role` could get round row-level security,
    `Unavailable` when PostgreSQL is too old.
    """
    await _require_version(connection)
    await _refuse_powerful(connection, login_role)
    statements = await _missing_roles(connection, login_role)
    allowed = [await _try(connection, statement) for statement in statements]
    missing = await _missing_rights(connection)
    if missing or not all(allowed):
        migrating = await connection.scalar(text("SELECT current_user"))
        # All of them: what the login could do itself is undone with the rest of this transaction.
        raise Denied(
            f"the login {migrating} may not prepare the database",
            hint="let a superuser run: " + " ".join(f"{sql};" for sql in [*statements, *missing]),
        )
    await connection.execute(text("CREATE SCHEMA IF NOT EXISTS wedsync"))


async def open_version_to(connection: AsyncConnection, login_role: str) -> None:
    """Let the login read which revision is applied, for readiness checks."""
    await connection.execute(text(f"GRANT USAGE ON SCHEMA wedsync TO {quoted(login_role)}"))
    await connection.execute(text(f"GRANT SELECT ON wedsync.alembic_version TO {quoted(login_role)}"))


async def _require_version(connection: AsyncConnection) -> None:
    version = int(await connection.scalar(text("SELECT current_setting('server_version_num')")) or 0) // 10_000
    if version < OLDEST_POSTGRES:
        raise Unavailable(
            f"PostgreSQL {version} is too old",
            hint=f"use PostgreSQL {OLDEST_POSTGRES} or newer",
        )


async def _refuse_powerful(connection: AsyncConnection, login_role: str) -> None:
    found = await connection.scalars(
        text(
            """
            SELECT rolname FROM pg_roles
            WHERE rolname = ANY (:names) AND (rolsuper OR rolbypassrls OR rolname = current_user)
            """
        ),
        {"names": [*GROUPS, login_role]},
    )
    powerful = sorted(found)
    if powerful:
        raise Invalid(
            f"the role {powerful[0]} owns the tables or bypasses row-level security",
            hint="migrate as another login than the one the API uses, and give neither SUPERUSER nor BYPASSRLS to it",
        )


async def _missing_roles(connection: AsyncConnection, login_role: str) -> list[str]:
    """The statements that make what is missing of the roles and their memberships."""
    known = set(
        await connection.scalars(
            text("SELECT rolname FROM pg_roles WHERE rolname = ANY (:names)"),
            {"names": [*GROUPS, login_role]},
        )
    )
    statements = [f"CREATE ROLE {quoted(name)} NOLOGIN NOINHERIT" for name in GROUPS if name not in known]
    if login_role not in known:
        statements.append(f"CREATE ROLE {quoted(login_role)} LOGIN NOINHERIT")
    for group in GROUPS:
        is_member = await connection.scalar(
            text(
                """
                SELECT EXISTS (
                    SELECT FROM pg_auth_members AS membership
                    JOIN pg_roles AS granted ON granted.oid = membership.roleid
                    JOIN pg_roles AS member ON member.oid = membership.member
                    WHERE granted.rolname = :granted AND member.rolname = :member
                )
                """
            ),
            {"granted": group, "member": login_role},
        )
        if not is_member:
            statements.append(f"GRANT {quoted(group)} TO {quoted(login_role)}")
    return statements


async def _try(connection: AsyncConnection, statement: str) -> bool:
    """Run a statement on a savepoint; False when the login may not.

    Another database of the same cluster may be migrated at the same moment: who comes second finds the role made.
    """
    body = f"""
        DO $body$
        BEGIN
            {statement};
            PERFORM set_config('wedsync.allowed', 'yes', true);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                PERFORM set_config('wedsync.allowed', 'yes', true);
            WHEN insufficient_privilege OR undefined_object THEN
                PERFORM set_config('wedsync.allowed', 'no', true);
        END
        $body$
    """
    await connection.exec_driver_sql(body)
    return bool(await connection.scalar(text("SELECT current_setting('wedsync.allowed') = 'yes'")))


async def _missing_rights(connection: AsyncConnection) -> list[str]:
    """The grants without which the revisions would fail, as statements."""
    rights = await connection.execute(
        text(
            """
            SELECT
                quote_ident(current_user) AS migrating,
                quote_ident(current_database()) AS database,
                has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
                has_schema_privilege('public', 'CREATE') AS makes_tables,
                to_regnamespace('wedsync') IS NULL AS lacks_wedsync,
                to_regnamespace('auth') IS NULL AS lacks_auth,
                coalesce(has_schema_privilege(to_regnamespace('auth')::oid, 'USAGE'), false) AS uses_auth,
                coalesce(has_schema_privilege(to_regnamespace('auth')::oid, 'CREATE'), false) AS makes_in_auth
            """
        )
    )
    have = rights.one()
    needed = []
    if not have.makes_tables:
        needed.append(f"GRANT CREATE ON SCHEMA public TO {have.migrating}")
    if not have.makes_schemas and (have.lacks_wedsync or have.lacks_auth):
        needed.append(f"GRANT CREATE ON DATABASE {have.database} TO {have.migrating}")
    if have.lacks_auth:
        return needed
    if not have.uses_auth:
        return [*needed, f"GRANT USAGE ON SCHEMA auth TO {have.migrating}"]
    auth = await connection.execute(
        text(
            """
            SELECT
                to_regclass('auth.users') IS NOT NULL
                AND to_regprocedure('auth.uid()') IS NOT NULL
                AND to_regprocedure('auth.jwt()') IS NOT NULL AS is_whole,
                coalesce(has_column_privilege(to_regclass('auth.users')::oid, 'id', 'REFERENCES'), true) AS refers,
                coalesce(has_column_privilege(to_regclass('auth.users')::oid, 'id', 'SELECT'), true) AS looks_up
            """
        )
    )
    found = auth.one()
    if not found.is_whole and not have.makes_in_auth:
        needed.append(f"GRANT CREATE ON SCHEMA auth TO {have.migrating}")
    if not (found.refers and found.looks_up):
        needed.append(f"GRANT SELECT (id), REFERENCES (id) ON auth.users TO {have.migrating}")
    return needed
