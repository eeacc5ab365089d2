"""What the world is busy with: runs of a pipeline of ten steps, submitted as people do, until each is acknowledged."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from api.client import Client
from models.errors import DomainError, Exhausted, Unavailable
from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind
from tests.chaos.world import DATA, World
from tests.kit.faults import LOOPBACK

ROWS: Final = 20
SLOW_SECONDS: Final = 0.3
AWAY_SECONDS: Final = 0.2
STILL_SECONDS: Final = 120.0
RUN_SECONDS: Final = 15.0
"""How long a load may take: so long in any case, and so much for each run. A machine may be busy with others."""
ACCEPT_SECONDS: Final = 120.0
PATIENCE: Final[JsonObject] = {"max_attempts": 60, "initial_seconds": 0.2, "multiplier": 1.5, "max_seconds": 2.0}


def step(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    """A step of the explicit form."""
    return {"name": name, "type": kind, "depends_on": list(inputs), "config": config}


def transform(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    """A transform step."""
    return step(name, "transform", {"type": kind, "config": config}, *inputs)


def read(name: str, source: str, first: int, last: int, slow: float) -> JsonObject:
    """A read of numbered rows of a run, that takes its time."""
    query = (
        f"SELECT CAST(:run AS int) AS run, n AS id FROM generate_series({first}, {last}) AS n"
        f" CROSS JOIN (SELECT pg_sleep({slow})) AS pause"
    )
    return step(name, "extract", {"source_id": source, "query": query})


def load(name: str, destination: str, table: str, *inputs: str) -> JsonObject:
    """An append to a table."""
    return step(name, "load", {"destination_id": destination, "table_name": table, "write_mode": "append"}, *inputs)


def ten_steps(name: str, source: str, destination: str, table: str) -> JsonObject:
    """Two slow reads, each cleaned in two steps, together; counted; and two loads."""
    half = ROWS // 2
    steps = [
        read("read_a", source, 1, half, SLOW_SECONDS),
        read("read_b", source, half + 1, ROWS, 2 * SLOW_SECONDS),
        transform("keep_a", "filter", {"condition": "id >= 0"}, "read_a"),
        transform("keep_b", "filter", {"condition": "id >= 0"}, "read_b"),
        transform("mark_a", "derive", {"columns": {"side": "'a'"}}, "keep_a"),
        transform("mark_b", "derive", {"columns": {"side": "'b'"}}, "keep_b"),
        transform("both", "union", {}, "mark_a", "mark_b"),
        transform("sides", "aggregation", {"group_by": ["run", "side"], "aggregates": {"n": "count(*)"}}, "both"),
        load("load_rows", destination, table, "both"),
        load("load_sides", destination, f"{table}_sides", "sides"),
    ]
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": list(steps), "retry_policy": PATIENCE}


_UNFINISHED: Final = """
    SELECT run.id, run.state, run.generation, work.state AS work, work.attempts, work.lease_expires_at - now() AS left,
        (SELECT array_agg(step_name || ' ' || state || ' ' || attempt) FROM step_executions
         WHERE pipeline_execution_id = run.id AND state <> 'completed') AS steps
    FROM pipeline_executions AS run LEFT JOIN work_items AS work ON work.subject = run.id
    WHERE run.pipeline_id = (SELECT id FROM data_pipelines WHERE pipeline_name = $1)
        AND run.state NOT IN ('completed', 'failed', 'cancelled')
"""


@dataclass
class Load:
    """Runs of one pipeline: each has a number, which its rows bear and its idempotency key names."""

    world: World
    name: str
    table: str
    accepted: dict[int, UUID] = field(default_factory=dict)
    answers: int = 0

    @classmethod
    async def made(cls, world: World, word: str) -> "Load":
        """A new pipeline over places of its own: a source past the proxy, a destination behind it."""
        mark = f"{word}_{uuid4().hex[:6]}"
        past: JsonObject = {"host": str(world.postgres.folder), "database": DATA, "user": "postgres"}
        behind: JsonObject = {"host": LOOPBACK, "port": world.data.port, "database": DATA, "user": "postgres"}
        places: Sequence[tuple[EntryKind, JsonObject]] = (
            (EntryKind.SOURCE, {"source_name": f"{mark}-in", "kind": "postgres", "connection_config": past}),
            (
                EntryKind.DESTINATION,
                {"destination_name": f"{mark}-out", "kind": "postgres", "connection_config": behind},
            ),
            (EntryKind.PIPELINE, ten_steps(mark, f"{mark}-in", f"{mark}-out", mark)),
        )
        async with world.client() as client:
            for kind, document in places:
                await client.save(Entry(kind, document))
        return cls(world, mark, mark)

    async def submit(self, client: Client, number: int) -> UUID:
        """Submit a run until it is acknowledged; whoever is away is asked again with the same key."""
        async with asyncio.timeout(ACCEPT_SECONDS):
            while True:
                with suppress(Unavailable, Exhausted):
                    run = await client.execute(self.name, {"run": number}, idempotency_key=f"{self.name}-{number}")
                    self.answers += 1
                    self.accepted[number] = run.id
                    return run.id
                await pause(AWAY_SECONDS)

    async def run(self, count: int, at_once: int) -> None:
        """Submit so many runs and see each end, some at once."""
        gate = asyncio.Semaphore(at_once)

        async def one(client: Client, number: int) -> None:
            async with gate:
                await ended(client, await self.submit(client, number))

        limit = STILL_SECONDS + count * RUN_SECONDS
        try:
            async with asyncio.timeout(limit), self.world.client() as client:
                await asyncio.gather(*(one(client, len(self.accepted) + number) for number in range(count)))
        except TimeoutError:
            raise AssertionError(f"not all ended within {limit:g} s: {await self.unfinished()}") from None

    async def run_until(self, is_enough: Callable[[], bool], count: int, at_once: int) -> None:
        """Run so many, and as many again until that is true: what troubles them is not to outlast them."""
        await self.run(count, at_once)
        while not is_enough():
            await self.run(count, at_once)

    async def unfinished(self) -> list[str]:
        """The runs that have not ended, each with its state and its work item's."""
        return [str(dict(row)) for row in await self.world.rows(_UNFINISHED, self.name)]


async def ended(client: Client, run: UUID) -> None:
    """Wait until a run has ended, by asking; servers may be away."""
    while True:
        with suppress(DomainError):
            if (await client.execution(run)).state.is_terminal:
                return
        await pause(AWAY_SECONDS)


async def pause(seconds: float, until: asyncio.Event | None = None) -> bool:
    """Let time pass, unless the event comes before; whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (until or asyncio.Event()).wait()
            return True
    return False
