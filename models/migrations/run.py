"""Applies the migrations, and says which one a database has."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from models.errors import Denied, Unavailable
from models.migrations.roles import open_version_to, prepare
from models.migrations.scope import VERSION_SCHEMA

LOGIN_ROLE = "wedsync_app"
"""Whom the API and the runtime log in as."""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


AWAY = ("08", "28", "3D", "53", "57")
"""SQLSTATE classes: no connection, no such login, no such database, no room, shutting down."""

REVISIONS: list[str] = [one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]
"""All revisions, oldest first."""

HEAD_REVISION: str = REVISIONS[-1]
"""The newest revision."""


async def migrate(owner_url: str, *, login_role: str = LOGIN_ROLE) -> list[str]:
    """Bring a database to the newest revision, in one transaction; answers the revisions applied, oldest first.

    `owner_url` (`postgresql+asyncpg://…`) names the login that will own the tables: a plain one will do if it may
    create roles. `login_role` is made where missing, without a password. Migrating twice at once is safe.
    Raises `Denied` with the statements a DBA must run, `Invalid` for a login role with too much power,
    `Unavailable` when PostgreSQL cannot be reached.
    """
    engine = create_async_engine(owner_url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('wedsync.migrate', 0))"))
            await prepare(connection, login_role)
            applied = await connection.run_sync(_upgrade)
            await open_version_to(connection, login_role)
            return applied
    except (OSError, DBAPIError) as error:
        raise _explained(error) from error
    finally:
        await engine.dispose()


async def current_revision(url: str) -> str | None:
    """The revision a database has; None when it was never migrated. Raises `Unavailable`."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_revision)
    except (OSError, DBAPIError) as error:
        raise _explained(error) from error
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> list[str]:
    config = _config()
    before = _revision(connection)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    script = ScriptDirectory.from_config(config)
    return [step.revision for step in reversed(list(script.iterate_revisions("head", before or "base")))]


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_SCHEMA})
    return context.get_current_revision()


def _explained(error: OSError | DBAPIError) -> Exception:
    """A typed error for a server that is away or shuts the login out; anything else as it is."""
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    state = getattr(cause, "sqlstate", None)
    if state is None or state.startswith(AWAY):
        return Unavailable(f"PostgreSQL cannot be reached: {cause}", hint="is it running, and does the URL name it?")
    if state == "42501":
        return Denied(f"PostgreSQL refused: {cause}", hint="migrate as the login that owns the tables")
    return error
