"""Everything a home needs to run: PostgreSQL, Valkey, the runtime on Ray and the API, started in the right order."""

import asyncio
import os
import socket
import time
from dataclasses import dataclass

import httpx

from models.errors import DomainError, Unavailable
from models.migrations.run import migrate
from runtime.embedded.home import Home, Running
from runtime.embedded.postgres import EmbeddedPostgres
from runtime.embedded.processes import Child
from runtime.embedded.valkey import EmbeddedValkey
from runtime.settings import Settings

METADATA = "wedsync"
START_SECONDS = 60.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts are."""

    database_url: str
    owner_url: str
    redis_url: str
    api_url: str


class Stack:
    """The parts of one home. `start` returns when the API answers; the runtime may still be starting then."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self.postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._children: list[Child] = []

    async def start(self) -> Addresses:
        """Start what the settings do not name an address for; raises typed errors that say what failed."""
        self.home.acquire()
        try:
            return await self._start()
        except BaseException:
            self.stop()
            raise

    async def _start(self) -> Addresses:
        settings = self.settings
        if settings.database_url is None:
            self.postgres = EmbeddedPostgres(self.home.postgres)
        addresses = self._addresses()
        environment = self._environment(addresses)
        api = self._child("api", ["api"], environment)
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.start)
            await self.postgres.ensure_database(METADATA)
        await migrate(addresses.owner_url)
        self._child("runtime", ["runtime.cluster"], environment)
        await self._answers(f"{addresses.api_url}/readyz", api)
        url, owner = addresses.database_url, addresses.owner_url
        self.home.announce(Running(addresses.api_url, os.getpid(), url, owner, addresses.redis_url))
        return addresses

    def _addresses(self) -> Addresses:
        settings = self.settings
        redis_url = settings.redis_url
        if redis_url is None:
            self._valkey = EmbeddedValkey().start()
            redis_url = self._valkey.url
        port = settings.port or _free_port()
        database_url = settings.database_url or (self.postgres.url(METADATA) if self.postgres else "")
        owner_url = settings.owner_url or (self.postgres.owner_url(METADATA) if self.postgres else database_url)
        return Addresses(database_url, owner_url, redis_url, f"http://{settings.host}:{port}")

    def _environment(self, addresses: Addresses) -> dict[str, str]:
        host, _, port = addresses.api_url.removeprefix("http://").rpartition(":")
        return {
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "WEDSYNC_HOME": str(self.home.path),
            "WEDSYNC_HOST": host,
            "WEDSYNC_PORT": port,
            "PYTHONUNBUFFERED": "1",
        }

    def _child(self, name: str, module: list[str], environment: dict[str, str]) -> Child:
        child = Child(name, module, environment, self.home.logs)
        self._children.append(child)
        return child

    async def _answers(self, url: str, child: Child) -> None:
        """Wait until a probe answers 200; raises `Unavailable` with the process's log when it does not."""
        end = time.monotonic() + START_SECONDS
        async with httpx.AsyncClient(timeout=2.0) as client:
            while time.monotonic() < end:
                for started in self._children:
                    started.require()
                try:
                    if (await client.get(url)).status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(POLL_SECONDS)
        raise Unavailable(f"{url} did not answer within {START_SECONDS:g} s", hint=f"its log is {child.log}")

    async def runtime_ready(self) -> None:
        """Wait until executions can run."""
        runtime = self._children[-1]
        await self._answers(f"{self._addresses_url()}/readyz/runtime", runtime)

    def _addresses_url(self) -> str:
        return self.home.running().url

    def check(self) -> None:
        """Raise `Unavailable` when a part has ended by itself."""
        for child in self._children:
            child.require()

    def stop(self) -> None:
        """Stop everything that was started here, in the reverse order; what fails to stop does not keep the rest."""
        failures: list[Exception] = []
        for child in reversed(self._children):
            try:
                child.stop()
            except (OSError, DomainError) as error:
                failures.append(error)
        self._children.clear()
        for server in (self._valkey, self.postgres):
            if server is not None:
                server.stop()
        self.home.release()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
