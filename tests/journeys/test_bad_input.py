"""Bad input: each kind gives a typed error that names place and remedy, and leaves the destination as it was."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from models.executions import ExecutionState
from models.fields import Json, JsonObject
from tests.kit.desk import CREATE_PIPELINE, Desk
from tests.kit.graphql import serving

ROWS = [{"id": number, "amount": number * 1.5, "city": f"c{number}"} for number in range(5)]
ONCE_MORE: JsonObject = {"max_attempts": 2, "initial_seconds": 0.05}
NOBODY = "127.0.0.1:9"
"""The discard port, on which nobody listens."""


def extract(source: str, **config: Json) -> JsonObject:
    return {"name": "read", "type": "extract", "config": {"source_id": source, **config}}


def transform(kind: str, config: JsonObject, *inputs: str, name: str = "change") -> JsonObject:
    step: JsonObject = {"type": kind, "config": config}
    return {"name": name, "type": "transform", "depends_on": list(inputs or ["read"]), "config": step}


def load(destination: str, after: str = "read") -> JsonObject:
    config: JsonObject = {"destination_id": destination, "table_name": "t", "write_mode": "append"}
    return {"name": "load", "type": "load", "depends_on": [after], "config": config}


def pipeline(*steps: JsonObject) -> JsonObject:
    return {"pipeline_name": "p", "pipeline_type": "etl", "retry_policy": ONCE_MORE, "steps": list(steps)}


@pytest.fixture
async def places(desk: Desk) -> tuple[str, str]:
    """A discovered CSV source with `rows.csv`, and a shelf."""
    return await desk.files("in", ROWS), await desk.shelf("out")


def sane(source: str, shelf: str) -> JsonObject:
    return pipeline(extract(source, dataset="rows.csv"), load(shelf))


def simple(source: str, shelf: str, **changes: Json) -> JsonObject:
    return {
        "pipeline_name": "p",
        "pipeline_type": "etl",
        "source_config": {"source_id": source, "dataset": "rows.csv"},
        "destination_config": {"destination_id": shelf, "table_name": "t", "write_mode": "append"},
        **changes,
    }


def reading(source: str, shelf: str, *steps: JsonObject, last: str = "change") -> JsonObject:
    return pipeline(extract(source, dataset="rows.csv"), *steps, load(shelf, last))


def mapping(config: JsonObject) -> JsonObject:
    return {"transformations": [{"type": "mapping", "config": config}]}


REFUSED: dict[str, tuple[Callable[[str, str], JsonObject], str, str]] = {
    "an unknown key": (
        lambda source, shelf: simple(source, shelf, transformation_config=mapping({"maping": {"a": "id"}})),
        "transformation_config.transformations[0].config.maping",
        "mappings",
    ),
    "a wrong type": (
        lambda source, shelf: simple(source, shelf, source_config={"source_id": source, "batch_size": "many"}),
        "source_config.batch_size",
        "integer",
    ),
    "a cycle": (
        lambda source, shelf: reading(
            source,
            shelf,
            transform("filter", {"condition": "id > 1"}, "second", name="first"),
            transform("filter", {"condition": "id > 2"}, "first", name="second"),
            last="second",
        ),
        "steps[1].depends_on",
        "first -> second -> first",
    ),
    "a missing dependency": (
        lambda source, shelf: reading(source, shelf, last="reed"),
        "steps[1].depends_on",
        "read",
    ),
    "a duplicate step": (
        lambda source, shelf: reading(source, shelf, transform("filter", {"condition": "id > 1"}, name="read")),
        "steps[1].name",
        "read",
    ),
    "an unknown source": (
        lambda source, shelf: sane("nowhere", shelf),
        "steps[0].config.source_id",
        "nowhere",
    ),
    "an unknown destination": (
        lambda source, shelf: sane(source, "nowhere"),
        "steps[1].config.destination_id",
        "nowhere",
    ),
    "an unknown transform": (
        lambda source, shelf: reading(source, shelf, transform("filtre", {"condition": "id > 1"})),
        "steps[1].config.type",
        "filter",
    ),
    "SQL that does not parse": (
        lambda source, shelf: reading(source, shelf, transform("filter", {"condition": "id >> > 1 AND"})),
        "steps[1].config.config.condition",
        "line 1, column",
    ),
    "a missing column": (
        lambda source, shelf: reading(source, shelf, transform("filter", {"condition": "amuont > 1"})),
        "steps[1].config.config.condition",
        "amount",
    ),
    "a missing nested column": (
        lambda source, shelf: reading(source, shelf, transform("mapping", {"mappings": {"x": "venue.name"}})),
        "steps[1].config.config.mappings.x",
        "venue",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_bad_definition_is_refused_on_save_with_its_place_and_the_remedy(
    desk: Desk, places: tuple[str, str], case: str
) -> None:
    made, path, word = REFUSED[case]
    definition = desk.own(made(*places))
    refused = await desk.ask(CREATE_PIPELINE, definition=definition)
    assert refused["__typename"] == "InvalidError", refused
    assert refused["path"].startswith(path), refused
    assert word in f"{refused['message']} {refused['hint']}", refused
    assert refused["hint"] or "should be" in refused["message"], refused
    problem = await desk.http.post("/api/data-pipelines", json=definition)
    assert problem.status_code == 400
    assert problem.headers["content-type"] == "application/problem+json"
    assert (problem.json()["path"], problem.json()["detail"]) == (refused["path"], refused["message"])


async def test_a_second_pipeline_of_the_same_name_is_a_conflict(desk: Desk, places: tuple[str, str]) -> None:
    await desk.pipeline(sane(*places))
    refused = await desk.ask(CREATE_PIPELINE, definition=desk.own(sane(*places)))
    assert refused["__typename"] == "ConflictError"
    assert desk.name("p") in refused["message"]
    assert refused["path"] == "pipeline_name"
    assert refused["hint"]


Place = Callable[[Desk], Awaitable[str]]


@pytest.fixture
async def trouble() -> AsyncIterator[str]:
    """An API that answers what it should not, under `/broken`, `/page` and `/half`."""

    async def broken(request: Request) -> Response:
        return PlainTextResponse("the database is on fire", 500)

    async def page(request: Request) -> Response:
        return HTMLResponse("<html><h1>Sign in</h1></html>")

    async def half(request: Request) -> Response:
        return Response('[{"id": 1}, {"id":', media_type="application/json")

    routes = [Route("/broken", broken), Route("/page", page), Route("/half", half)]
    async with serving(Starlette(routes=routes)) as address:
        yield address


async def failed(desk: Desk, shelf: str, definition: JsonObject) -> dict[str, Any]:
    """Load some rows, run what must fail after it, and see that the rows are still those; its `error_details`."""
    good = await desk.files("good", ROWS)
    first = await desk.run({**sane(good, shelf), "pipeline_name": "before"})
    assert first.state is ExecutionState.COMPLETED, first.error_details
    before = desk.rows("out", "t")
    assert len(before) == len(ROWS)
    done = await desk.run(definition)
    assert desk.rows("out", "t") == before
    return await details(desk, str(done.id))


async def details(desk: Desk, execution: str) -> dict[str, Any]:
    """The `error_details` of a failed execution as WS-269's REST tells them, and the remedy that GraphQL adds."""
    query = (
        "query($id: String!) { execution(reference: $id) { executionId status pipeline { id } "
        "errorDetails { errorType errorMessage failedStep retryCount hint path } } }"
    )
    found = await desk.ask(query, id=execution)
    assert found["status"] == "FAILED"
    where = f"/api/data-pipelines/{found['pipeline']['id']}/executions/{found['executionId']}/details"
    told = (await desk.http.get(where)).json()["execution"]
    assert told["status"] == "failed"
    assert set(told["error_details"]) == {"error_type", "error_message", "failed_step", "retry_count"}
    assert told["error_details"]["error_message"] == found["errorDetails"]["errorMessage"]
    result: dict[str, Any] = found["errorDetails"]
    assert result["hint"], result
    return result


async def http_source(desk: Desk, address: str, dataset: str) -> str:
    """A source of one endpoint, which is asked once."""
    endpoint: JsonObject = {"path": f"/{dataset}", "columns": {"id": "BIGINT", "amount": "DOUBLE", "city": "VARCHAR"}}
    connection: JsonObject = {"base_url": f"http://{address}", "endpoints": {dataset: endpoint}}
    return await desk.source(dataset, "http", {**connection, "retry": {"attempts": 1}}, discover=False)


@pytest.mark.parametrize(
    ("dataset", "words", "tries"),
    [("broken", "500", 1), ("page", "a web page", 0), ("half", "JSON", 0)],
)
async def test_an_api_that_answers_what_it_should_not_is_told_with_its_endpoint(
    desk: Desk, trouble: str, dataset: str, words: str, tries: int
) -> None:
    source, shelf = await http_source(desk, trouble, dataset), await desk.shelf("out")
    told = await failed(desk, shelf, pipeline(extract(source, dataset=dataset), load(shelf)))
    assert words.lower() in told["errorMessage"].lower(), told
    assert dataset in told["errorMessage"], told
    assert (told["failedStep"], told["retryCount"]) == ("read", tries), told


async def test_an_api_that_is_down_is_told_with_its_address_and_was_tried_again(desk: Desk) -> None:
    source, shelf = await http_source(desk, NOBODY, "away"), await desk.shelf("out")
    told = await failed(desk, shelf, pipeline(extract(source, dataset="away"), load(shelf)))
    assert NOBODY in told["errorMessage"], told
    assert (told["failedStep"], told["retryCount"]) == ("read", 1), told


async def test_a_database_that_is_down_is_told_with_its_address_and_was_tried_again(desk: Desk) -> None:
    connection: JsonObject = {"host": "127.0.0.1", "port": 9, "database": "away", "user": "nobody"}
    source, shelf = await desk.source("away", "postgres", connection, discover=False), await desk.shelf("out")
    told = await failed(desk, shelf, pipeline(extract(source, query="SELECT 1 AS id"), load(shelf)))
    assert "127.0.0.1:9" in told["errorMessage"], told
    assert (told["failedStep"], told["retryCount"]) == ("read", 1), told


async def test_a_broken_row_of_a_csv_file_is_told_by_file_and_line(desk: Desk) -> None:
    source, shelf = await desk.files("torn", ROWS), await desk.shelf("out")
    (desk.folder / "torn" / "rows.csv").write_text("id,amount,city\n1,2.5,a\n2,3.5\n3,4.5,c\n")
    told = await failed(desk, shelf, sane(source, shelf))
    assert "rows.csv" in told["errorMessage"], told
    assert "line 3" in told["errorMessage"], told
    assert "on_bad_row" in told["hint"], told
    assert told["failedStep"] == "read", told


async def test_a_value_that_overflows_its_type_is_told_with_the_step(desk: Desk) -> None:
    source, shelf = await desk.files("big", [{"id": 2_000_000, "amount": 1.0, "city": "c"}]), await desk.shelf("out")
    narrow = transform("cast", {"columns": {"id": "SMALLINT"}})
    told = await failed(desk, shelf, reading(source, shelf, narrow))
    assert "2000000" in told["errorMessage"], told
    assert told["failedStep"] == "change", told


async def test_a_column_that_is_missing_in_an_undiscovered_source_fails_at_the_run(desk: Desk) -> None:
    desk.write("late", ROWS)
    late = await desk.source("late", "csv", {"root": str(desk.folder / "late")}, discover=False)
    shelf = await desk.shelf("out")
    told = await failed(desk, shelf, reading(late, shelf, transform("filter", {"condition": "amuont > 1"})))
    assert "amuont" in told["errorMessage"], told
    assert told["failedStep"] == "change", told


UNFIT: dict[str, tuple[str, str, str]] = {
    "a column it does not have": ("id bigint, amount float8", "city", "id"),
    "another type": ("id bigint, amount float8, city date", "city", "id"),
    "a column that needs a value": ("id bigint, amount float8, city text, due int NOT NULL", "due", "id"),
    "a type that overflows": ("id smallint, amount float8, city text", "id", "id * 100000"),
    "a null where none may be": ("id bigint NOT NULL, amount float8, city text", "id", "nullif(id, 3)"),
    "a broken constraint": ("id bigint CHECK (id < 4), amount float8, city text", "t_id_check", "id"),
    "a key that is there": ("id bigint PRIMARY KEY, amount float8, city text", "t_pkey", "id"),
}
"""The columns of a table with one row, the word that tells the place, and what becomes of `id` on the way there."""


@pytest.mark.parametrize("case", UNFIT)
async def test_rows_that_do_not_fit_the_destinations_table_leave_it_as_it_was(
    desk: Desk, places: tuple[str, str], case: str
) -> None:
    columns, word, identity = UNFIT[case]
    name = await desk.database("unfit")
    async with desk.connect(name) as connection:
        await connection.execute(f"CREATE TABLE t ({columns})")
        due = ", NULL, 7" if "due" in columns else ""
        await connection.execute(f"INSERT INTO t VALUES (1, 0.5{due})")
        rows = await connection.fetch("SELECT * FROM t")
    destination = await desk.destination("unfit", "postgres", desk.reach(name))
    change = transform("derive", {"columns": {"id": identity}})
    done = await desk.run(reading(places[0], destination, change))
    told = await details(desk, str(done.id))
    assert word in told["errorMessage"], told
    assert told["failedStep"] == "load", told
    async with desk.connect(name) as connection:
        assert await connection.fetch("SELECT * FROM t") == rows
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {table["tablename"] for table in tables} <= {"t", "_wedsync_ledger", "_wedsync_cursors"}


async def test_a_bad_parameter_is_told_by_its_name(desk: Desk) -> None:
    name, shelf = await desk.database("asked"), await desk.shelf("out")
    source = await desk.source("asked", "postgres", desk.reach(name))
    query = "SELECT 1 AS id, 1.5::float8 AS amount, 'c' AS city WHERE now() > :since::timestamptz"
    definition = pipeline(extract(source, query=query), load(shelf))
    missing = await failed(desk, shelf, definition)
    assert "since" in missing["errorMessage"], missing
    assert missing["failedStep"] == "read", missing
