"""Does the same work with PostgreSQL and with the simulated store, and compares what they answer and hold."""

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import TextClause, text

from models.errors import DomainError
from runtime.database import Database, Transactions
from runtime.queue.store import Claim
from runtime.statements import Parameters
from tests.kit.engine import save_plan
from tests.kit.identities import ENGINEER
from tests.kit.simulation.clients import PIPELINES
from tests.kit.simulation.loop import Process
from tests.kit.simulation.pipelines import EXTRACT, LOAD
from tests.kit.simulation.scheduling import NEVER
from tests.kit.simulation.statements import nothing
from tests.kit.simulation.store import Answering, Row, SimulatedDatabase, Transaction, Weather
from tests.kit.simulation.world import World

T = TypeVar("T")
Work: TypeAlias = Callable[[Transactions], Coroutine[Any, Any, T]]
Doing: TypeAlias = Callable[["Both"], Awaitable[None]]

BEGINNING: Final = datetime(2026, 1, 1, tzinfo=UTC)
PAST: Final = timedelta(minutes=1)
COLUMNS: Final = {
    "work_items": (
        *("id", "kind", "subject", "pipeline_id", "pool", "priority", "state", "holder", "generation", "attempts"),
        *("lease_expires_at", "finished_at", "run_after", "backfill_id"),
    ),
    "pipeline_executions": (
        *("id", "pipeline_id", "state", "status", "execution_type", "generation", "last_event_seq"),
        *("cancel_requested_at", "completed_at", "execution_context", "backfill_id"),
    ),
    "step_executions": ("pipeline_execution_id", "step_name", "state", "status", "attempt", "generation"),
    "execution_events": ("execution_id", "seq", "kind", "step_name"),
    "leases": ("name", "holder", "generation"),
    "checkpoints": ("execution_id", "task_name", "generation", "attempt", "kept"),
    "pipeline_turns": ("pipeline_id", "taken_at"),
    "pipeline_cursors": ("pipeline_id", "step_name", "cursor"),
    "commit_ledger": ("execution_id", "step_name", "partition", "rows"),
    "schedules": ("id", "pipeline_id", "is_paused", "watches", "next_fire_at", "due_at", "last_fire_at"),
    "schedule_fires": ("schedule_id", "fire_time", "outcome", "reason", "execution_id"),
    "schedule_arrivals": ("schedule_id", "cause", "happened_at", "decided_at"),
    "backfills": ("id", "pipeline_id", "state", "most_at_once", "total", "finished_at"),
}
EXACT: Final = ("next_fire_at", "due_at", "last_fire_at", "fire_time", "happened_at")
"""Moments that are told by who writes them; of others only counts that they are there, as the clocks differ."""

DOCUMENTS: Final = ("execution_context", "cursor")

RESTS: Final = text("""
    SELECT subject, extract(epoch FROM run_after - now()) AS seconds FROM work_items
    WHERE run_after > now() AND run_after < 'infinity' ORDER BY subject
""")


async def rests(transaction: Transaction, _given: Parameters) -> list[Row]:
    """What `RESTS` answers."""
    resting = [row for _, row in transaction.rows("work_items") if transaction.now < row["run_after"] < NEVER]
    told = [{"subject": row["subject"], "seconds": row["run_after"] - transaction.now} for row in resting]
    return [
        {**row, "seconds": row["seconds"].total_seconds()} for row in sorted(told, key=lambda row: row["subject"].int)
    ]


@dataclass
class Both:
    """PostgreSQL and the simulated store. `did` are the statements that found or wrote something there."""

    database: Database
    owner: asyncpg.Connection
    chance: Random
    world: World = field(default_factory=lambda: World(0))
    process: Process = field(default_factory=lambda: Process("client"))
    now: datetime = BEGINNING
    pipelines: list[UUID] = field(default_factory=list)
    executions: list[UUID] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    backfills: list[UUID] = field(default_factory=list)
    arrived: set[object] = field(default_factory=set)
    did: set[TextClause] = field(default_factory=set)

    def __post_init__(self) -> None:
        server = self.world.server
        server.weather = Weather(Random(0))
        server.statements = {**_noting(server.statements, self.did), RESTS: rests}
        for table in ("schedules", "concurrency_pools"):
            server.tables[table].clear()
        self.simulated = SimulatedDatabase(server, self.process)

    async def prepare(self, count: int) -> None:
        """Keep so many pipelines, and the places that they read and write."""
        for pipeline in list(PIPELINES)[:count]:
            async with self.database.transaction(ENGINEER) as session:
                await save_plan(session, pipeline, PIPELINES[pipeline].pipeline_name, PIPELINES[pipeline])
            self.pipelines.append(pipeline)
            self.put("data_pipelines", pipeline, is_active=True, is_paused=False, max_active=None)
        await self.owner.execute(_SOURCE, UUID(EXTRACT.source))
        await self.owner.execute(_DESTINATION, UUID(LOAD.destination))

    async def same(self, work: Work[T]) -> T:
        """Do work with both; the answers must be the same."""
        real: T = await _outcome(work(self.database))
        played = self.played(_outcome(work(self.simulated)))
        assert real == played, f"{real} {played}"
        return real

    def played(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in the world, a moment later."""

        async def later() -> T:
            await self.world.loop.passes(0.01)
            return await work

        task = self.world.loop.spawn(self.process, later())
        self.world.loop.run(task.done, float("inf"))
        return task.result()

    async def transact(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do work in a transaction of the simulated store."""
        transaction = await self.world.server.begin(self.process, lasting=True)
        answer = await work(transaction)
        await self.world.server.commit(transaction)
        return answer

    @property
    def holding(self) -> list[Claim]:
        """The claims that hold."""
        items = self.world.server.tables["work_items"]
        return [one for one in self.claims if _holds(one, items.get(one.id, {}))]

    def claim(self) -> Claim:
        """One of the claims that were made, mostly one that holds."""
        holding = self.holding
        return self.chance.choice(holding if holding and self.chance.random() < 0.7 else self.claims)

    def put(self, table: str, key: object, **columns: object) -> None:
        """Change a row of the simulated store, or make one."""
        rows = self.world.server.tables[table]
        rows[key] = {**rows.get(key, {}), **columns}

    async def compare(self) -> None:
        """Both hold the same rows, once what each drew for itself is made equal."""
        await self._align()
        tables = self.world.server.tables
        for table, columns in COLUMNS.items():
            real = [tuple(_told(name, row[name]) for name in columns) for row in await self.owner.fetch(_ALL[table])]
            played = [_played(columns, key, row) for key, row in tables[table].items()]
            only = [row for row in real if row not in played], [row for row in played if row not in real]
            assert (only, len(real)) == (([], []), len(played)), f"{table}: {only}"

    async def _align(self) -> None:
        """Name work items alike, in the same order, let what rests be ready, and have what arrived last arrive now."""
        items, arrivals = self.world.server.tables["work_items"], self.world.server.tables["schedule_arrivals"]
        found = {row["id"]: row["subject"] for row in await self.owner.fetch("SELECT id, subject FROM work_items")}
        unknown = {row["subject"]: key for key, row in items.items() if key not in found}
        for identity, subject in found.items():
            if identity not in items:
                await self.owner.execute("UPDATE work_items SET id = $1 WHERE id = $2", unknown.get(subject), identity)
        for key, row in items.items():
            if self.world.server.now - PAST < row["run_after"] < NEVER:
                self.put("work_items", key, run_after=self.world.server.now - PAST)
        created = [row["created_at"] for row in items.values()]
        await self.owner.execute(_READY, PAST, list(items), created)
        turns = self.world.server.tables["pipeline_turns"]
        await self.owner.execute(_TURNS, list(turns), [row["taken_at"] for row in turns.values()])
        for key in [key for key in arrivals if key not in self.arrived]:
            assert isinstance(key, tuple)
            self.arrived.add(key)
            self.now += timedelta(milliseconds=1)
            self.put("schedule_arrivals", key, happened_at=self.now)
            await self.owner.execute(_ARRIVED, *key, self.now)


_READY: Final = """
    UPDATE work_items AS item SET created_at = given.created_at,
        run_after = CASE WHEN run_after < 'infinity' THEN now() - $1::interval ELSE run_after END
    FROM unnest($2::uuid[], $3::timestamptz[]) AS given (id, created_at) WHERE item.id = given.id
"""
_TURNS: Final = """
    UPDATE pipeline_turns AS turn SET taken_at = given.taken_at
    FROM unnest($1::uuid[], $2::timestamptz[]) AS given (id, taken_at) WHERE turn.pipeline_id = given.id
"""
_ARRIVED: Final = "UPDATE schedule_arrivals SET happened_at = $3 WHERE schedule_id = $1 AND cause = $2"
_SOURCE: Final = """
    INSERT INTO data_sources (id, source_name, source_type, kind, connection_config)
    VALUES ($1, 'source', 'database', 'postgres', '{}')
"""
_DESTINATION: Final = """
    INSERT INTO data_destinations (id, destination_name, destination_type, kind, connection_config)
    VALUES ($1, 'destination', 'database', 'postgres', '{}')
"""
_ALL: Final = {table: f"TABLE {table}" for table in COLUMNS}


def _noting(statements: Mapping[TextClause, Answering], did: set[TextClause]) -> dict[TextClause, Answering]:
    """The statements, which tell when they found or wrote something, or had nothing to look for."""

    def noted(statement: TextClause, answering: Answering) -> Answering:
        async def answered(transaction: Transaction, given: Parameters) -> Iterable[Row]:
            before = dict(transaction.writes)
            rows = await answering(transaction, given)
            wrote = any(row is not before.get(key) for key, row in transaction.writes.items())
            if rows or wrote or transaction.patience or answering is nothing:
                did.add(statement)
            return rows

        return answered  # type: ignore[return-value]

    return {statement: noted(statement, answering) for statement, answering in statements.items()}


def _holds(claim: Claim, item: Row) -> bool:
    return bool(item and item["state"] == "claimed" and item["generation"] == claim.generation)


async def _outcome(work: Coroutine[Any, Any, T]) -> Any:
    try:
        return await work
    except DomainError as error:
        return error.specific_code


def _told(name: str, value: object) -> object:
    if name in DOCUMENTS and isinstance(value, str):
        return orjson.loads(value)
    if isinstance(value, datetime) and name not in EXACT:
        return "never" if value.year == NEVER.year else "a moment"
    return value


def _played(columns: tuple[str, ...], key: object, row: Row) -> tuple[object, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(_told(name, row[name] if name in row else parts[place]) for place, name in enumerate(columns))
