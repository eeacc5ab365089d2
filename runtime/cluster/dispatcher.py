"""Claims work from the queue and hands it out: executions to idle supervisors, the rest to workers."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol
from uuid import UUID, uuid4

from models.errors import DomainError, Unavailable
from runtime.access.principal import Principal
from runtime.bus import WORK, Bus, outcome_topic
from runtime.cluster.pool import Lost, Member, Pool
from runtime.cluster.upkeep import Upkeep
from runtime.database import Session, Transactions
from runtime.executions.logs import prune_logs
from runtime.executions.retention import keep_partitions, prune_checkpoints
from runtime.queue import leases
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from runtime.queue.store import Claim
from runtime.settings import Settings

log = logging.getLogger(__name__)

RUNTIME = Principal.runtime()
TICK_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
PRUNED_WORK = 1_000
PRUNED_LOGS = 1_000
OTHER_SLOTS = 4


class SupervisorLost(Lost):
    """The supervisor's process died, before or while it supervised an execution."""


class SupervisorHandle(Member, Protocol):
    """A supervisor in the pool."""

    def run(self, claim: Claim) -> Awaitable[None]:
        """Supervise one execution to its end.

        Raises `SupervisorLost` when it died, `Unavailable` when the database went away, anything when it is broken.
        """


class Workers(Protocol):
    """Where other work is done."""

    def run(self, claim: Claim) -> Awaitable[None]:
        """Do one item and settle it."""


class Dispatcher:
    """One dispatcher of any number; what it claimed and did not finish comes back when its lease lapses."""

    def __init__(
        self,
        settings: Settings,
        database: Transactions,
        bus: Bus,
        pool: Pool[SupervisorHandle],
        workers: Workers,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.name = f"dispatcher:{uuid4().hex[:12]}"
        self._settings = settings
        self._database = database
        self._bus = bus
        self._pool = pool
        self._workers = workers
        self._clock = clock
        self._next_housekeeping = clock()
        self._next_retention = clock()
        self._upkeep = Upkeep(settings, clock())
        self._next_pruning = clock()
        self._news = asyncio.Event()
        pool.on_ready = self._news.set
        self._closing = False
        self._ended = asyncio.Event()
        self._others: dict[UUID, Claim] = {}
        self._dropped: list[Claim] = []
        self._tasks: dict[asyncio.Task[None], Claim] = {}
        self._pruning: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Dispatch until `close`; a database that is away, or refuses, is waited for."""
        self._ended.clear()
        listener = asyncio.create_task(self._listen())
        self._pool.resize(0, 0.0)
        try:
            while not self._closing:
                try:
                    more = await self.step()
                except DomainError as error:
                    log.warning("nothing can be claimed now: %s", error)
                    more = False
                if not more:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(TICK_SECONDS):
                            await self._news.wait()
                self._news.clear()
        finally:
            # Who is cancelled before it began gives nothing back.
            await asyncio.sleep(0)
            held = list(self._tasks.values())
            ending = [*self._tasks, listener, *filter(None, [self._pruning])]
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
            await self._release([*held, *self._dropped], leaving=True)
            self._ended.set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._news.set()

    async def ended(self) -> None:
        """Wait until `run` has ended, what it held is given back, and its lease is dropped."""
        await self._ended.wait()

    async def step(self) -> bool:
        """Claim and hand out once, and keep house once a second; True when there may be more to claim at once."""
        # A claim need not last by itself: it does once its holder's first transaction does, and else is made again.
        async with self._database.statements(RUNTIME, lasting=False) as session:
            if self._clock() >= self._next_housekeeping:
                await self._keep_house(session)
                self._next_housekeeping = self._clock() + TICK_SECONDS
            topics = await self._upkeep.keep(session, self._clock())
            claims = await self._claim(session)
        await self._bus.publish(*topics)
        for claim in claims:
            if claim.kind is WorkKind.EXECUTION and not self._pool.idle:
                # Whoever was to have it has died while it was claimed.
                self._dropped.append(claim)
            elif claim.kind is WorkKind.EXECUTION:
                self._start(self._supervise(self._pool.take(), claim), claim)
            else:
                self._others[claim.id] = claim
                self._start(self._do(claim), claim)
        return any(claim.kind is WorkKind.EXECUTION for claim in claims) and self._pool.idle > 0

    async def _keep_house(self, session: Session) -> None:
        """Renew what is held, recover what others dropped, size the pool to what waits."""
        lease = self._settings.lease_seconds
        await leases.hold(session, self.name, self.name, lease)
        for claim in self._others.values():
            await queue.renew(session, claim.id, claim.generation, lease)
        for claim in self._dropped:
            await queue.release(session, claim, self.name)
        self._dropped.clear()
        await queue.release_lapsed(session)
        waiting, waited = await queue.waiting(session, self._settings.supervisors_max)
        self._pool.resize(waiting, waited)
        if self._clock() >= self._next_pruning:
            pruned = await queue.prune(session, self._settings.work_retention_days, PRUNED_WORK)
            self._next_pruning = self._clock() + (TICK_SECONDS if pruned == PRUNED_WORK else RETENTION_SECONDS)
        if self._clock() >= self._next_retention:
            await keep_partitions(session, self._settings.event_retention_days)
            self._pruning = asyncio.create_task(_prune_artifacts(self._settings, self._database))
            self._next_retention = self._clock() + RETENTION_SECONDS

    async def _claim(self, session: Session) -> list[Claim]:
        limits = {"executions": self._pool.idle, "others": OTHER_SLOTS - len(self._others)}
        if not any(limits.values()):
            return []
        lease = self._settings.lease_seconds
        return await queue.claim(session, self.name, **limits, lease_seconds=lease)

    def _start(self, work: Coroutine[object, object, None], claim: Claim) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = claim
        task.add_done_callback(self._tasks.pop)

    async def _supervise(self, supervisor: SupervisorHandle, claim: Claim) -> None:
        broken = False
        try:
            await supervisor.run(claim)
        except SupervisorLost as error:
            broken = True
            log.warning("the supervisor of execution %s died: %s", claim.subject, error)
            await self._release([claim])
        except Unavailable as error:
            log.warning("the supervisor of execution %s lost the database: %s", claim.subject, error)
            await self._release([claim])
        except Exception:
            broken = True
            log.exception("the supervisor of execution %s broke", claim.subject)
        finally:
            self._pool.give_back(supervisor, broken=broken)
            self._news.set()

    async def _release(self, claims: Sequence[Claim], *, leaving: bool = False) -> None:
        """Give items back for others to take over now, who fence off whoever still writes.

        One that leaves drops its lease too: until that lapses it would pass for live.
        """
        try:
            async with self._database.statements(RUNTIME) as session:
                for claim in claims:
                    await queue.release(session, claim, self.name)
                if leaving:
                    await leases.drop(session, self.name, self.name)
        except DomainError as error:
            self._dropped.extend(claims)
            log.warning("%d items of %s are given back later, or their leases lapse: %s", len(claims), self.name, error)

    async def _do(self, claim: Claim) -> None:
        """Have other work done; what its worker died of is tried again at once, but not for ever."""
        broken = False
        try:
            hopeless = queue.given_up(claim)
            if hopeless is None:
                await self._workers.run(claim)
            else:
                async with self._database.statements(RUNTIME) as session:
                    await queue.settle(session, claim, error=hopeless)
        except Exception:
            broken = True
            log.exception("work item %s (%s) broke", claim.id, claim.kind)
        finally:
            del self._others[claim.id]
        if broken:
            await self._release([claim])
        self._news.set()
        await self._bus.publish(outcome_topic(claim.id))

    async def _listen(self) -> None:
        async for _ in self._bus.wakeups(WORK, every=TICK_SECONDS):
            self._news.set()


async def _prune_artifacts(settings: Settings, database: Transactions) -> None:
    """Remove logs and checkpoints whose retention is over, some at a time."""
    try:
        await prune_checkpoints(database, settings.artifacts, settings.checkpoint_retention_days)
    except (OSError, DomainError) as error:
        log.warning("old checkpoints stay: %s", error)
    pruned, days = PRUNED_LOGS, settings.log_retention_days
    while pruned == PRUNED_LOGS:
        try:
            pruned = await asyncio.to_thread(prune_logs, settings.artifacts, days, PRUNED_LOGS, datetime.now(UTC))
        except OSError as error:
            log.warning("old logs stay: %s", error)
            return
