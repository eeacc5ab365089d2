"""How fast do many executions at once finish, and many parallel steps of one?"""

import asyncio
import statistics
from typing import Final
from uuid import UUID

import asyncpg
from pytest_benchmark.fixture import BenchmarkFixture

from api.client import Client
from benchmarks.headline import Headline, seconds
from benchmarks.server import SOURCE, TARGET, Server, pipeline, step, transform
from benchmarks.sizes import Sized
from benchmarks.yardstick import Yardstick
from models.events import EventKind
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.embedded.stack import METADATA

AT_ONCE: Final = 20
QUEUED: Final = 1_000
BRANCHES: Final = 200
ROUNDS: Final = 5
SUBMITTERS: Final = 20
POLL_SECONDS: Final = 0.02

READ: Final = step("read", "extract", {"source_id": "bench-source", "dataset": "tiny"})
LOAD: Final[JsonObject] = {"destination_id": "bench-target", "table_name": "tiny", "write_mode": "append"}
SMALL: Final = pipeline(
    "bench-small",
    READ,
    transform("kept", "filter", {"condition": "id >= 0"}, "read"),
    step("load", "load", LOAD, "kept"),
)
TINY: Final = ("DROP TABLE IF EXISTS tiny", "CREATE TABLE tiny AS SELECT n AS id FROM generate_series(1, 10) n")


def wide(branches: int) -> str:
    """The name of the pipeline with so many branches."""
    return f"bench-wide-{branches}"


async def followed(client: Client) -> None:
    """Execute the small pipeline and follow its events to the end."""
    execution = await client.execute("bench-small")
    events = [event async for event in client.events(execution.id)]
    assert events[-1].kind is EventKind.EXECUTION_COMPLETED, events[-1]


async def at_once(client: Client) -> None:
    await asyncio.gather(*(followed(client) for _ in range(AT_ONCE)))


async def queued(client: Client, metadata: asyncpg.Connection, count: int) -> None:
    """Submit so many executions, a few requests at a time, and wait in the database until none is left."""
    gate = asyncio.Semaphore(SUBMITTERS)

    async def one() -> UUID:
        async with gate:
            return (await client.execute("bench-small")).id

    wanted = await asyncio.gather(*(one() for _ in range(count)))
    left = "SELECT count(*) FROM pipeline_executions WHERE id = ANY($1) AND status = 'running'"
    while await metadata.fetchval(left, wanted):  # noqa: ASYNC110 -- it happens in other processes
        await asyncio.sleep(POLL_SECONDS)
    completed = "SELECT count(*) FROM pipeline_executions WHERE id = ANY($1) AND status = 'completed'"
    assert await metadata.fetchval(completed, wanted) == count


def test_twenty_executions_at_once(server: Server, benchmark: BenchmarkFixture) -> None:
    server.sql(SOURCE, *TINY)
    server.save(SMALL)
    times = seconds(benchmark, lambda: server.speak(at_once), rounds=ROUNDS, warm_up=2)
    headline = Headline(
        value=round(statistics.median(times), 2),
        unit=f"s until all {AT_ONCE} have completed",
        against="Dagster 42 s",
        target="<= 2 s",
    )
    headline.on(benchmark)


def test_a_thousand_queued_executions(
    yardstick: Yardstick, server: Server, benchmark: BenchmarkFixture, sized: Sized
) -> None:
    server.sql(SOURCE, *TINY)
    server.save(SMALL)
    server.speak(at_once)
    before, count = loaded(server), sized(QUEUED)

    async def submitted(client: Client) -> None:
        async with server.connect(METADATA) as metadata:
            await queued(client, metadata, count)

    (took,) = seconds(benchmark, lambda: server.speak(submitted))
    assert loaded(server) - before == 10 * count
    headline = Headline(
        value=round(count / took, 1),
        unit=f"executions a second, {count} submitted at once, none lost",
        against=f"no peer; one each {took / count * 1000:.1f} ms, {yardstick.diamonds(took / count * 1000)}",
        target=">= 40",
    )
    headline.on(benchmark)


def loaded(server: Server) -> int:
    return int(server.sql(TARGET, "SELECT count(*) FROM tiny")[0]["count"])


def test_two_hundred_parallel_steps(
    yardstick: Yardstick, server: Server, benchmark: BenchmarkFixture, sized: Sized
) -> None:
    branches = sized(BRANCHES)
    server.sql(SOURCE, *TINY)
    columns = (transform(f"branch_{n}", "derive", {"columns": {"branch": str(n)}}, "read") for n in range(branches))
    server.save(pipeline(wide(branches), READ, *columns))
    times: list[float] = []

    async def once(client: Client) -> None:
        execution = await client.finished((await client.execute(wide(branches))).id)
        assert execution.state is ExecutionState.COMPLETED
        assert len(execution.steps) == branches + 1
        assert execution.milliseconds is not None
        times.append(execution.milliseconds / 1000)

    seen = seconds(benchmark, lambda: server.speak(once), rounds=ROUNDS, warm_up=2)
    median = statistics.median(times[-ROUNDS:])
    headline = Headline(
        value=round(median, 2),
        unit=f"s from acceptance to the end, {branches} steps",
        against=f"Dagster 24 s, Prefect 11.5 s; {yardstick.wides(median)}",
        target="<= 1 s",
    )
    headline.on(benchmark, seen_by_a_client_s=round(statistics.median(seen), 2))
