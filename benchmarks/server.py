"""The program under measurement: the whole stack in a home of its own, spoken to over HTTP as people do."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

import asyncpg
import psutil
import pytest

from api.client import Client
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.embedded.postgres import EmbeddedPostgres
from runtime.embedded.stack import Stack
from runtime.pipelines.files import Entry, EntryKind
from runtime.settings import Settings

T = TypeVar("T")

SOURCE, TARGET = "bench_source", "bench_target"
RUNTIME = "runtime.cluster"


@dataclass
class Server:
    """A running stack with a source and a destination database, both on its own PostgreSQL."""

    stack: Stack
    settings: Settings
    postgres: EmbeddedPostgres
    runner: asyncio.Runner

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine to its end."""
        return self.runner.run(work)

    def client(self) -> Client:
        """A client who may do everything an engineer may."""
        return Client.of_home(self.settings)

    def speak(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with a client of its own."""

        async def spoken() -> T:
            async with self.client() as client:
                return await work(client)

        return self.run(spoken())

    @asynccontextmanager
    async def connect(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection."""
        made = await asyncpg.connect(host=str(self.postgres.folder), user="postgres", database=database)
        try:
            yield made
        finally:
            await made.close()

    def sql(self, database: str, *statements: str) -> list[asyncpg.Record]:
        """Run statements as the superuser; the rows of the last one."""

        async def done() -> list[asyncpg.Record]:
            async with self.connect(database) as connection:
                for statement in statements[:-1]:
                    await connection.execute(statement)
                return list(await connection.fetch(statements[-1]))

        return self.run(done())

    def execute(self, name: str) -> None:
        """Execute a pipeline to its end, which has to be a good one."""

        async def finished(client: Client) -> None:
            execution = await client.finished((await client.execute(name)).id)
            assert execution.state is ExecutionState.COMPLETED, execution

        self.speak(finished)

    def processes(self) -> list[psutil.Process]:
        """The runtime's processes: the one that starts Ray, all of Ray's, and the workers."""
        (root,) = [child for child in psutil.Process().children() if RUNTIME in child.cmdline()]
        return [root, *root.children(recursive=True)]

    def save(self, *pipelines: JsonObject) -> None:
        """Save pipelines over the source `bench-source` and the destination `bench-target`."""

        async def saved(client: Client) -> None:
            for document in pipelines:
                await client.save(Entry(EntryKind.PIPELINE, document))

        self.speak(saved)


def place(server: EmbeddedPostgres, database: str) -> JsonObject:
    """How the connector reaches a database of the stack's own server."""
    return {"host": str(server.folder), "database": database, "user": "postgres"}


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The stack, up and warm, with nothing in it but its two places; its home stays when a benchmark has failed."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-bench-"))
    folder.chmod(0o755)
    settings = Settings(
        home=folder / "home", port=0, ray_dashboard=False, database_url=None, redis_url=None, ray_address=None
    )
    stack = Stack(settings)
    with asyncio.Runner() as runner:
        try:
            runner.run(stack.start())
            runner.run(stack.runtime_ready())
            assert stack.postgres is not None
            made = Server(stack, settings, stack.postgres, runner)
            _furnish(made)
            yield made
        finally:
            stack.stop()
            if not request.session.testsfailed:
                rmtree(folder, ignore_errors=True)


def _furnish(server: Server) -> None:
    for database in (SOURCE, TARGET):
        server.run(server.postgres.ensure_database(database))
    source: JsonObject = {
        "source_name": "bench-source",
        "kind": "postgres",
        "connection_config": place(server.postgres, SOURCE),
    }
    target: JsonObject = {
        "destination_name": "bench-target",
        "kind": "postgres",
        "connection_config": place(server.postgres, TARGET),
    }

    async def save(client: Client) -> None:
        await client.save(Entry(EntryKind.SOURCE, source))
        await client.save(Entry(EntryKind.DESTINATION, target))

    server.speak(save)


def step(name: str, kind: str, config: JsonObject, *inputs: str, **more: bool) -> JsonObject:
    """A step of the explicit form."""
    return {"name": name, "type": kind, "depends_on": list(inputs), "config": config, **more}


def transform(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    """A transform step."""
    return step(name, "transform", {"type": kind, "config": config}, *inputs)


def pipeline(name: str, *steps: JsonObject) -> JsonObject:
    """An ETL pipeline in the explicit form."""
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": list(steps)}
