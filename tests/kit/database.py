"""PostgreSQL for tests: one server a session, a migrated template, a clone of it for each test that asks."""

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

from models.migrations.run import migrate
from runtime.database import Database
from runtime.embedded.guard import Guard
from runtime.embedded.postgres import EmbeddedPostgres
from tests.kit.identities import PEOPLE

TEMPLATE = "template_wedsync"


@dataclass
class Postgres:
    """The session's server and the databases made on it."""

    server: EmbeddedPostgres
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def connect(self, database: str, user: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        """A plain connection, as the superuser unless told otherwise."""
        connection = await asyncpg.connect(host=str(self.server.folder), user=user, database=database)
        try:
            yield connection
        finally:
            await connection.close()

    async def create(self, template: str | None = None) -> str:
        """A new database, empty or a copy of `template`; answers its name."""
        name = f"test_{next(self.numbers)}"
        copy = f" TEMPLATE {template}" if template else ""
        async with self.connect("postgres") as connection:
            await connection.execute(f"CREATE DATABASE {name}{copy}")
        return name

    async def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        async with self.connect("postgres") as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def libpq_uri(self, name: str) -> str:
        """The URI for ADBC."""
        return self.server.libpq_uri(name)


async def _forget_durability(postgres: Postgres) -> None:
    """A test's database need not survive the machine: cloning and dropping one costs a quarter without fsync."""
    async with postgres.connect("postgres") as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM SET {setting} = off")
        await connection.execute("SELECT pg_reload_conf()")


@pytest.fixture(scope="session")
def postgres(guard: Guard) -> Iterator[Postgres]:
    """One server for the session. Not in pytest's folder: as root, PostgreSQL runs as another user, shut out of it."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-test-"))
    folder.chmod(0o755)
    guard.remove(folder)
    server = EmbeddedPostgres(folder / "data").start()
    if server.pid is not None:
        guard.end(server.pid, signal.SIGINT)
    try:
        made = Postgres(server)
        asyncio.run(_forget_durability(made))
        yield made
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres: Postgres) -> str:
    """The name of a migrated database with the test people in it, which nobody writes to."""

    async def make() -> str:
        async with postgres.connect("postgres") as connection:
            await connection.execute(f"CREATE DATABASE {TEMPLATE}")
        await migrate(postgres.server.owner_url(TEMPLATE))
        async with postgres.connect(TEMPLATE) as connection:
            people = [(person.user_id, person.email) for person in PEOPLE]
            await connection.executemany("INSERT INTO auth.users (id, email) VALUES ($1, $2)", people)
        return TEMPLATE

    return asyncio.run(make())


@pytest.fixture
async def database_name(postgres: Postgres, migrated_template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = await postgres.create(migrated_template)
    yield name
    await postgres.drop(name)


@pytest.fixture
async def database(postgres: Postgres, database_name: str) -> AsyncIterator[Database]:
    """The test's own database as the API and the runtime reach it: as the app's login."""
    made = Database(postgres.server.url(database_name), pool_size=5)
    yield made
    await made.close()


@pytest.fixture
async def owner(postgres: Postgres, database_name: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to the test's own database, past row-level security."""
    async with postgres.connect(database_name) as connection:
        yield connection


@pytest.fixture
async def scratch(postgres: Postgres) -> AsyncIterator[str]:
    """The libpq URI of an empty database of the test's own: somebody's source or destination."""
    name = await postgres.create()
    yield postgres.libpq_uri(name)
    await postgres.drop(name)
