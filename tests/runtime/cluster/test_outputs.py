"""Outputs on Ray: a task that was small the last time may be large now, and a load tells how far it is."""

from models.executions import ExecutionState
from models.fields import Json, JsonObject
from tests.kit.desk import Desk

FEW, MANY = 10, 150_000
TIMES = 600_000
RUNS = 3


def step(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    return {"name": name, "type": kind, "config": config, "depends_on": list(inputs)}


def pipeline(*steps: JsonObject) -> JsonObject:
    chain: list[Json] = list(steps)
    return {"pipeline_name": "p", "pipeline_type": "etl", "steps": chain}


async def test_a_source_that_was_small_the_last_times_may_have_grown(desk: Desk) -> None:
    source = await desk.files("guests", [{"id": number} for number in range(FEW)])
    halves = [
        step(name, "transform", {"type": "filter", "config": {"condition": condition}}, "read")
        for name, condition in (("even", "CAST(id AS INT) % 2 = 0"), ("odd", "CAST(id AS INT) % 2 = 1"))
    ]
    load: JsonObject = {"destination_id": await desk.shelf("out"), "table_name": "t", "write_mode": "overwrite"}
    saved = await desk.pipeline(
        pipeline(
            step("read", "extract", {"source_id": source, "dataset": "rows"}),
            *halves,
            step("load", "load", load, "even", "odd"),
        )
    )
    for count in (*[FEW] * RUNS, MANY, FEW):
        desk.write("guests", [{"id": number} for number in range(count)])
        done = await desk.finished(await desk.execute(saved))
        assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, count)
        assert {step.step_name: step.records_out for step in done.steps}["read"] == count
    assert sorted(int(row["id"]) for row in desk.rows("out", "t")) == list(range(FEW))


async def test_few_rows_that_become_many_arrive_and_their_load_tells_how_far_it_is(desk: Desk) -> None:
    source = await desk.files("guests", [{"id": number} for number in range(FEW)])
    many: JsonObject = {"type": "sql", "config": {"query": f"SELECT id, unnest(range({TIMES})) AS n FROM read"}}
    load: JsonObject = {"destination_id": await desk.shelf("out"), "table_name": "t", "write_mode": "append"}
    execution = await desk.execute(
        await desk.pipeline(
            pipeline(
                step("read", "extract", {"source_id": source, "dataset": "rows"}),
                step("many", "transform", many, "read"),
                step("again", "transform", {"type": "deduplicate", "config": {"keys": ["id", "n"]}}, "many"),
                step("load", "load", load, "again"),
            )
        )
    )
    done = await desk.finished(execution)
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, FEW * TIMES)
    query = "SELECT count(*) FROM execution_events WHERE execution_id = $1 AND kind = 'step_progress'"
    async with desk.connect() as connection:
        assert await connection.fetchval(query, execution) > 0
