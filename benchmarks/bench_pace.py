"""How long do executions take at a steady pace, what does a step cost in a chain, and do sleeping steps overlap?"""

import asyncio
import statistics
import time
from itertools import pairwise
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from api.client import Client
from benchmarks.bench_concurrency import READ, TINY
from benchmarks.headline import Headline, percentile, seconds
from benchmarks.server import SOURCE, Server, pipeline, step, transform
from benchmarks.sizes import Sized
from benchmarks.yardstick import Yardstick
from models.executions import ExecutionState
from runtime.embedded.stack import METADATA

KESTRA: Final = {250: 0.31, 500: 0.35, 1_000: 0.47, 1_500: 0.9, 2_000: 24.0}
"""Executions a minute, and the seconds each took: published for two trivial tasks, on 4 virtual CPUs."""

PACE_SECONDS: Final = 30
CHAIN: Final = 20
ROUNDS: Final = 5
SLEEPERS: Final = 8
SLEEP_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.1

TWO_TASKS: Final = pipeline("bench-two-tasks", READ, transform("once", "deduplicate", {"keys": ["id"]}, "read"))


def chain(length: int) -> str:
    """The name of the pipeline with so many steps, one after the other."""
    return f"bench-chain-{length}"


@pytest.mark.parametrize("pace", KESTRA)
def test_a_steady_pace(server: Server, benchmark: BenchmarkFixture, sized: Sized, pace: int) -> None:
    server.sql(SOURCE, *TINY)
    server.save(TWO_TASKS)
    for _ in range(5):
        server.execute("bench-two-tasks")
    count, gap = max(5, sized(pace * PACE_SECONDS // 60)), 60 / pace

    async def paced(client: Client) -> None:
        began, accepted = time.perf_counter(), list[asyncio.Task[object]]()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number * gap - time.perf_counter()))
            accepted.append(asyncio.create_task(client.execute("bench-two-tasks")))
        await asyncio.gather(*accepted)
        async with server.connect(METADATA) as metadata:
            left = "SELECT count(*) FROM pipeline_executions WHERE status = 'running'"
            while await metadata.fetchval(left):  # noqa: ASYNC110 -- it happens in other processes
                await asyncio.sleep(POLL_SECONDS)

    seconds(benchmark, lambda: server.speak(paced))
    rows = server.sql(
        METADATA,
        f"""SELECT extract(epoch FROM completed_at - started_at)::float8 AS took, status FROM pipeline_executions
            ORDER BY started_at DESC LIMIT {count}""",
    )
    assert {row["status"] for row in rows} == {"completed"}
    times = [row["took"] for row in rows]
    headline = Headline(
        value=f"{percentile(times, 50):.2f} / {percentile(times, 95):.2f}",
        unit=f"s from acceptance to the end, p50 / p95, {pace} executions a minute of two tasks",
        against=f"Kestra on 4 virtual CPUs {KESTRA[pace]:g} s",
        target="no collapse at 2,000",
    )
    headline.on(benchmark)


def test_a_step_in_a_chain(yardstick: Yardstick, server: Server, benchmark: BenchmarkFixture, sized: Sized) -> None:
    length = max(2, sized(CHAIN))
    server.sql(SOURCE, *TINY)
    names = ["read", *(f"step_{number}" for number in range(length))]
    steps = (transform(name, "deduplicate", {"keys": ["id"]}, before) for before, name in pairwise(names))
    server.save(pipeline(chain(length), READ, *steps))
    times: list[float] = []

    async def once(client: Client) -> None:
        execution = await client.finished((await client.execute(chain(length))).id)
        assert execution.state is ExecutionState.COMPLETED
        assert execution.milliseconds is not None
        times.append(execution.milliseconds / (length + 1))

    seconds(benchmark, lambda: server.speak(once), rounds=ROUNDS, warm_up=2)
    median = statistics.median(times[-ROUNDS:])
    headline = Headline(
        value=round(median, 1),
        unit=f"ms a step, {length + 1} steps one after the other, the execution's beginning and end included",
        against=yardstick.diamonds(median),
        target="<= 20",
    )
    headline.on(benchmark)


def test_sleeping_steps_overlap(server: Server, benchmark: BenchmarkFixture) -> None:
    query = f"SELECT 1 AS id FROM (SELECT pg_sleep({SLEEP_SECONDS})) AS slept"
    sleepers = (
        step(f"sleeper_{number}", "extract", {"source_id": "bench-source", "query": query})
        for number in range(SLEEPERS)
    )
    server.save(pipeline("bench-sleepers", *sleepers))
    times: list[float] = []

    async def once(client: Client) -> None:
        execution = await client.finished((await client.execute("bench-sleepers")).id)
        assert execution.state is ExecutionState.COMPLETED
        assert execution.milliseconds is not None
        times.append(execution.milliseconds / 1000)

    seconds(benchmark, lambda: server.speak(once), rounds=ROUNDS, warm_up=1)
    headline = Headline(
        value=round(statistics.median(times[-ROUNDS:]), 2),
        unit=f"s, {SLEEPERS} steps side by side that sleep {SLEEP_SECONDS:g} s each",
        against="Dagster 5.3 s in process, 18.6 s with its executor; what four workers can do: 1.0 s",
        target="<= 1 s plus what two cores take",
    )
    headline.on(benchmark)
