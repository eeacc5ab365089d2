"""Everything a home needs to run: PostgreSQL, Valkey, the runtime on Ray and the API, started in the right order."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import httpx

from models.errors import Conflict, Unavailable
from models.migrations.run import migrate
from runtime.embedded.guard import Guard
from runtime.embedded.home import Home, Running
from runtime.embedded.parts import Parts
from runtime.embedded.postgres import EmbeddedPostgres
from runtime.embedded.processes import Child, early_api
from runtime.embedded.valkey import EmbeddedValkey
from runtime.settings import Settings

log = logging.getLogger(__name__)

METADATA = "wedsync"
RUNTIME = "runtime"
API = "api"
START_SECONDS = 60.0
RUNTIME_SECONDS = 180.0
POLL_SECONDS = 0.03
AGAIN_SECONDS = 0.5

# Those of an earlier runtime of this home, which would pass for live until their leases lapse. What they held is taken
# over at once; whoever of them still writes is fenced off.
_FORGET_RUNTIME = """
    WITH gone AS (DELETE FROM leases WHERE name LIKE 'dispatcher:%' OR name = 'scheduler')
    UPDATE work_items SET lease_expires_at = now() WHERE state = 'claimed'
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the parts are."""

    database_url: str
    owner_url: str
    redis_url: str
    api_url: str


class Stack:
    """The parts of one home. `start` returns when the API answers; the runtime may still be starting then.

    What the settings name an address for is used from there, what they do not is started here. To be started on the
    main thread, which the processes end with. `api` is the API's process where it was made before; `told` hears of
    each part that ended by itself and was started again.
    """

    def __init__(self, settings: Settings, api: Child | None = None, told: Callable[[str], None] = log.warning) -> None:
        self.settings = settings
        self._told = told
        self._api = api
        self.home = Home(settings.home)
        self.postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._guard: Guard | None = None
        self._parts: Parts | None = None
        self._mending = asyncio.Lock()
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Where the parts of the started stack are."""
        if self._addresses is None:
            raise Unavailable("the server has not started", hint="call `start` first")
        return self._addresses

    @property
    def parts(self) -> Parts:
        """The processes of the started stack."""
        if self._parts is None:
            raise Unavailable("the server has not started", hint="call `start` first")
        return self._parts

    async def start(self) -> Addresses:
        """Start everything; raises typed errors that say what failed, and leaves nothing running then."""
        try:
            self.home.acquire()
            self._addresses = self._choose_addresses()
            await self._start(self._addresses)
        except BaseException:
            await asyncio.to_thread(self.stop)
            raise
        return self._addresses

    async def _start(self, addresses: Addresses) -> None:
        """The API is the first, as its imports take as long as all else; the runtime waits, to leave it the cores."""
        self._guard = Guard()
        self._parts = Parts(self._guard, spared=[API])
        self._run(self._api or early_api())
        await asyncio.gather(self._start_postgres(), self._start_valkey())
        await migrate(addresses.owner_url)
        await _forget_runtime(self.postgres)
        await self._answers("/readyz", START_SECONDS)
        self._run(Child(RUNTIME, "runtime.cluster"))
        running = Running(
            addresses.api_url, os.getpid(), addresses.database_url, addresses.owner_url, addresses.redis_url
        )
        self.home.announce(running)

    async def _start_postgres(self) -> None:
        if self.postgres is not None:
            await _to_its_end(self.postgres.start)
            self._guarded(self.postgres.pid, signal.SIGINT)
            await self.postgres.ensure_database(METADATA)

    async def _start_valkey(self) -> None:
        if self._valkey is not None:
            if self._guard is not None:
                self._guard.remove(self._valkey.folder)
            await _to_its_end(self._valkey.start)
            self._guarded(self._valkey.pid, signal.SIGTERM)

    def _guarded(self, pid: int | None, how: signal.Signals) -> None:
        if self._guard is not None and pid is not None:
            self._guard.end(pid, how, last=True)

    def _choose_addresses(self) -> Addresses:
        settings = self.settings
        port = _free_port(settings.host, settings.port)
        if settings.database_url is None:
            self.postgres = EmbeddedPostgres(self.home.postgres)
            database_url, owner_url = self.postgres.url(METADATA), self.postgres.owner_url(METADATA)
        else:
            database_url, owner_url = settings.database_url, settings.owner_url or settings.database_url
        if settings.redis_url is None:
            self._valkey = EmbeddedValkey()
        redis_url = settings.redis_url or (self._valkey.url if self._valkey else "")
        return Addresses(database_url, owner_url, redis_url, f"http://{settings.host}:{port}")

    def _run(self, child: Child) -> None:
        addresses = self.addresses
        environment = {
            **self.settings.variables(),
            "DATABASE_URL": addresses.database_url,
            "REDIS_URL": addresses.redis_url,
            "WEDSYNC_HOME": str(self.home.path),
            "WEDSYNC_PORT": addresses.api_url.rpartition(":")[2],
        }
        self.parts.begin(child, environment, self.home.logs)

    async def _answers(self, path: str, seconds: float) -> None:
        """Wait until a probe answers 200; raises `Unavailable` when it does not, or a part has ended."""
        end = time.monotonic() + seconds
        said = "nothing"
        async with httpx.AsyncClient(base_url=self.addresses.api_url, timeout=5.0, trust_env=False) as client:
            while time.monotonic() < end:
                await self.mend()
                try:
                    answer = await client.get(path)
                    if answer.status_code == httpx.codes.OK:
                        return
                    said = answer.text
                except httpx.HTTPError as error:
                    said = str(error) or type(error).__name__
                await asyncio.sleep(POLL_SECONDS)
        hint = f"see the logs in {self.home.logs}"
        raise Unavailable(f"{path} was not ready within {seconds:g} s: {said}", hint=hint)

    async def runtime_ready(self) -> None:
        """Wait until executions can run; raises `Unavailable` when the runtime does not get there."""
        await self._answers("/readyz/runtime", RUNTIME_SECONDS)

    async def mend(self) -> None:
        """Start again the parts that have ended by themselves; raises `Unavailable` for one that will not stay."""
        async with self._mending:
            if self.postgres is not None and not self.postgres.is_running:
                self._told("the embedded PostgreSQL has ended; it is started again")
                await _patiently(self._start_postgres)
            if self._valkey is not None and not self._valkey.is_running:
                self._told("the embedded Valkey has ended; it is started again")
                await _patiently(self._start_valkey)
            ended = self.parts.mend()
            if RUNTIME in ended:
                with suppress(OSError, asyncpg.PostgresError):
                    await _forget_runtime(self.postgres)
            for ending in ended.values():
                self._told(f"{ending}; it is started again")

    def stop(self) -> None:
        """Stop everything that was started here, servers last; what fails to stop does not keep the rest."""
        stops: list[Callable[[], None]] = [] if self._parts is None else self._parts.stops()
        if self._api is not None and self._parts is None:
            stops.append(self._api.stop)
        stops.extend(server.stop for server in (self._valkey, self.postgres) if server is not None)
        stops.extend([self._guard.close] if self._guard is not None else [])
        failures: list[Exception] = []
        for stop in stops:
            try:
                stop()
            except Exception as error:
                failures.append(error)
        self._parts = None
        self._guard = None
        self.home.release()
        if failures:
            raise Unavailable(f"a part did not stop: {failures[0]}", hint=f"see the logs in {self.home.logs}")


async def _forget_runtime(postgres: EmbeddedPostgres | None) -> None:
    if postgres is not None:
        await postgres.execute(METADATA, _FORGET_RUNTIME)


async def _patiently(start: Callable[[], Awaitable[None]]) -> None:
    """Start a server again: at first, what a killed one has left may be in the way."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return await start()
        except (Unavailable, OSError, asyncpg.PostgresError):
            if time.monotonic() > end:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


async def _to_its_end(start: Callable[[], object]) -> None:
    """Start a server on a thread; when cancelled, wait until it has started, so that it can be stopped."""
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        raise


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or for 0 one that is free; raises `Conflict` for a port that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            hint = "free it, choose another with --port, or take any free one with --port 0"
            raise Conflict(f"port {wanted} of {host} cannot be used: {error.strerror}", hint=hint) from error
        return int(probe.getsockname()[1])
