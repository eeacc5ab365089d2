"""Executions on real Ray: steps beside each other in processes of their own, and what becomes of those that die."""

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from models.executions import ExecutionState
from models.fields import Json, JsonObject
from runtime.embedded.stack import Stack
from tests.kit.desk import ERROR, EXECUTE, Desk, desk_of
from tests.kit.eventually import eventually
from tests.kit.gated_api import ROWS, GatedApi, gated_api
from tests.kit.nodes import at_rest, supervisors

CANCEL_SECONDS = 2.0
LIMIT_SECONDS = 60.0
EVIL = "x' OR '1'='1'; DROP TABLE guests; --"
IDS = {str(number) for number in range(ROWS)}
PAUSE = f"mutation($id: ID!) {{ pausePipeline(id: $id) {{ __typename ... on Pipeline {{ isPaused }} {ERROR} }} }}"
RESUME = f"mutation($id: ID!) {{ resumePipeline(id: $id) {{ __typename ... on Pipeline {{ isPaused }} {ERROR} }} }}"


def read(source: str, name: str = "read") -> JsonObject:
    return {"name": name, "type": "extract", "config": {"source_id": source, "dataset": "rows"}}


def load(shelf: str, *inputs: str, **more: Any) -> JsonObject:
    config: JsonObject = {"destination_id": shelf, "table_name": "t", "write_mode": "append"}
    return {"name": "load", "type": "load", "depends_on": list(inputs), "config": config, **more}


def pipeline(*steps: JsonObject, **more: Json) -> JsonObject:
    return {"pipeline_name": "p", "pipeline_type": "etl", "steps": list(steps), **more}


async def row(desk: Desk, query: str, execution: UUID) -> Any:
    async with desk.connect() as connection:
        return await connection.fetchrow(query, execution)


async def kinds(desk: Desk, execution: UUID) -> list[str]:
    async with desk.connect() as connection:
        query = "SELECT kind FROM execution_events WHERE execution_id = $1 ORDER BY seq"
        return [found["kind"] for found in await connection.fetch(query, execution)]


def ids(desk: Desk) -> list[str]:
    return sorted(found["id"] for found in desk.rows("out", "t"))


@dataclass(frozen=True)
class Late:
    """An execution that waits at a gate which stays closed, with a minute to do so."""

    desk: Desk
    gate: GatedApi
    execution: UUID


@pytest.fixture(scope="session", autouse=True)
async def late(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Late]:
    """Begun before the first test of this module; `conftest.py` puts the test that waits for its end last."""
    desk = desk_of(stack, tmp_path_factory.mktemp("late"), f"late-{uuid4().hex[:8]}")
    async with gated_api() as gate:
        steps = await chained(desk, gate, timeout_minutes=1, retry_attempts=0)
        execution = await desk.execute(await desk.pipeline(pipeline(*steps)))
        await gate.visited()
        yield Late(desk, gate, execution)
        await desk.close()


async def chained(desk: Desk, gate: GatedApi, **more: Json) -> tuple[JsonObject, JsonObject]:
    """A read of the gated API and a load, fused into one task that waits at the gate."""
    source = await desk.source("api", "http", gate.connection, discover=False)
    return {**read(source), **more}, load(await desk.shelf("out"), "read", **more)


@pytest.fixture
async def gate() -> AsyncIterator[GatedApi]:
    async with gated_api() as made:
        yield made


@pytest.fixture
async def chain(desk: Desk, gate: GatedApi) -> JsonObject:
    """A pipeline whose only task waits at the gate."""
    policy: JsonObject = {"max_attempts": 2, "initial_seconds": 0.1}
    return pipeline(*await chained(desk, gate), retry_policy=policy)


async def test_two_independent_steps_run_in_distinct_processes_at_the_same_time(desk: Desk) -> None:
    async with gated_api(meeting=2) as api:
        source = await desk.source("api", "http", api.connection, discover=False)
        steps = read(source, "one"), read(source, "two"), load(await desk.shelf("out"), "one", "two")
        done = await desk.run(pipeline(*steps))
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, 2 * ROWS)
    assert len(set(api.visitors)) == 2
    assert os.getpid() not in api.visitors


async def test_the_step_of_a_killed_worker_runs_again_and_loads_once(
    desk: Desk, gate: GatedApi, chain: JsonObject
) -> None:
    execution = await desk.execute(await desk.pipeline(chain))
    os.kill(await gate.visited(), signal.SIGKILL)
    await gate.visited(2)
    gate.open()
    done = await desk.finished(execution)
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, ROWS)
    assert ids(desk) == sorted(IDS)
    assert [step.retry_count for step in done.steps] == [1, 1]
    query = "SELECT payload FROM execution_events WHERE execution_id = $1 AND kind = 'step_retrying' LIMIT 1"
    assert "worker_lost" in (await row(desk, query, execution))["payload"]


async def test_a_worker_that_is_killed_too_often_is_a_typed_failure(
    desk: Desk, gate: GatedApi, chain: JsonObject
) -> None:
    execution = await desk.execute(await desk.pipeline({**chain, "retry_policy": {"retry_on": ["unavailable"]}}))
    os.kill(await gate.visited(), signal.SIGKILL)
    done = await desk.finished(execution)
    assert done.state is ExecutionState.FAILED
    assert done.error_details is not None
    assert (done.error_details.error_type, done.error_details.failed_step) == ("worker_lost", "load")
    assert done.error_details.hint
    assert ids(desk) == []


async def test_a_cancelled_execution_stops_within_two_seconds_and_leaves_the_destination_as_it_was(
    desk: Desk, gate: GatedApi, chain: JsonObject
) -> None:
    gate.open()
    saved = await desk.pipeline(chain)
    assert (await desk.finished(await desk.execute(saved))).state is ExecutionState.COMPLETED
    gate.close()
    execution = await desk.execute(saved)
    worker = await gate.visited(2)
    await desk.cancel(execution)
    assert (await desk.finished(execution)).state is ExecutionState.CANCELLED
    query = "SELECT completed_at - cancel_requested_at AS took FROM pipeline_executions WHERE id = $1"
    assert (await row(desk, query, execution))["took"].total_seconds() < CANCEL_SECONDS
    assert ids(desk) == sorted(IDS)

    async def is_gone() -> bool:
        return not psutil.pid_exists(worker)

    await eventually(is_gone, because="the process of the stopped step ends")


async def test_a_paused_pipeline_starts_nothing_until_it_is_resumed(
    desk: Desk, gate: GatedApi, chain: JsonObject
) -> None:
    saved = await desk.pipeline(chain)
    running = await desk.execute(saved)
    await gate.visited()
    await desk.done(PAUSE, id=saved)
    refused = await desk.ask(EXECUTE, id=saved)
    assert (refused["__typename"], refused["code"]) == ("ConflictError", "paused")
    assert refused["hint"]
    gate.open()
    assert (await desk.finished(running)).state is ExecutionState.COMPLETED
    await desk.done(RESUME, id=saved)
    assert (await desk.finished(await desk.execute(saved))).state is ExecutionState.COMPLETED
    assert ids(desk) == sorted([*IDS, *IDS])


async def test_an_execution_whose_supervisor_is_killed_is_taken_over_and_finishes_once(
    desk: Desk, gate: GatedApi, chain: JsonObject, late: Late
) -> None:
    elsewhere = await at_rest(late.gate.visitors[0], 1)
    execution = await desk.execute(await desk.pipeline(chain))
    await gate.visited()
    (ours,) = supervisors(gate.visitors[0], busy=True) - elsewhere
    ours.kill()
    await gate.visited(2)
    gate.open()
    done = await desk.finished(execution)
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, ROWS)
    assert ids(desk) == sorted(IDS)
    query = "SELECT generation, last_event_seq FROM pipeline_executions WHERE id = $1"
    generation, last = await row(desk, query, execution)
    assert generation == 2
    told = await kinds(desk, execution)
    assert len(told) == last
    assert told.count("execution_completed") == 1


async def test_supervisors_that_were_killed_while_idle_are_replaced_before_a_lease_lapses(
    desk: Desk, gate: GatedApi, chain: JsonObject, late: Late
) -> None:
    gate.open()
    saved, node = await desk.pipeline(chain), late.gate.visitors[0]
    elsewhere = supervisors(node, busy=True)
    await desk.finished(await desk.execute(saved))

    async def is_back() -> bool:
        return supervisors(node, busy=True) <= elsewhere

    await eventually(is_back, because="the supervisor goes back to the pool")
    for idle in supervisors(node, busy=False):
        idle.kill()
    execution = await desk.execute(saved)
    done = await desk.finished(execution)
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, ROWS)
    assert ids(desk) == sorted([*IDS, *IDS])
    (took,) = await row(desk, "SELECT completed_at - started_at FROM pipeline_executions WHERE id = $1", execution)
    assert took.total_seconds() < desk.stack.settings.lease_seconds


async def test_a_dry_run_reads_everything_and_commits_nothing(desk: Desk, gate: GatedApi, chain: JsonObject) -> None:
    gate.open()
    done = await desk.run(chain, dryRun=True)
    assert (done.state, done.records_processed, done.records_inserted) == (ExecutionState.COMPLETED, ROWS, 0)
    assert {step.step_name: step.records_in for step in done.steps}["load"] == ROWS
    assert ids(desk) == []


async def test_parameters_are_bound_into_queries_and_never_pasted(desk: Desk) -> None:
    database = await desk.database("guests")
    async with desk.connect(database) as connection:
        await connection.execute("CREATE TABLE guests (id int, name text)")
        await connection.executemany("INSERT INTO guests VALUES ($1, $2)", [(1, "Ann"), (2, EVIL), (3, "Bob")])
    source = await desk.source("guests", "postgres", desk.reach(database))
    config: JsonObject = {"source_id": source, "query": "SELECT id, name FROM guests WHERE name = :who"}
    extract: JsonObject = {"name": "read", "type": "extract", "config": config}
    done = await desk.run(pipeline(extract, load(await desk.shelf("out"), "read")), parameters={"who": EVIL})
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, 1)
    assert desk.rows("out", "t") == [{"id": "2", "name": EVIL}]
    async with desk.connect(database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM guests") == 3


async def test_a_step_over_its_time_limit_is_stopped(late: Late) -> None:
    done = await late.desk.finished(late.execution, within=LIMIT_SECONDS + 30)
    assert done.state is ExecutionState.FAILED
    assert done.error_details is not None
    assert (done.error_details.error_type, done.error_details.failed_step) == ("timeout", "load")
    assert "timeout_minutes" in str(done.error_details.hint)
    assert LIMIT_SECONDS <= (done.milliseconds or 0) / 1000 < LIMIT_SECONDS + 10
    assert ids(late.desk) == []
    (worker,) = late.gate.visitors

    async def is_gone() -> bool:
        return not psutil.pid_exists(worker)

    await eventually(is_gone, because="the process of the stopped step ends")
