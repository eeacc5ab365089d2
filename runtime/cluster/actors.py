"""Ray actors: thin shells that give a supervisor and a dispatcher a process, connections and a heartbeat."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import psutil
import ray
from ray.exceptions import RayActorError
from sqlalchemy import text

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
from runtime.executions.assignments import Plans, Taken, hold_to_refuse, refuse_hopeless, take
from runtime.executions.endings import refusal
from runtime.executions.entries import ENDINGS, summary_of
from runtime.executions.executor import Executor
from runtime.executions.journal import Entry, Fenced, Holding, Journal
from runtime.executions.logs import LogFile
from runtime.executions.program import Progress
from runtime.executions.supervisor import Assignment, Clock, Supervisor, utc_now
from runtime.queue.store import Claim
from runtime.settings import Settings

log = logging.getLogger(__name__)
RUNTIME = Principal.runtime()
HEARTBEAT_SECONDS = 1.0
SATURATED_PERCENT = 90.0

_BEAT = text("""
    UPDATE work_items SET lease_expires_at = now() + make_interval(secs => :lease_seconds)
    WHERE id = :work_id AND generation = :generation AND state = 'claimed'
    RETURNING (SELECT cancel_requested_at IS NOT NULL FROM pipeline_executions WHERE id = :id) AS cancelling
""")


class SupervisorHost:
    """Supervises one execution at a time, then goes back to the pool."""

    def __init__(
        self,
        settings: Settings,
        database: Transactions,
        bus: Bus,
        executor: Executor,
        plans: Plans,
        clock: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._database = database
        self._bus = bus
        self._executor = executor
        self._plans = plans
        self._clock = clock
        self._control = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Answer once the process is up and its first connection made."""
        async with self._database.statements(RUNTIME):
            self._listener = self._listener or asyncio.create_task(self._listen())

    async def run(self, claim: Claim) -> None:
        """Supervise the execution of a claim to its end; one that somebody newer holds is let go silently."""
        try:
            refuse_hopeless(claim)
            async with self._database.statements(RUNTIME) as session:
                taken = await take(session, claim, self._plans, self._settings.block_rows)
        except (Invalid, RunError) as error:
            await self._refuse(claim, error)
            return
        if taken is not None:
            await self._supervise(taken)

    async def _refuse(self, claim: Claim, error: DomainError) -> None:
        """End an execution that cannot begin, with the reason, instead of leaving it to the next supervisor."""
        async with self._database.statements(RUNTIME) as session:
            holding = await hold_to_refuse(session, claim)
        if holding is not None:
            journal = Journal(self._database, self._bus, holding, self._log_of(holding))
            ending = refusal(error, self._clock())
            await journal.finish(ending, Entry(ENDINGS[ending.state], ending.at, summary_of(ending)))

    def _log_of(self, holding: Holding) -> LogFile:
        return LogFile(self._settings.artifacts, holding.execution_id)

    async def _supervise(self, taken: Taken) -> None:
        journal = Journal(self._database, self._bus, taken.holding, self._log_of(taken.holding))
        supervisor = self._supervisor(taken, journal)
        if taken.cancelling:
            supervisor.cancel()
        heart = asyncio.create_task(self._beat(supervisor, taken.holding))
        work = asyncio.create_task(supervisor.supervise())
        try:
            await asyncio.wait([heart, work], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
            await work
        except (Fenced, asyncio.CancelledError):
            log.warning("execution %s was taken over", taken.holding.execution_id)
        finally:
            heart.cancel()
            await supervisor.crew.cleared()

    def _supervisor(self, taken: Taken, journal: Journal) -> Supervisor:
        assignment = Assignment(taken.plan, taken.programs, taken.context, taken.accepted_at, taken.lower)
        return Supervisor(assignment, self._executor, journal, self._clock)

    async def _beat(self, supervisor: Supervisor, holding: Holding) -> None:
        """Renew the lease and hear of cancels; ends when the execution is no longer ours."""
        parameters = {
            "work_id": holding.work_id,
            "generation": holding.generation,
            "id": holding.execution_id,
            "lease_seconds": self._settings.lease_seconds,
        }
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._control.wait()
            self._control.clear()
            try:
                async with self._database.statements(RUNTIME) as session:
                    row = (await session.execute(_BEAT, parameters)).first()
            except Unavailable:
                continue
            if row is None:
                return
            if row.cancelling:
                supervisor.cancel()

    async def _listen(self) -> None:
        """One subscription for the life of the process: whatever is told, the next beat comes at once."""
        async for topic in self._bus.wakeups(ALL_CONTROL, every=60.0):
            if topic is not None:
                self._control.set()


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

    async def progress(self, key: str, progress: Progress) -> None:
        """Hear from a worker how far a task is."""
        self._ray.progress(key, progress)


SupervisorActor = ray.remote(num_cpus=0, max_restarts=-1)(ExecutionSupervisor)


class _Remote(SupervisorHandle):
    """A supervisor actor as the dispatcher's pool holds it."""

    def __init__(self) -> None:
        self.actor: Any = SupervisorActor.options(name=f"supervisor:{uuid4().hex}").remote()

    async def run(self, claim: Claim) -> None:
        """Supervise one execution."""
        try:
            await self.actor.run.remote(claim)
        except RayActorError as error:
            raise SupervisorLost(str(error).splitlines()[0]) from error

    @classmethod
    async def make(cls) -> SupervisorHandle:
        """A new supervisor, ready."""
        remote = cls()
        await remote.actor.ready.remote()
        return remote

    def end(self) -> None:
        """Kill the actor."""
        ray.kill(self.actor, no_restart=True)


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
    """A dispatcher with a process of its own; restarted by Ray when it dies, and found again by its name."""

    def __init__(self) -> None:
        settings = process_settings()
        database = Database(settings.require_database_url(), pool_size=2, name="wedsync-dispatcher")
        self._pool: Pool[SupervisorHandle] = Pool(
            _Remote.make,
            SupervisorHandle.end,
            least=settings.supervisors_min,
            most=settings.supervisors_max,
            has_room=_has_room,
        )
        self._dispatcher = Dispatcher(settings, database, Bus(settings.redis_url), self._pool, _Tasks())

    async def run(self) -> None:
        """Dispatch until stopped."""
        collector.settle()
        await self._dispatcher.run()

    async def stop(self) -> None:
        """Claim nothing more, give back what runs for another dispatcher to hand out, and end the pool."""
        self._dispatcher.close()
        await self._dispatcher.ended()
        self._pool.close()


DispatcherActor = ray.remote(num_cpus=0, max_restarts=-1)(DispatcherProcess)
