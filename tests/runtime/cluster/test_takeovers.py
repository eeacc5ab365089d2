"""On real Ray: the supervisor of a half-done execution is killed, and what was done is not done again."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.executions.checkpoints import FOLDER
from tests.kit.desk import Desk
from tests.kit.eventually import eventually
from tests.kit.gated_api import ROWS, GatedApi, gated_api
from tests.kit.nodes import at_rest, supervisors

FEW, TIMES = 7, 60_000
MANY = FEW * TIMES
DONE = {"read", "many"}


@pytest.fixture
async def gate() -> AsyncIterator[GatedApi]:
    async with gated_api() as made:
        yield made


def step(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    return {"name": name, "type": kind, "config": config, "depends_on": list(inputs)}


async def half_done(desk: Desk, gate: GatedApi) -> JsonObject:
    """A few rows that become many blocks, and a read that waits at the gate."""
    few = await desk.files("few", [{"n": number} for number in range(FEW)])
    api = await desk.source("api", "http", gate.connection, discover=False)
    query = f"SELECT CAST(unnest(range({TIMES})) AS BIGINT) AS id FROM read"
    load: JsonObject = {"destination_id": await desk.shelf("out"), "table_name": "t", "write_mode": "append"}
    return {
        "pipeline_name": "p",
        "pipeline_type": "etl",
        "steps": [
            step("read", "extract", {"source_id": few, "dataset": "rows"}),
            step("many", "transform", {"type": "sql", "config": {"query": query}}, "read"),
            step("gated", "extract", {"source_id": api, "dataset": "rows"}),
            step("load", "load", load, "many", "gated"),
        ],
    }


async def found(desk: Desk, query: str, execution: UUID) -> list[Any]:
    async with desk.connect() as connection:
        return list(await connection.fetch(query, execution))


async def told(desk: Desk, execution: UUID, kind: str) -> list[str]:
    query = "SELECT kind, step_name FROM execution_events WHERE execution_id = $1 ORDER BY seq"
    return [row["step_name"] for row in await found(desk, query, execution) if row["kind"] == kind]


async def test_what_is_done_is_not_done_again_when_the_supervisor_is_killed(desk: Desk, gate: GatedApi) -> None:
    saved = await desk.pipeline(await half_done(desk, gate))
    gate.open()
    await desk.finished(await desk.execute(saved))
    gate.close()
    elsewhere = await at_rest(gate.visitors[0], 1)
    execution = await desk.execute(saved)
    worker = await gate.visited(2)

    async def is_told() -> bool:
        return set(await told(desk, execution, "step_completed")) >= DONE

    await eventually(is_told, within=30.0, because="the first steps are done")
    kept = "SELECT task_name, blocks FROM checkpoints WHERE execution_id = $1"
    assert {row["task_name"] for row in await found(desk, kept, execution)} == DONE
    (ours,) = supervisors(worker, busy=True) - elsewhere
    ours.kill()
    await gate.visited(3)
    gate.open()
    done = await desk.finished(execution)
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, MANY + ROWS)
    assert sorted(await told(desk, execution, "step_restored")) == ["many", "read"]
    assert len(await told(desk, execution, "execution_taken_over")) == 1
    started = await told(desk, execution, "step_started")
    assert sorted(started) == ["gated", "gated", "load", "many", "read"]
    assert len(desk.rows("out", "t")) == 2 * (MANY + ROWS)
    assert await found(desk, kept, execution) == []
    assert not (desk.stack.settings.artifacts / FOLDER / str(execution)).exists()
