"""How long from the mutation to the last event of a small pipeline of four steps that do not fuse?"""

import time
from typing import Final

from pytest_benchmark.fixture import BenchmarkFixture

from api.client import Client
from benchmarks.headline import Headline, percentile, seconds
from benchmarks.server import SOURCE, TARGET, Server, pipeline, step, transform
from benchmarks.sizes import Sized
from benchmarks.yardstick import Yardstick
from models.events import EventKind
from models.fields import JsonObject

ROUNDS: Final = 100
WARM_UP: Final = 20
ROWS: Final = 100

LOAD: Final[JsonObject] = {"destination_id": "bench-target", "table_name": "small", "write_mode": "append"}
FOUR_STEPS: Final = pipeline(
    "bench-four-steps",
    step("read", "extract", {"source_id": "bench-source", "dataset": "small"}),
    transform("large", "filter", {"condition": "amount >= 50"}, "read"),
    transform("little", "filter", {"condition": "amount < 50"}, "read"),
    step("load", "load", LOAD, "large", "little"),
)


async def once(client: Client) -> float:
    """Execute the pipeline and follow it to its end; milliseconds."""
    began = time.perf_counter()
    execution = await client.execute("bench-four-steps")
    events = [event async for event in client.events(execution.id)]
    assert events[-1].kind is EventKind.EXECUTION_COMPLETED, events[-1]
    return (time.perf_counter() - began) * 1000


def test_mutation_to_finished(yardstick: Yardstick, server: Server, benchmark: BenchmarkFixture, sized: Sized) -> None:
    small = f"SELECT n AS id, n::float8 AS amount, 'city ' || n % 7 AS city FROM generate_series(0, {ROWS - 1}) n"
    server.sql(SOURCE, f"CREATE TABLE small AS {small}")
    server.save(FOUR_STEPS)
    rounds = max(2, sized(ROUNDS))

    times: list[float] = []

    async def many(client: Client, count: int) -> None:
        times[:] = [await once(client) for _ in range(count)]

    server.speak(lambda client: many(client, WARM_UP))
    seconds(benchmark, lambda: server.speak(lambda client: many(client, rounds)))
    p50, p95 = percentile(times, 50), percentile(times, 95)
    assert server.sql(TARGET, "SELECT count(*) FROM small")[0]["count"] == ROWS * (rounds + WARM_UP)
    headline = Headline(
        value=f"{p50:.0f} / {p95:.0f}",
        unit="ms, p50 / p95",
        against=f"Dagster 5,100 ms, Prefect 9,600-12,000 ms; {yardstick.diamonds(p50)}",
        target="p50 <= 60, p95 <= 200",
    )
    headline.on(benchmark, p50_ms=round(p50, 1), p95_ms=round(p95, 1), rounds=rounds)
