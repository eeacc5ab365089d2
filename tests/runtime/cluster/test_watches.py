"""What schedules wait for in sources is looked for by the runtime's workers, and starts their pipelines."""

from functools import partial

from redis.asyncio import Redis

from models.fields import Json, JsonObject
from tests.kit.desk import Desk
from tests.kit.eventually import eventually

LOOKED = """SELECT count(*) FROM schedules AS schedule JOIN data_pipelines AS pipeline ON pipeline.id = pipeline_id
    WHERE pipeline.id = $1 AND event_cursor <> '{}'"""
WITHIN = 30.0


async def waiting(desk: Desk, expression: str, extract: JsonObject) -> None:
    """Save a pipeline that loads `seated` when something happens, and wait until it was looked at once."""
    write: JsonObject = {"destination_id": await desk.shelf("hall"), "table_name": "seated", "write_mode": "append"}
    steps: list[Json] = [
        {"name": "read", "type": "extract", "config": extract},
        {"name": "load", "type": "load", "depends_on": ["read"], "config": write},
    ]
    schedule: JsonObject = {"type": "event", "expression": expression, "catch_up": "all", "overlap": "queue"}
    definition: JsonObject = {"pipeline_name": "seats", "pipeline_type": "etl", "steps": steps}
    identity = await desk.pipeline({**definition, "schedule_config": schedule})

    async with desk.connect() as connection:
        looked = partial(connection.fetchval, LOOKED, identity)
        await eventually(looked, within=WITHIN, because="a worker looks what is there")


async def seated(desk: Desk, *names: str) -> None:
    """Wait until these guests are seated."""

    async def are() -> bool:
        return sorted(row["name"] for row in desk.rows("hall", "seated")) == sorted(names)

    await eventually(are, within=WITHIN, because=f"{names} are loaded")


async def test_messages_start_a_pipeline_that_takes_each_of_them_once(desk: Desk) -> None:
    key, url = desk.name("answers"), desk.stack.addresses.redis_url
    streams: JsonObject = {"answers": {"key": key, "json_field": "body", "columns": {"name": "VARCHAR"}}}
    source = await desk.source("app", "redis", {"url": url, "streams": streams})
    extract: JsonObject = {"source_id": source, "dataset": "answers", "incremental": {"cursor_column": "_id"}}
    await waiting(desk, f"stream:{source}/answers", extract)
    async with Redis.from_url(url) as server:
        for name in ("Ada", "Ben"):
            await server.xadd(key, {"body": f'{{"name": "{name}"}}'})
        await seated(desk, "Ada", "Ben")
        await server.xadd(key, {"body": '{"name": "Ada"}'})
        await seated(desk, "Ada", "Ada", "Ben")
        await server.delete(key)


async def test_a_file_that_comes_starts_a_pipeline(desk: Desk) -> None:
    source = await desk.files("guests", [{"name": "Ada"}])
    await waiting(desk, f"file:{source}/*.csv", {"source_id": source, "dataset": "rows.csv"})
    desk.write("guests", [{"name": "Ben"}, {"name": "Cid"}])
    await seated(desk, "Ben", "Cid")


async def test_what_cannot_be_looked_at_is_told_of_the_schedule(desk: Desk) -> None:
    streams: JsonObject = {"answers": {"key": desk.name("answers"), "columns": {"name": "VARCHAR"}}}
    source = await desk.source("app", "redis", {"url": desk.stack.addresses.redis_url, "streams": streams})
    await waiting(desk, f"stream:{source}/gifts", {"source_id": source, "dataset": "answers"})
    found = await desk.ask(
        "query($name: String!) { pipeline(reference: $name) { schedule { problem } } }", name=desk.name("seats")
    )
    assert found["schedule"]["problem"] == "dataset: there is no stream 'gifts' (streams: answers)"
