"""Previews run to their end in a worker of the runtime: first rows and schema after each step, nothing committed."""

from typing import Any

from models.fields import JsonObject
from tests.kit.desk import ERROR, Desk

GUESTS = [{"id": number, "booking": number % 3, "seats": f"{number}.5"} for number in range(40)]
BOOKINGS = [{"booking": 0, "couple": "Ada & Bo"}, {"booking": 1, "couple": "Cy & Di"}]
PREVIEW = f"""mutation($input: PreviewPipelineInput!) {{
    previewPipeline(input: $input) {{
        __typename ... on Preview {{ steps {{
            name type columns {{ name type }} rows recordsIn recordsOut error hint }} }} {ERROR} }} }}"""


def read(name: str, source: str) -> JsonObject:
    return {"name": name, "type": "extract", "config": {"source_id": source, "dataset": "rows.csv"}}


def transform(name: str, kind: str, config: JsonObject, *inputs: str) -> JsonObject:
    return {"name": name, "type": "transform", "depends_on": list(inputs), "config": {"type": kind, "config": config}}


def load(destination: str, *inputs: str) -> JsonObject:
    config: JsonObject = {"destination_id": destination, "table_name": "seated", "write_mode": "append"}
    return {"name": "load", "type": "load", "depends_on": list(inputs), "config": config}


def pipeline(*steps: JsonObject) -> JsonObject:
    return {"pipeline_name": "seats", "pipeline_type": "etl", "steps": list(steps)}


async def previewed(desk: Desk, definition: JsonObject, limit: int = 20) -> dict[str, Any]:
    """What each step shows, by its name."""
    answer = await desk.ask(PREVIEW, input={"definition": desk.own(definition), "limit": limit})
    assert answer["__typename"] == "Preview", answer
    return {step["name"]: step for step in answer["steps"]}


def told(step: dict[str, Any]) -> tuple[dict[str, str], Any, tuple[int, int]]:
    """A step's columns by name, its rows and its counts, which come without an error."""
    assert (step["error"], step["hint"]) == (None, None)
    columns = {column["name"]: column["type"] for column in step["columns"]}
    return columns, step["rows"], (step["recordsIn"], step["recordsOut"])


async def test_each_step_shows_its_first_rows_and_its_schema_and_the_load_commits_nothing(desk: Desk) -> None:
    hall = await desk.database("hall")
    async with desk.connect(hall) as connection:
        await connection.execute("CREATE TABLE seated (id bigint, booking bigint, seats numeric(6, 2))")
        await connection.execute("INSERT INTO seated VALUES (-1, 0, 0)")
    chain = pipeline(
        read("guests", await desk.files("guests", GUESTS)),
        transform("even", "filter", {"condition": "id % 2 = 0"}, "guests"),
        transform("typed", "cast", {"columns": {"seats": "DECIMAL(6, 2)"}}, "even"),
        load(await desk.destination("hall", "postgres", desk.reach(hall)), "typed"),
    )
    steps = await previewed(desk, chain, limit=10)
    assert list(steps) == ["guests", "even", "typed", "load"]
    assert [step["type"] for step in steps.values()] == ["EXTRACT", "TRANSFORM", "TRANSFORM", "LOAD"]
    columns, rows, counts = told(steps["guests"])
    assert (list(columns), counts) == (["id", "booking", "seats"], (10, 10))
    assert [row[0] for row in rows] == list(range(10))
    assert told(steps["even"])[2] == (10, 5)
    seated = [[number, number % 3, f"{number}.50"] for number in (0, 2, 4, 6, 8)]
    assert told(steps["typed"]) == ({"id": "BIGINT", "booking": "BIGINT", "seats": "DECIMAL(6, 2)"}, seated, (5, 5))
    assert told(steps["load"]) == told(steps["typed"])
    async with desk.connect(hall) as connection:
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM seated")] == [(-1, 0, 0)]
        made = "SELECT relname FROM pg_class WHERE relnamespace >= 16384 OR relnamespace = 'public'::regnamespace"
        assert [row["relname"] for row in await connection.fetch(made)] == ["seated"]


async def test_a_join_is_shown_with_what_either_side_gave(desk: Desk) -> None:
    both = pipeline(
        read("guests", await desk.files("guests", GUESTS)),
        read("bookings", await desk.files("bookings", BOOKINGS)),
        transform("joined", "join", {"using": ["booking"]}, "guests", "bookings"),
        transform("counted", "aggregation", {"group_by": ["couple"], "aggregates": {"n": "count(*)"}}, "joined"),
        load(await desk.shelf("out"), "counted"),
    )
    steps = await previewed(desk, both, limit=9)
    assert told(steps["bookings"])[2] == (2, 2)
    columns, rows, counts = told(steps["joined"])
    assert {"id", "booking", "seats", "couple"} <= set(columns)
    assert (len(rows), counts) == (6, (11, 6))
    columns, rows, counts = told(steps["counted"])
    assert columns == {"couple": "VARCHAR", "n": "BIGINT"}
    assert sorted(rows) == [["A***", 3], ["C***", 3]]
    assert told(steps["load"])[2] == (2, 2)
    assert desk.rows("out", "seated") == []


async def test_a_step_that_fails_says_why_and_those_after_it_what_they_miss(desk: Desk) -> None:
    hall = await desk.database("hall")
    async with desk.connect(hall) as connection:
        await connection.execute("CREATE TABLE seated (id bigint NOT NULL, place text NOT NULL)")
    guests = await desk.files("guests", GUESTS)
    broken = pipeline(
        read("guests", guests),
        transform("typed", "cast", {"columns": {"seats": "DATE"}}, "guests"),
        load(await desk.shelf("out"), "typed"),
    )
    steps = await previewed(desk, broken)
    assert told(steps["guests"])[2] == (20, 20)
    assert steps["typed"]["error"]
    assert "on_error" in steps["typed"]["hint"]
    assert (steps["load"]["error"], steps["load"]["rows"]) == ("needs typed", [])
    unfit = pipeline(
        read("guests", guests), load(await desk.destination("hall", "postgres", desk.reach(hall)), "guests")
    )
    refused = (await previewed(desk, unfit))["load"]
    assert "booking" in refused["error"]
    assert refused["hint"]
