"""Ray actors: thin shells that give a supervisor and a dispatcher a process, connections and a heartbeat."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import ray
from ray.exceptions import RayActorError

from models.errors import DomainError, Invalid, RunError, Unavailable
from runtime import collector
from runtime.access.principal import Principal
from runtime.bus import ALL_CONTROL, Bus
from runtime.cluster.dispatcher import Dispatcher, SupervisorHandle, SupervisorLost
from runtime.cluster.executor import RayExecutor
from runtime.cluster.pool import Pool
from runtime.cluster.tasks import run_work
from runtime.cluster.worker import process_settings
from runtime.database import Database, Transactions
from runtime.executions.assignments import Plans, Taken, hold_to_refuse, left_open, refuse_hopeless, take
from runtime.executions.checkpoints import Shelf
from runtime.executions.endings import refusal
from runtime.executions.entries import ENDINGS, left_entries, summary_of
from runtime.executions.journal import AWAY_SECONDS, Entry, Fenced, Holding, Journal, Pace
from runtime.executions.keeper import Keeper, Keeps, SavingExecutor
from runtime.executions.logs import LogFile
from runtime.executions.program import Progress
from runtime.executions.supervisor import Clock, Supervisor, assigned, utc_now
from runtime.queue.store import Claim
from runtime.schedules.ticker import Ticker
from runtime.settings import Settings

log = logging.getLogger(__name__)
RUNTIME = Principal.runtime()
SATURATED_PERCENT = 90.0


class SupervisorHost:
    """Supervises one execution at a time, then goes back to the pool."""

    def __init__(
        self,
        settings: Settings,
        database: Transactions,
        bus: Bus,
        executor: SavingExecutor,
        plans: Plans,
        clock: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._executor = executor
        self._plans = plans
        self._clock = clock
        self.shelves: Callable[[Path, UUID], Shelf] = Shelf
        self._current: Supervisor | None = None
        self._listener: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Answer once the process is up and its first connection made."""
        async with self._database.statements(RUNTIME):
            self._listener = self._listener or asyncio.create_task(self._listen())

    async def run(self, claim: Claim) -> None:
        """Supervise the execution of a claim to its end; one that somebody newer holds is let go silently."""
        try:
            taken = await self._take(claim)
        except (Invalid, RunError) as error:
            await self._refuse(claim, error)
            return
        if taken is not None:
            await self._supervise(taken)

    async def _take(self, claim: Claim) -> Taken | None:
        """Take the execution in hand, once the database is there."""
        while True:
            try:
                async with self._database.statements(RUNTIME) as session:
                    await refuse_hopeless(session, claim)
                    return await take(session, claim, self._plans, self._settings.block_rows)
            except Unavailable as error:
                log.warning("execution %s waits to be taken: %s", claim.subject, error)
                await asyncio.sleep(AWAY_SECONDS)

    async def _refuse(self, claim: Claim, error: DomainError) -> None:
        """End an execution that cannot begin, with the reason, instead of leaving it to the next supervisor."""
        async with self._database.statements(RUNTIME) as session:
            holding = await hold_to_refuse(session, claim)
            left = [] if holding is None else await left_open(session, holding.execution_id)
        if holding is not None:
            journal = self._journal(holding)
            ending = refusal(error, self._clock())
            journal.record(*left_entries(left, ending.at))
            await journal.finish(ending, Entry(ENDINGS[ending.state], ending.at, summary_of(ending)))

    def _journal(self, holding: Holding) -> Journal:
        log = LogFile(self._settings.artifacts, holding.execution_id)
        pace = Pace(lease_seconds=self._settings.lease_seconds)
        return Journal(self._database, self._bus, holding, log, pace)

    async def _supervise(self, taken: Taken) -> None:
        supervisor = await self._supervisor(taken)
        if taken.cancelling:
            supervisor.cancel()
        self._current = supervisor
        try:
            await supervisor.supervise()
        except Fenced:
            log.warning("execution %s was taken over", taken.holding.execution_id)
        finally:
            self._current = None
            await supervisor.crew.cleared()

    async def _supervisor(self, taken: Taken) -> Supervisor:
        shelf = self.shelves(self._settings.artifacts, taken.holding.execution_id)
        assignment = await asyncio.to_thread(assigned, taken, shelf)
        keeps = Keeps.of(taken.plan, dry_run=taken.context.dry_run)
        keeper = Keeper(self._executor.save, shelf, keeps, taken.holding.generation)
        return Supervisor(assignment, self._executor, self._journal(taken.holding), keeper, self._clock)

    async def _listen(self) -> None:
        """One subscription for the life of the process: whatever is told, the next beat comes at once."""
        async for topic in self._bus.wakeups(ALL_CONTROL, every=60.0):
            if topic is not None and self._current is not None:
                self._current.look()


class ExecutionSupervisor(SupervisorHost):
    """A supervisor with a process of its own, whose tasks Ray runs."""

    def __init__(self) -> None:
        settings = process_settings()
        database = Database(settings.require_database_url(), pool_size=2, name="wedsync-supervisor")
        self._ray = RayExecutor(ray.get_runtime_context().get_actor_name() or "")
        super().__init__(settings, database, Bus(settings.redis_url), self._ray, Plans())

    async def ready(self) -> None:
        """Answer once the process is up and its first connection made; what it loaded is never looked through again."""
        await super().ready()
        collector.settle()

    async def lives(self) -> None:
        """Never answer: who asks hears when the process has died."""
        await asyncio.Event().wait()

    async def progress(self, key: str, progress: Progress) -> None:
        """Hear from a worker how far a task is."""
        self._ray.progress(key, progress)


# Spread, so that a node that dies takes as few of them with it as may be. The pool replaces one that died: were Ray to
# restart it, its death would be told a second later, and a process begun that nobody wants.
SupervisorActor = ray.remote(num_cpus=0, max_restarts=0, scheduling_strategy="SPREAD")(ExecutionSupervisor)


class _Remote(SupervisorHandle):
    """A supervisor actor as the dispatcher's pool holds it."""

    def __init__(self) -> None:
        self.actor: Any = SupervisorActor.options(name=f"supervisor:{uuid4().hex}").remote()
        # Asked before all else: the title of its process, and Ray's dashboard, tell what it was asked last.
        self._life: Any = _life_of(self.actor)

    async def run(self, claim: Claim) -> None:
        """Supervise one execution."""
        with _losing():
            await self.actor.run.remote(claim)

    async def lives(self) -> None:
        """Wait until its process has died."""
        with suppress(RayActorError):
            await self._life

    @classmethod
    async def make(cls) -> SupervisorHandle:
        """A new supervisor, ready; raises `SupervisorLost` when it has died before, with its node perhaps."""
        remote = cls()
        with _losing():
            await remote.actor.ready.remote()
        return remote

    def end(self) -> None:
        """Kill the actor."""
        ray.kill(self.actor, no_restart=True)


def _life_of(actor: Any) -> Any:
    return actor.lives.remote()


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except RayActorError as error:
        raise SupervisorLost(str(error).splitlines()[0]) from error


def _has_room() -> bool:
    """Whether this machine was partly idle since the last call; other nodes have processors of their own."""
    share = psutil.cpu_percent()
    return share < SATURATED_PERCENT or len(ray.nodes()) > 1  # type: ignore[no-untyped-call]


class _Tasks:
    """Other work, each item a Ray task."""

    def run(self, claim: Claim) -> Awaitable[None]:
        """Do one item in a worker."""
        return run_work.remote(claim)


class DispatcherProcess:
    """A dispatcher with a process of its own, restarted by Ray when it dies; beside it, a scheduler stands by.

    A process that has begun takes over at once, one that is only to begin after seconds of imports.
    """

    def __init__(self) -> None:
        settings = process_settings()
        database = Database(settings.require_database_url(), pool_size=3, name="wedsync-dispatcher")
        bus = Bus(settings.redis_url)
        self._pool: Pool[SupervisorHandle] = Pool(
            _Remote.make,
            least=settings.supervisors_min,
            most=settings.supervisors_max,
            has_room=_has_room,
        )
        self._dispatcher = Dispatcher(settings, database, bus, self._pool, _Tasks())
        self._ticker = Ticker(settings, database, bus, stands_by=True)

    async def run(self) -> None:
        """Dispatch until stopped."""
        collector.settle()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._dispatcher.run())
            group.create_task(self._ticker.run())

    async def stop(self) -> None:
        """Claim nothing more, give back what runs for another dispatcher to hand out, and end the pool."""
        self._dispatcher.close()
        self._ticker.close()
        await asyncio.gather(self._dispatcher.ended(), self._ticker.ended())
        self._pool.close()


DispatcherActor = ray.remote(num_cpus=0, max_restarts=-1)(DispatcherProcess)
