"""What a worker process keeps between tasks: its engine, its database connection, and opened configurations."""

import asyncio
import threading
from collections.abc import Coroutine
from functools import lru_cache
from typing import TypeVar
from uuid import UUID

from models.base import StrictModel
from runtime import collector
from runtime.access.principal import Principal
from runtime.access.sealing import Sealer, sealer_of
from runtime.batches.engine import Engine, EngineLimits
from runtime.cluster.confinement import Confinement
from runtime.connectors._contract import DESTINATIONS, SOURCES, Destination, Source, Target
from runtime.connectors.opening import OpenedDestination, OpenedSource, open_destination, open_source
from runtime.connectors.paces import Paces
from runtime.connectors.permits import Permits
from runtime.database import Database
from runtime.executions.steps import Worker
from runtime.pipelines.plan import LoadPlan
from runtime.settings import Settings

R = TypeVar("R")
RUNTIME = Principal.runtime()
ANSWER_SECONDS = 30.0


class Background:
    """An event loop in a thread of its own, for the asynchronous parts that a synchronous task needs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="background", daemon=True).start()

    def wait(self, work: Coroutine[object, object, R], timeout: float = ANSWER_SECONDS) -> R:
        """Run it there and wait for its result; raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)


class StoredConnections:
    """Opens sources and destinations from their rows; a configuration is read and unsealed once per revision.

    What is switched off is refused (`Terminal`, `inactive`); switching it off makes a new revision, so none that is
    cached hides it from an execution that begins later.
    """

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        background: Background,
        permits: Permits | None = None,
        paces: Paces | None = None,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._background = background
        self._permits = permits or Permits()
        self._paces = paces or Paces()
        self._sources: dict[UUID, tuple[str, OpenedSource]] = {}
        self._destinations: dict[UUID, tuple[str, OpenedDestination]] = {}

    def source(self, source: UUID, revision: str) -> Source[StrictModel]:
        """The source, opened; the caller closes it."""
        cached = self._sources.get(source)
        if cached is None or cached[0] != revision:
            cached = (revision, self._background.wait(self._read_source(source)))
            self._sources[source] = cached
        opened = cached[1]
        return self._paces.set(SOURCES.get(opened.kind)(self._permits.applied(opened.config)), source)

    def destination(self, destination: UUID, revision: str, load: LoadPlan) -> tuple[Destination[StrictModel], Target]:
        """The destination, opened, and where and how the load writes there; the caller closes it."""
        cached = self._destinations.get(destination)
        if cached is None or cached[0] != revision:
            cached = (revision, self._background.wait(self._read_destination(destination)))
            self._destinations[destination] = cached
        opened = cached[1]
        target = Target(
            table=load.table,
            write_mode=load.write_mode,
            key_columns=load.key_columns,
            partition_by=load.partition_by,
            partition=opened.partition,
            indexing=opened.indexing,
            backup=opened.backup,
            options=load.options,
        )
        return DESTINATIONS.get(opened.kind)(self._permits.applied(opened.config)), target

    async def _read_source(self, source: UUID) -> OpenedSource:
        async with self._database.transaction(RUNTIME) as session:
            opened = await open_source(session, self._sealer, source)
        opened.require_active()
        return opened

    async def _read_destination(self, destination: UUID) -> OpenedDestination:
        async with self._database.transaction(RUNTIME) as session:
            opened = await open_destination(session, self._sealer, destination)
        opened.require_active()
        return opened


@lru_cache(maxsize=1)
def process_settings() -> Settings:
    """This process's settings, from the environment it was started with."""
    return Settings.load()


@lru_cache(maxsize=1)
def process_background() -> Background:
    """This process's event loop for asynchronous parts."""
    return Background()


@lru_cache(maxsize=1)
def process_database() -> Database:
    """This process's small pool of connections."""
    return Database(process_settings().require_database_url(), pool_size=1, name="wedsync-worker")


@lru_cache(maxsize=1)
def process_sealer() -> Sealer:
    """What opens the configurations that this process reads."""
    return sealer_of(process_settings())


@lru_cache(maxsize=1)
def process_paces() -> Paces:
    """The paces that this process keeps to with all others."""
    return Paces(process_settings().redis_url)


@lru_cache(maxsize=1)
def process_worker() -> Worker:
    """This process's engine and connections, made by its first task."""
    settings = process_settings()
    limits = EngineLimits(
        threads=settings.engine_threads,
        memory_mb=settings.engine_memory_mb,
        spill_folder=settings.home.resolve() / "spill",
    )
    database, sealer, background = process_database(), process_sealer(), process_background()
    connections = StoredConnections(database, sealer, background, Permits.of(settings), process_paces())
    worker = Worker(connections, Engine(limits))
    collector.settle()
    return worker


@lru_cache(maxsize=1)
def process_confinement() -> Confinement:
    """What keeps this process's tasks to their resources."""
    return Confinement(process_worker())
