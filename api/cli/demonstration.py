"""The demo wedding platform beside a running server: its data, its sources and pipelines, and running them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.client import Client, Event, Execution
from models.errors import Unavailable
from runtime.demo.blueprint import Blueprint
from runtime.demo.definitions import Connections, demo_destinations, demo_pipelines, demo_sources
from runtime.demo.platform import DemoPlatform
from runtime.embedded.postgres import EmbeddedPostgres
from runtime.embedded.stack import Stack

APP, WAREHOUSE, LOGIN = "wedding_app", "wedding_warehouse", "wedding"
FOLDER = "demo"
WORKER_SECONDS = 120.0

Watcher = Callable[[str, Event], None]
"""Called with a pipeline's name and each event of its execution."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A demo platform that is there, and the client that speaks for it."""

    client: Client
    platform: DemoPlatform
    connections: Connections

    @property
    def pipelines(self) -> list[str]:
        """The names of its pipelines, in the order in which they were written to be read."""
        return [str(entry.document["pipeline_name"]) for entry in demo_pipelines()]

    async def define(self) -> None:
        """Save sources and destinations, discover what is in the sources, save the pipelines. Needs the runtime."""
        sources = demo_sources(self.connections)
        for entry in (*sources, *demo_destinations(self.connections)):
            await self.client.save(entry)
        names = [str(entry.document["source_name"]) for entry in sources]
        await asyncio.gather(*(self._discover(name) for name in names))
        for entry in demo_pipelines():
            await self.client.save(entry)

    async def _discover(self, name: str) -> None:
        """Once more while no worker is free: on a small machine the first ones take long to start."""
        end = time.monotonic() + WORKER_SECONDS
        while True:
            try:
                await self.client.discover_source(name)
                return
            except Unavailable as error:
                if error.specific_code != "runtime_unavailable" or time.monotonic() > end:
                    raise

    async def run(self, watcher: Watcher) -> list[Execution]:
        """Run all pipelines at once, to the end of the last."""
        return list(await asyncio.gather(*(self._run(name, watcher) for name in self.pipelines)))

    async def _run(self, name: str, watcher: Watcher) -> Execution:
        execution = await self.client.execute(name)
        async for event in self.client.events(execution.id):
            watcher(name, event)
        return await self.client.execution(execution.id)


@asynccontextmanager
async def prepared(stack: Stack, blueprint: Blueprint | None = None) -> AsyncIterator[Demonstration]:
    """The platform's data made, and its vendor API served while the block lasts.

    Its databases are on the embedded PostgreSQL, which is started for them where the server itself uses another.
    """
    async with AsyncExitStack() as exits:
        postgres = stack.postgres
        if postgres is None:
            postgres = await asyncio.to_thread(EmbeddedPostgres(stack.home.postgres).start)
            exits.callback(postgres.stop)
        for database in (APP, WAREHOUSE):
            await postgres.ensure_database(database, LOGIN)
        folder = stack.home.path / FOLDER
        platform = await DemoPlatform.prepare(folder, postgres.libpq_uri(APP, LOGIN), blueprint)
        vendor_api = await exits.enter_async_context(platform.serve())
        connections = platform.connections(vendor_api, postgres.libpq_uri(WAREHOUSE, LOGIN))
        settings = stack.settings.model_copy(update={"url": stack.addresses.api_url, "token": None})
        client = await exits.enter_async_context(Client.of_home(settings))
        yield Demonstration(client, platform, connections)
