"""The world of the chaos suite: the whole program in a home of its own, with a fault proxy on its links."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Final, TypeAlias

import asyncpg
import psutil

from api.client import Client
from models.access import Role
from runtime.embedded.guard import Guard
from runtime.embedded.postgres import EmbeddedPostgres
from runtime.embedded.stack import METADATA, RUNTIME, Stack
from runtime.embedded.valkey import EmbeddedValkey
from runtime.settings import Settings
from tests.chaos.disks import small_disks
from tests.chaos.nodes import Cluster, cluster_of
from tests.kit.faults import LOOPBACK, FaultProxy, proxied, to_socket
from tests.kit.graphql import settings_of

POSTGRES_SOCKET: Final = ".s.PGSQL.5432"
DATA: Final = "chaos"
MEND_SECONDS: Final = 0.2
SUPERVISORS: Final = 4
Links: TypeAlias = tuple[FaultProxy, FaultProxy, FaultProxy]
SUPERVISOR: Final = "ExecutionSupervisor"
DISPATCHER: Final = "DispatcherProcess"


@dataclass
class World:
    """A running program. Its servers are the world's own, so that they can be taken away and brought back."""

    stack: Stack
    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    guard: Guard
    metadata: FaultProxy
    data: FaultProxy
    wakeups: FaultProxy
    cluster: Cluster

    @property
    def lease_seconds(self) -> float:
        """How long a silent holder keeps what it claimed."""
        return self.stack.settings.lease_seconds

    def client(self) -> Client:
        """A client who may do everything an engineer may."""
        settings = self.stack.settings.model_copy(update={"url": self.stack.addresses.api_url})
        return Client.of_home(settings, Role.DATA_ENGINEER)

    @asynccontextmanager
    async def connect(self, database: str = METADATA) -> AsyncIterator[asyncpg.Connection]:
        """A superuser's connection past the proxies; a server that is away is waited for."""
        made = await self._connected(database)
        try:
            yield made
        finally:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await made.close(timeout=5)

    async def _connected(self, database: str) -> asyncpg.Connection:
        end = monotonic() + 60
        while True:
            try:
                return await asyncpg.connect(host=str(self.postgres.folder), user="postgres", database=database)
            except (OSError, asyncpg.PostgresError):
                if monotonic() > end:
                    raise
                await asyncio.to_thread(self.postgres.start)

    async def rows(self, query: str, *given: object, database: str = METADATA) -> list[asyncpg.Record]:
        """The rows of a query, as the superuser."""
        async with self.connect(database) as connection:
            return list(await connection.fetch(query, *given))

    async def stop_postgres(self, how: signal.Signals) -> datetime:
        """Stop PostgreSQL: SIGINT is fast, SIGQUIT immediate, SIGKILL a crash. Answers when it was gone."""
        server = psutil.Process(self.postgres.pid)
        server.send_signal(how)
        await asyncio.to_thread(psutil.wait_procs, [server], 30)
        return now()

    async def start_postgres(self) -> datetime:
        """Start PostgreSQL again; answers when it took connections."""
        async with self.connect():
            assert self.postgres.pid is not None
            self.guard.end(self.postgres.pid, signal.SIGINT, last=True)
            return now()

    def runtime(self) -> psutil.Process:
        """The process that starts Ray."""
        return psutil.Process(self.stack.parts.pid(RUNTIME))

    def api(self) -> psutil.Process:
        """The process that listens."""
        return psutil.Process(self.stack.parts.pid("api"))

    def ray(self) -> Iterator[tuple[psutil.Process, str]]:
        """What the runtime or a node started, each with its title; workers change theirs with what they run."""
        there = self.runtime().children(recursive=True)
        for process in [*there, *self.cluster.processes()]:
            with suppress(psutil.Error):
                yield process, " ".join(process.cmdline())

    def supervisors(self, *, busy: bool | None = None) -> list[psutil.Process]:
        """The supervisors of executions: those that supervise now, those that do not, or both."""
        found = [(process, title) for process, title in self.ray() if title.startswith(f"ray::{SUPERVISOR}")]
        return [process for process, title in found if busy is None or (f"{SUPERVISOR}.run" in title) is busy]

    def dispatcher(self) -> psutil.Process:
        """The process that claims work."""
        return next(process for process, title in self.ray() if title.startswith(f"ray::{DISPATCHER}"))

    def workers(self) -> list[psutil.Process]:
        """The processes that run a step now."""
        return [process for process, title in self.ray() if task_of(title)]

    def part(self, name: str) -> psutil.Process:
        """A process of Ray itself: `raylet` or `gcs_server`."""
        return next(process for process, _ in self.ray() if process.name() == name)


def task_of(title: str) -> str:
    """The task that a worker's title names, as `ray::task:phase`; empty for others."""
    name, _, phase = title.removeprefix("ray::").partition(":")
    return name if title.startswith("ray::") and phase and SUPERVISOR not in name else ""


def now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


@asynccontextmanager
async def world(lease_seconds: float, nodes: int = 0, disk_mb: int = 0) -> AsyncIterator[World]:
    """The world, up and ready; all of its processes end with it, also when this one is killed.

    Its Ray is a local one, or a cluster of so many nodes; it lies on a small disk of its own if one is asked for.
    """
    folder = Path(tempfile.mkdtemp(prefix="wedsync-chaos-"))
    await asyncio.to_thread(folder.chmod, 0o755)
    guard = Guard()
    guard.remove(folder)
    try:
        with small_disks(folder, disk_mb):
            async with _servers(folder, guard) as (postgres, valkey), _links(postgres, valkey) as links:
                settings = _settings(folder / "home", postgres, links, lease_seconds)
                empty = Cluster(folder / "ray", settings.variables(), guard)
                async with cluster_of(nodes, empty) as cluster:
                    given = {"ray_address": cluster.address}
                    async with _running(Stack(settings.model_copy(update=given))) as stack:
                        yield World(stack, folder, postgres, valkey, guard, *links, cluster)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _servers(folder: Path, guard: Guard) -> AsyncIterator[tuple[EmbeddedPostgres, EmbeddedValkey]]:
    postgres, valkey = EmbeddedPostgres(folder / "home" / "postgres"), EmbeddedValkey()
    guard.remove(valkey.folder)
    try:
        await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
        for pid, how in ((postgres.pid, signal.SIGINT), (valkey.pid, signal.SIGTERM)):
            assert pid is not None
            guard.end(pid, how, last=True)
        for database in (METADATA, DATA):
            await postgres.ensure_database(database)
        yield postgres, valkey
    finally:
        await asyncio.to_thread(_end, postgres, valkey, guard)


@asynccontextmanager
async def _links(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> AsyncIterator[Links]:
    """To the metadata database, to that of the data, and to the wake-ups."""
    server, cache = to_socket(postgres.folder / POSTGRES_SOCKET), to_socket(valkey.folder / "socket")
    async with proxied(server) as metadata, proxied(server) as data, proxied(cache) as wakeups:
        yield metadata, data, wakeups


def _settings(home: Path, postgres: EmbeddedPostgres, links: Links, lease_seconds: float) -> Settings:
    metadata, _, wakeups = links
    return settings_of(
        home,
        port=0,
        ray_dashboard=False,
        lease_seconds=lease_seconds,
        supervisors_min=SUPERVISORS,
        database_url=f"postgresql+asyncpg://wedsync_app@{LOOPBACK}:{metadata.port}/{METADATA}",
        owner_url=postgres.owner_url(METADATA),
        redis_url=f"redis://{LOOPBACK}:{wakeups.port}",
    )


@asynccontextmanager
async def _running(stack: Stack) -> AsyncIterator[Stack]:
    """The stack's parts, started again whenever they end, as `wedsync up` does."""
    await stack.start()
    mending = asyncio.create_task(_mend(stack))
    try:
        await stack.runtime_ready()
        yield stack
        if mending.done():
            mending.result()
    finally:
        mending.cancel()
        await asyncio.gather(mending, return_exceptions=True)
        await asyncio.to_thread(stack.stop)


async def _mend(stack: Stack) -> None:
    never = asyncio.Event()
    while True:
        await stack.mend()
        with suppress(TimeoutError):
            async with asyncio.timeout(MEND_SECONDS):
                await never.wait()


def _end(postgres: EmbeddedPostgres, valkey: EmbeddedValkey, guard: Guard) -> None:
    for stop in (valkey.stop, postgres.stop, guard.close):
        with suppress(Exception):
            stop()
