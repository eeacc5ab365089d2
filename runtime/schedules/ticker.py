"""Fires schedules: one of any number holds the lease and decides what is due; the others wait for it to lapse."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID, uuid4

from models.errors import DomainError
from models.schedules import EventKind
from runtime.access.principal import Principal
from runtime.bus import ALL_EVENTS, FIRES, SCHEDULES, WORK, Bus, control_topic
from runtime.database import Session, Transactions
from runtime.executions import bulk
from runtime.queue import leases
from runtime.schedules import store, watching
from runtime.schedules.decide import Due, decide
from runtime.settings import Settings

log = logging.getLogger(__name__)

RUNTIME: Final = Principal.runtime()
LEASE: Final = "scheduler"
LEASE_SECONDS: Final = 3.0
"""A leader that says nothing for so long is replaced: by one that looks every `FOLLOW_SECONDS`, within 5 s at most."""

STANDING_BY_SECONDS: Final = 5.0
FOLLOW_SECONDS: Final = 0.5
TICK_SECONDS: Final = 1.0
BATCH: Final = 500
WATCH_SECONDS: Final = {EventKind.FILE: 10.0, EventKind.STREAM: 2.0}
"""How often the files and the streams that schedules wait for are looked at."""

HOUSEKEEPING_SECONDS: Final = 3600.0


def utc_now() -> datetime:
    """The moment it is."""
    return datetime.now(UTC)


class Ticker:
    """One scheduler of any number; being the leader saves work, that each moment is decided once needs no leader.

    One that `stands_by` lets others take the lead first when all of them begin.
    """

    def __init__(
        self,
        settings: Settings,
        database: Transactions,
        bus: Bus,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = monotonic,
        *,
        stands_by: bool = False,
    ) -> None:
        self.name = f"scheduler:{os.getpid()}-{uuid4().hex[:12]}"
        self._settings = settings
        self._database = database
        self._bus = bus
        self._now = now
        self._clock = clock
        self.mint: Callable[[], UUID] = uuid4
        self._renew_at = clock() + (STANDING_BY_SECONDS if stands_by else 0.0)
        self._watch_at = dict.fromkeys(WATCH_SECONDS, clock())
        self._tidy_at = clock()
        self._leads = False
        self._news = asyncio.Event()
        self._closing = False
        self._ended = asyncio.Event()

    @property
    def leads(self) -> bool:
        """Whether it held the lease when it last looked."""
        return self._leads

    async def run(self) -> None:
        """Fire schedules until `close`; a database that is away is waited for."""
        self._ended.clear()
        listener = asyncio.create_task(self._listen())
        try:
            while not self._closing:
                try:
                    wait = await self.step()
                except DomainError as error:
                    log.warning("schedules are looked at again in a second: %s", error)
                    wait = TICK_SECONDS
                if wait > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._news.wait()
                self._news.clear()
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            await self._leave()
            self._ended.set()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True
        self._news.set()

    async def ended(self) -> None:
        """Wait until `run` has ended and the lease is given up."""
        await self._ended.wait()

    async def step(self) -> float:
        """Decide once upon what is due, if it leads; answers the seconds after which to look again."""
        if self._clock() >= self._renew_at:
            await self._lead()
        if not self._leads:
            return FOLLOW_SECONDS
        now = self._now()
        async with self._database.statements(RUNTIME) as session:
            due = await store.due(session, now, BATCH)
            following = None if due else await store.next_due(session)
            if not due:
                await self._keep_house(session, now)
        if not due:
            return _until(following, now)
        return 0.0 if await self._perform(due, now) else TICK_SECONDS

    async def _lead(self) -> None:
        """Take or renew the lease, in a transaction of its own: one who is stopped in it holds nobody up."""
        async with self._database.statements(RUNTIME) as session:
            held = await leases.hold(session, LEASE, self.name, LEASE_SECONDS)
        if (held is not None) is not self._leads:
            log.info("%s %s", self.name, "leads" if held else "leads no more")
        self._leads = held is not None
        self._renew_at = self._clock() + (TICK_SECONDS if self._leads else 0.0)

    async def _perform(self, due: list[Due], now: datetime) -> int:
        decisions = [decide(one, now) for one in due]
        async with self._database.statements(RUNTIME) as session:
            done = await store.perform(session, decisions, now, self.mint)
            await bulk.release(session)
        if done.submitted or done.cancelled:
            await self._bus.publish(WORK, ALL_EVENTS, *(control_topic(one) for one in done.cancelled))
        if done.decided:
            await self._bus.publish(FIRES)
        return done.decided

    async def _keep_house(self, session: Session, now: datetime) -> None:
        """Let held executions start, have files and streams looked at, and forget old moments, each when it is time."""
        if await bulk.release(session):
            await self._bus.publish(WORK)
        for kind, seconds in WATCH_SECONDS.items():
            if self._clock() >= self._watch_at[kind]:
                if await watching.ask(session, kind):
                    await self._bus.publish(WORK)
                self._watch_at[kind] = self._clock() + seconds
        if self._clock() >= self._tidy_at:
            await store.prune(session, now - timedelta(days=self._settings.event_retention_days))
            self._tidy_at = self._clock() + HOUSEKEEPING_SECONDS

    async def _leave(self) -> None:
        """Give the lease up, so that another leads at once."""
        try:
            async with self._database.statements(RUNTIME) as session:
                await leases.drop(session, LEASE, self.name)
        except DomainError as error:
            log.warning("the lease of %s is left to lapse: %s", self.name, error)
        self._leads = False

    async def _listen(self) -> None:
        async for _ in self._bus.wakeups(SCHEDULES, every=TICK_SECONDS):
            self._news.set()


def _until(moment: datetime | None, now: datetime) -> float:
    """The seconds until a moment, at most until the next tick."""
    if moment is None:
        return TICK_SECONDS
    return min(max((moment - now) / timedelta(seconds=1), 0.001), TICK_SECONDS)
