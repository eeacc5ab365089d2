"""PostgreSQL as a simulation needs it: rows, transactions with row locks, and the ways in which it lets one down.

Read committed: a statement sees what is committed when it begins and what its transaction wrote. A write locks its row
until the transaction ends; whoever wants it waits, and then looks again. A ring of waits is a deadlock. A commit that
need not last may be undone by a crash, until one that must last comes after it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any, TypeAlias

from sqlalchemy import TextClause

from models.errors import Conflict, Exhausted, Unavailable
from runtime.database import Identity
from runtime.statements import Parameters, Rows, Statements
from tests.kit.simulation.loop import Process, SimulatedLoop

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, object]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
POOL_SIZE = 2
TURN_SECONDS = 30.0
STATEMENT_SECONDS = 30.0
ABSENT: Row = {}


@dataclass(frozen=True, slots=True)
class Change:
    """A row that a transaction left different: by whom, when, and both versions (empty where there is none)."""

    by: str
    at: float
    table: str
    key: object
    before: Row
    after: Row


@dataclass
class Weather:
    """How the server behaves: the chances of each failure of a statement or a commit, and the seconds of an answer."""

    chance: Random
    slowest: float = 0.002
    serialization: float = 0.0
    unknown: float = 0.0
    stalls: float = 0.0

    def latency(self) -> float:
        """The seconds that the next answer takes; every other one takes none."""
        if self.chance.random() < 0.5:
            return 0.0
        if self.stalls and self.chance.random() < self.stalls:
            return self.chance.uniform(0.5, 5.0)
        return self.slowest * self.chance.random()

    def happens(self, share: float) -> bool:
        """Whether something with this chance happens now."""
        return share > 0 and self.chance.random() < share


Answering: TypeAlias = Callable[["Transaction", Parameters], Awaitable[Sequence[Row]]]
"""What a statement does: reads and writes rows through a transaction, and answers rows."""


@dataclass(eq=False)
class Transaction:
    """One transaction of one process."""

    server: "Server"
    process: Process
    lasting: bool
    now: datetime
    writes: dict[Key, Row] = field(default_factory=dict)
    locks: set[Key] = field(default_factory=set)
    waiters: list["asyncio.Future[None]"] = field(default_factory=list)
    waits_for: "Transaction | None" = None
    is_open: bool = True
    patience: float | None = None
    turns: int = 0

    def get(self, table: str, key: object) -> Row:
        """A row as this transaction sees it; empty where there is none."""
        mine = self.writes.get((table, key))
        return self.server.tables[table].get(key, ABSENT) if mine is None else mine

    def rows(self, table: str) -> Iterator[tuple[object, Row]]:
        """Every row of a table, as this transaction sees it, in the order in which they came."""
        keys = list(self.server.tables[table])
        keys += [key for name, key in self.writes if name == table and key not in self.server.tables[table]]
        return ((key, row) for key in keys if (row := self.get(table, key)))

    def is_locked(self, table: str, key: object) -> bool:
        """Whether somebody else has the row."""
        return self.server.holders.get((table, key), self) is not self

    async def lock(self, table: str, key: object) -> Row:
        """Take a row, or the place where it would be, once nobody else has it; the newest version of it."""
        place = (table, key)
        while (holder := self.server.holders.get(place, self)) is not self:
            await self._wait(holder)
        self.server.require(self)
        self.server.holders[place] = self
        self.locks.add(place)
        return self.get(table, key)

    def try_lock(self, table: str, key: object) -> bool:
        """Take a row, or the place where it would be, unless somebody else has it."""
        if self.is_locked(table, key):
            return False
        self.server.holders[table, key] = self
        self.locks.add((table, key))
        return True

    def write(self, table: str, key: object, row: Row) -> None:
        """Leave a row like this; an empty one is deleted."""
        self.writes[table, key] = row

    async def update(self, table: str, key: object, where: Callable[[Row], bool], values: Row) -> Row:
        """Change a row that is so; the new version, or an empty row."""
        if not where(self.get(table, key)):
            return ABSENT
        found = await self.lock(table, key)
        if not found or not where(found):
            return ABSENT
        changed = {**found, **values}
        self.write(table, key, changed)
        return changed

    async def _wait(self, holder: "Transaction") -> None:
        ahead: Transaction | None = holder
        while ahead is not None:
            if ahead is self:
                raise Conflict("deadlock detected", hint="it was changed at the same time; try again")
            ahead = ahead.waits_for
        gone = self.server.loop.create_future()
        holder.waiters.append(gone)
        self.waits_for = holder
        try:
            async with asyncio.timeout(STATEMENT_SECONDS):
                await gone
        except TimeoutError as error:
            raise Exhausted("canceling statement due to statement timeout", hint="ask for less at once") from error
        finally:
            self.waits_for = None


class Server:
    """The server: its tables, who holds which row, and every change that was ever committed."""

    def __init__(self, loop: SimulatedLoop, weather: Weather, statements: Mapping[TextClause, Answering]) -> None:
        self.loop = loop
        self.weather = weather
        self.statements = statements
        self.tables: dict[str, dict[object, Row]] = {name: {} for name in TABLES}
        self.holders: dict[Key, Transaction] = {}
        self.changes: list[Change] = []
        self.open: dict[Transaction, None] = {}
        self.away_until = 0.0
        self._undoable: list[Change] = []

    @property
    def now(self) -> datetime:
        """The server's clock."""
        return BEGINNING + timedelta(seconds=self.loop.time())

    @property
    def is_away(self) -> bool:
        """Whether it answers nobody."""
        return self.loop.time() < self.away_until

    async def begin(self, process: Process, *, lasting: bool) -> Transaction:
        """A new transaction."""
        await self.answer()
        transaction = Transaction(self, process, lasting, self.now)
        self.open[transaction] = None
        return transaction

    def abandon(self, process: Process) -> None:
        """End the transactions of a process that was killed, as its connections are closed."""
        for transaction in [one for one in self.open if one.process is process]:
            self.end(transaction)

    async def wait(self) -> None:
        """Let the time of an answer pass."""
        seconds = self.weather.latency()
        if seconds:
            await self.loop.passes(seconds)

    async def answer(self) -> None:
        """Let the time of an answer pass; raises `Unavailable` when there is none."""
        await self.wait()
        if self.is_away:
            raise Unavailable("the metadata database cannot be reached: connection refused", hint="is it up?")

    async def execute(self, transaction: Transaction, statement: TextClause, given: Parameters) -> Sequence[Row]:
        """Run one statement."""
        await self.answer()
        self.require(transaction)
        if self.weather.happens(self.weather.serialization):
            raise _refusal(self.weather)
        transaction.turns += 1
        rows = await self.statements[statement](transaction, given)
        self.require(transaction)
        self._lose_patience(transaction)
        return rows

    async def commit(self, transaction: Transaction) -> None:
        """Make it last, unless the weather is bad: then its client may not learn what became of it."""
        await self.answer()
        self.require(transaction)
        is_unknown = self.weather.happens(self.weather.unknown)
        if is_unknown and self.weather.happens(0.5):
            self.end(transaction)
            raise _lost()
        self.apply(transaction)
        self.end(transaction)
        await self.wait()
        if is_unknown:
            raise _lost()

    def _lose_patience(self, transaction: Transaction) -> None:
        """End a transaction whose client says nothing for longer than it may."""
        if transaction.patience is None:
            return
        turn = transaction.turns

        def cut() -> None:
            if transaction.turns == turn:
                self.end(transaction)

        self.loop.call_later(transaction.patience, cut, context=Context())

    def require(self, transaction: Transaction) -> None:
        """Raise `Unavailable` when the connection is gone."""
        if not transaction.is_open:
            raise _lost()

    def apply(self, transaction: Transaction) -> None:
        """Make what it wrote everyone's."""
        made: list[Change] = []
        for (table, key), row in transaction.writes.items():
            before = self.tables[table].get(key, ABSENT)
            self._put(table, key, row)
            made.append(Change(transaction.process.name, self.loop.time(), table, key, before, row))
        self.changes += made
        if transaction.lasting:
            self._undoable.clear()
        else:
            self._undoable += made

    def end(self, transaction: Transaction) -> None:
        """Close it; what it held is free for who waited longest."""
        if not transaction.is_open:
            return
        transaction.is_open = False
        self.open.pop(transaction, None)
        for place in transaction.locks:
            del self.holders[place]
        for waiter in transaction.waiters:
            if not waiter.done():
                waiter.set_result(None)

    def crash(self, seconds: float) -> None:
        """Die, losing what need not last, and be back later."""
        self.away_until = self.loop.time() + seconds
        for transaction in list(self.open):
            self.end(transaction)
        undone = self._undoable[self.weather.chance.randint(0, len(self._undoable)) :]
        for change in reversed(undone):
            self._put(change.table, change.key, change.before)
        gone = {id(change) for change in undone}
        self.changes = [change for change in self.changes if id(change) not in gone]
        self._undoable.clear()

    def _put(self, table: str, key: object, row: Row) -> None:
        if row:
            self.tables[table][key] = row
        else:
            self.tables[table].pop(key, None)


TABLES = (
    "work_items",
    "leases",
    "pipeline_executions",
    "pipeline_versions",
    "step_executions",
    "execution_events",
    "pipeline_cursors",
    "commit_ledger",
    "checkpoints",
    "data_pipelines",
    "concurrency_pools",
    "pipeline_turns",
    "schedules",
    "schedule_fires",
    "schedule_arrivals",
    "backfills",
    "execution_keys",
)


def seconds_after(transaction: Transaction, seconds: object) -> datetime:
    """So many seconds after a transaction began."""
    return transaction.now + timedelta(seconds=float(str(seconds)))


def _refusal(weather: Weather) -> Exception:
    """A typed error, or, now and then, one that nobody foresaw."""
    if weather.happens(0.25):
        return RuntimeError("the protocol is in an unexpected state")
    return Conflict("could not serialize access", hint="it was changed at the same time; try again")


def _lost() -> Unavailable:
    return Unavailable("the metadata database cannot be reached: connection is closed", hint="is PostgreSQL up?")


class SimulatedStatements(Statements):
    """One transaction, as the runtime has it in its hands."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def execute(self, statement: TextClause, parameters: Parameters | None = None) -> Rows[Any]:
        """Run a statement; raises typed errors."""
        server = self._transaction.server
        return Rows([Record(**row) for row in await server.execute(self._transaction, statement, parameters or {})])


class Record(SimpleNamespace):
    """A row of an answer: its columns are attributes, and have an order."""

    def __getitem__(self, place: int) -> Any:
        return list(vars(self).values())[place]


class SimulatedDatabase:
    """One process's connections to the server."""

    def __init__(self, server: Server, process: Process) -> None:
        self._server = server
        self._process = process
        self._free = asyncio.Semaphore(POOL_SIZE)
        process.on_death.append(lambda: server.abandon(process))

    @asynccontextmanager
    async def statements(self, identity: Identity, *, lasting: bool = True) -> AsyncIterator[Statements]:
        """A transaction; commits at the end, rolls back on an error."""
        async with self._turn():
            transaction = await self._server.begin(self._process, lasting=lasting)
            try:
                yield SimulatedStatements(transaction)
                await self._server.commit(transaction)
            finally:
                self.give_back(transaction)

    def give_back(self, transaction: Transaction) -> None:
        """End a transaction that has not ended."""
        self._server.end(transaction)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise Exhausted("all connections to the metadata database are busy", hint="try again") from error
        try:
            yield
        finally:
            self._free.release()
