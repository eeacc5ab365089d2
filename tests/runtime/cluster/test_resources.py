"""What a step may use, on real Ray: who takes too much or too long is stopped alone, with an error that says so."""

import time
from typing import Any

import pytest

from api.client.values import Execution
from models.executions import ExecutionState
from models.fields import JsonObject
from tests.kit.desk import Desk
from tests.kit.eventually import eventually

STOP_SECONDS = 2.0
SLEEP = "SELECT 1 AS id, pg_sleep(600)::text AS slept"
WIDE = "SELECT n AS id, repeat('x', 100000) AS text FROM generate_series(1, 20000) AS n"
NARROW = "SELECT n AS id, 'x' AS text FROM generate_series(1, 20000) AS n"


async def pipeline(desk: Desk, name: str, query: str, *transforms: JsonObject, **more: Any) -> str:
    """A read of a query by a step of its own, transforms, and a load; its id."""
    database = await desk.database(name)
    source = await desk.source(name, "postgres", desk.reach(database), discover=False)
    read: JsonObject = {
        "name": "read",
        "type": "extract",
        "config": {"source_id": source, "query": query},
        "retry_attempts": 0,
        **more,
    }
    config: JsonObject = {"destination_id": await desk.shelf(name), "table_name": "t", "write_mode": "append"}
    last = str(transforms[-1]["name"]) if transforms else "read"
    load: JsonObject = {"name": "load", "type": "load", "depends_on": [last], "config": config}
    return await desk.pipeline({"pipeline_name": name, "pipeline_type": "etl", "steps": [read, *transforms, load]})


def told(done: Execution) -> tuple[str, str]:
    assert done.state is ExecutionState.FAILED
    assert done.error_details is not None
    return str(done.error_details.error_type), str(done.error_details.failed_step)


async def test_a_query_that_sleeps_is_stopped_at_its_limit_at_the_server_too(desk: Desk) -> None:
    neighbour = await pipeline(desk, "neighbour", NARROW)
    sleeper = await pipeline(desk, "sleeper", SLEEP, timeout_seconds=3)
    began = time.monotonic()
    execution = await desk.execute(sleeper)
    beside = await desk.execute(neighbour)
    done = await desk.finished(execution)
    assert told(done) == ("timeout", "read")
    assert done.error_details is not None
    assert "3 seconds" in str(done.error_details.error_message)
    assert time.monotonic() - began < 3 + STOP_SECONDS + 5

    async def is_closed() -> bool:
        async with desk.connect() as connection:
            query = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = $1"
            return bool(await connection.fetchval(query, desk.databases[-1]))

    await eventually(is_closed, within=STOP_SECONDS, because="the server ends the query of a worker that is gone")
    assert (await desk.finished(beside)).state is ExecutionState.COMPLETED


async def test_a_step_that_outgrows_its_memory_fails_alone(desk: Desk) -> None:
    greedy = await pipeline(desk, "greedy", WIDE, resources={"memory_mb": 256})
    neighbour = await pipeline(desk, "neighbour", NARROW, resources={"memory_mb": 256})
    execution, beside = await desk.execute(greedy), await desk.execute(neighbour)
    done = await desk.finished(execution)
    assert told(done) == ("memory_limit", "read")
    assert done.error_details is not None
    assert "256 MB" in str(done.error_details.error_message)
    assert "resources.memory_mb" in str(done.error_details.hint)
    assert (await desk.finished(beside)).records_inserted == 20_000
    again = await desk.finished(await desk.execute(neighbour))
    assert again.state is ExecutionState.COMPLETED


async def test_a_query_over_its_memory_in_the_engine_is_told_of_the_same_way(desk: Desk) -> None:
    transform: JsonObject = {
        "name": "glued",
        "type": "transform",
        "depends_on": ["read"],
        "config": {"type": "sql", "config": {"query": "SELECT string_agg(repeat(text, 50000), '') AS one FROM read"}},
        "resources": {"memory_mb": 128, "cpus": 1},
        "retry_attempts": 0,
    }
    done = await desk.finished(await desk.execute(await pipeline(desk, "glue", NARROW, transform)))
    assert told(done) == ("memory_limit", "glued")


@pytest.mark.parametrize("resources", [{"cpus": 256}, {"memory_mb": 1_000_000}])
async def test_what_no_node_has_is_refused_and_not_waited_for(desk: Desk, resources: JsonObject) -> None:
    done = await desk.finished(await desk.execute(await pipeline(desk, "vast", NARROW, resources=resources)))
    assert told(done) == ("no_room", "read")
