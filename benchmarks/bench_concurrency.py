"""How fast do many executions at once finish, and many parallel steps of one?"""

import asyncio
import time
from typing import Final

from pytest_benchmark.fixture import BenchmarkFixture

from api.client import Client
from benchmarks.server import SOURCE, Server, metadata, pipeline, step, transform

AT_ONCE: Final = 20
QUEUED: Final = 1_000
BRANCHES: Final = 200
SUBMITTERS: Final = 20
POLL_SECONDS: Final = 0.02

READ = step("read", "extract", {"source_id": "bench-source", "dataset": "tiny"})
SMALL = pipeline(
    "bench-small",
    READ,
    transform("kept", "filter", {"condition": "id >= 0"}, "read"),
    step("load", "load", {"destination_id": "bench-target", "table_name": "tiny", "write_mode": "append"}, "kept"),
)
WIDE = pipeline(
    "bench-wide",
    READ,
    *(transform(f"branch_{n}", "derive", {"columns": {"branch": str(n)}}, "read") for n in range(BRANCHES)),
)


def furnish(server: Server) -> None:
    server.sql(
        SOURCE, "DROP TABLE IF EXISTS tiny", "CREATE TABLE tiny AS SELECT n AS id FROM generate_series(1, 10) n", "SELECT 1"
    )
    server.save(SMALL, WIDE)
    server.speak(lambda client: submitted(client, server, AT_ONCE))


async def submitted(client: Client, server: Server, count: int) -> float:
    """Submit executions through a few clients at once; the seconds until the last has completed."""
    began = time.perf_counter()
    gate = asyncio.Semaphore(SUBMITTERS)

    async def one() -> str:
        async with gate:
            return str((await client.execute("bench-small")).id)

    wanted = await asyncio.gather(*(one() for _ in range(count)))
    while not await _ended(client, wanted[-1]):
        await asyncio.sleep(POLL_SECONDS)
    for identity in wanted:
        while not await _ended(client, identity):
            await asyncio.sleep(POLL_SECONDS)
    return time.perf_counter() - began


async def _ended(client: Client, identity: str) -> bool:
    execution = await client.execution(identity)
    assert execution.status in ("running", "completed"), execution
    return execution.status == "completed"


def test_twenty_executions_at_once(server: Server, benchmark: BenchmarkFixture) -> None:
    furnish(server)
    seconds = benchmark.pedantic(
        lambda: server.speak(lambda client: submitted(client, server, AT_ONCE)), rounds=5, warmup_rounds=1
    )
    assert seconds > 0
    benchmark.extra_info.update(
        value=round(benchmark.stats.stats.median, 2),
        unit="s until all 20 have completed, median of 5",
        against="Dagster 42 s",
        target="<= 2",
    )


def test_a_thousand_queued_executions(server: Server, benchmark: BenchmarkFixture) -> None:
    furnish(server)
    before = completed(server)
    seconds = benchmark.pedantic(lambda: server.speak(lambda client: submitted(client, server, QUEUED)), rounds=1)
    assert completed(server) - before == QUEUED
    benchmark.extra_info.update(
        value=round(QUEUED / seconds, 1),
        unit="executions a second, submission included, none lost",
        against="none",
        target=">= 40",
    )


def completed(server: Server) -> int:
    query = "SELECT count(*) AS done FROM pipeline_executions WHERE status = 'completed'"
    return int(server.sql(metadata(), query)[0]["done"])


def test_two_hundred_parallel_steps(server: Server, benchmark: BenchmarkFixture) -> None:
    furnish(server)

    async def once(client: Client) -> float:
        execution = await client.finished((await client.execute("bench-wide")).id)
        assert len(execution.steps) == BRANCHES + 1
        assert execution.milliseconds is not None
        return execution.milliseconds / 1000

    times: list[float] = []
    benchmark.pedantic(lambda: times.append(server.speak(once)), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(
        value=round(sorted(times)[len(times) // 2], 2),
        unit="s from acceptance to the end, median of 5",
        against="Dagster 24 s, Prefect 11.5 s",
        target="<= 1",
    )
