"""Writes what happens in an execution: transitions, events and checkpoints, batched, in order, and none twice."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from models.errors import Exhausted, Unavailable
from models.executions import ExecutionState, Keeping
from runtime.access.principal import Principal
from runtime.bus import ALL_EVENTS, Bus, events_topic
from runtime.database import Session, Transactions
from runtime.executions import records
from runtime.executions.checkpoints import Kept
from runtime.executions.keeper import Keeper
from runtime.executions.logs import LogFile
from runtime.executions.records import Ending, Entry, Fenced, Holding, StepRow

__all__ = ["Ending", "Entry", "Fenced", "Holding", "Journal", "StepRow"]

log = logging.getLogger(__name__)

RUNTIME = Principal.runtime()
AWAY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the journal gathers before it writes, and how long the execution stays ours without a beat."""

    gather_seconds: float = 0.1
    lease_seconds: float = 15.0


DEFAULT_PACE = Pace()


class Journal:
    """One execution's journal: `record` buffers, a single writer flushes in order, `finish` writes the last of it.

    A database that is away is waited for: what it may have committed without a word is not written twice.
    """

    def __init__(
        self, database: Transactions, bus: Bus, holding: Holding, log: LogFile, pace: Pace = DEFAULT_PACE
    ) -> None:
        self._database = database
        self._bus = bus
        self._holding = holding
        self._log = log
        self._pace = pace
        self._buffer: list[Entry] = []
        self._kept: list[Kept] = []
        self._keeping = Keeping.UNTIL_SUCCESS
        self._state: ExecutionState | None = ExecutionState.RUNNING
        self._told = ExecutionState.RUNNING
        self._closed = asyncio.Event()
        self._news = asyncio.Event()

    def record(self, *entries: Entry) -> None:
        """Note what happened; `flush` writes it."""
        self._buffer.extend(entries)
        self._news.set()

    def keep(self, kept: Sequence[Kept], keeping: Keeping) -> None:
        """Note what is kept of finished tasks; it goes with the next transaction."""
        self._kept.extend(kept)
        self._keeping = keeping

    def move(self, state: ExecutionState) -> None:
        """Note whether the execution runs or backs off; `flush` writes it where it has changed."""
        if state is not self._told:
            self._state = self._told = state
            self._news.set()

    def close(self) -> None:
        """Let `wait` end: what is still buffered goes with `finish`."""
        self._closed.set()
        self._news.set()

    async def wait(self) -> bool:
        """Wait until there is something to flush, and a while for what comes with it; False once closed.

        So a short execution writes once, at its end, and a long one is never further behind than that while.
        """
        await self._news.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.gather_seconds):
                await self._closed.wait()
        self._news.clear()
        return not self._closed.is_set()

    async def beat(self) -> bool:
        """Renew the lease; whether the execution is to stop. Raises `Fenced` when it is no longer ours."""
        async with self._database.statements(RUNTIME) as session:
            return await records.renew(session, self._holding, self._pace.lease_seconds)

    async def write(self, keeper: Keeper) -> None:
        """Flush until closed; what has gathered waits for its checkpoints, what comes meanwhile for the next time."""
        while await self.wait():
            gathered = len(self._buffer)
            self.keep(await keeper.kept(), keeper.keeping)
            await self.flush(gathered)
            if keeper.is_saving:
                self._news.set()

    async def flush(self, most: int | None = None) -> None:
        """Write what is buffered, or the first of it, and what the execution moved to; raises `Fenced`."""
        entries, self._buffer = self._buffer[:most], [] if most is None else self._buffer[most:]
        kept, self._kept = self._kept, []
        state, self._state = self._state, None

        async def write(session: Session) -> None:
            await records.append(session, self._holding, entries, state)
            await records.keep(session, self._holding, kept, self._keeping)

        if entries or kept or state is not None:
            await self._lasting(write, entries)
            await self._tell(entries)

    async def finish(self, ending: Ending, last: Entry, *, forgetting: bool = False) -> None:
        """Write the rest and the ending, with cursors, ledger and work item, in one transaction; raises `Fenced`.

        With `forgetting` the execution's checkpoints go, in the same transaction.
        """
        entries, self._buffer = [*self._buffer, last], []
        kept, self._kept = self._kept, []

        async def write(session: Session) -> None:
            await records.end(session, self._holding, entries, ending, self._log.location)
            if forgetting:
                await records.forget(session, self._holding)
            else:
                await records.keep(session, self._holding, kept, self._keeping)

        await self._lasting(write, entries)
        await self._tell(entries)

    async def _lasting(self, write: Callable[[Session], Awaitable[None]], entries: Sequence[Entry]) -> None:
        """Write these entries in one transaction, again while the database is away, unless it turns out it has them."""
        again = False
        while True:
            try:
                async with self._database.statements(RUNTIME) as session:
                    if not (again and await records.is_written(session, self._holding, entries)):
                        await write(session)
                return
            except (Unavailable, Exhausted) as error:
                log.warning("the journal of execution %s waits: %s", self._holding.execution_id, error)
                again = True
                await asyncio.sleep(AWAY_SECONDS)

    async def _tell(self, entries: Sequence[Entry]) -> None:
        """Wake whoever watches and append to the log; neither may fail the execution."""
        await self._bus.publish(events_topic(self._holding.execution_id), ALL_EVENTS)
        self._log.write([{"at": e.at, "kind": e.kind, "step": records.step_of(e), **e.payload} for e in entries])
