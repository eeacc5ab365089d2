"""Tests of compiling extract steps."""

import pytest

from models.errors import Invalid
from models.fields import Json, JsonObject, StrictModel
from runtime.batches.types import UNKNOWN
from runtime.connectors._contract import Source
from runtime.pipelines.definition import ExtractConfig
from runtime.pipelines.extraction import compile_extract
from runtime.pipelines.plan import ExtractPlan
from runtime.registry import Registry
from tests.runtime.pipelines.platform import CATALOG, DATABASE_ID, compiled, refused, simple


def planned(**config: Json) -> tuple[ExtractPlan, dict[str, str] | None]:
    """The plan of an extract from the database, and the columns it gives."""
    plan, columns = compile_extract(
        ExtractConfig.model_validate({"source_id": "wedding-api-db", **config}), "c", CATALOG, parallel=False
    )
    return plan, None if columns is None else {one.name: one.type for one in columns}


def path_and_words(**config: Json) -> tuple[str | None, str]:
    """Where and why an extract from the database is refused."""
    error = refused(simple(source_config={"source_id": "wedding-api-db", **config}))
    return error.path, str(error)


@pytest.mark.parametrize("dataset", ["bookings", "public.bookings", "BOOKINGS"])
def test_a_dataset_gives_its_discovered_columns(dataset: str) -> None:
    _, columns = planned(dataset=dataset)
    assert columns is not None
    assert list(columns)[:3] == ["id", "venue_id", "couple"]


@pytest.mark.parametrize("reference", ["wedding-api-db", str(DATABASE_ID)])
def test_a_source_is_named_by_uuid_or_name(reference: str) -> None:
    assert planned(source_id=reference, dataset="bookings")[0].source == str(DATABASE_ID)


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("SELECT id, couple AS Who FROM bookings", {"id": "BIGINT", "who": "VARCHAR"}),
        ('SELECT id AS "Id" FROM public.bookings b', {"Id": "BIGINT"}),
        ("SELECT price::text AS p, id::int4 AS i FROM bookings", {"p": "VARCHAR", "i": "INT"}),
        ("SELECT id + 1 AS next, count(*) AS n FROM bookings GROUP BY 1", {"next": UNKNOWN, "n": UNKNOWN}),
        ("SELECT v.name FROM bookings b JOIN venues v ON v.id = b.venue_id", {"name": "VARCHAR"}),
        ("SELECT price::numeric AS p FROM bookings WHERE ctid IS NOT NULL", {"p": UNKNOWN}),
        ("WITH w AS (SELECT id FROM bookings WHERE couple ~ 'A' LIMIT 5) SELECT * FROM w", {"id": "BIGINT"}),
        ("SELECT x FROM a_view", {"x": UNKNOWN}),
        ("SELECT row_to_json(b) AS j FROM bookings b", {"j": UNKNOWN}),
        ("SELECT * FROM a_view", None),
        ("SELECT count(*) FROM bookings", None),
    ],
)
def test_a_query_is_read_in_the_source_s_dialect_against_its_tables(query: str, columns: dict[str, str] | None) -> None:
    assert planned(query=query)[1] == columns


def test_parameters_of_a_query_stay_parameters() -> None:
    plan, _ = planned(query="SELECT * FROM bookings WHERE wedding_date >= :since AND couple = ':last_run'")
    assert not plan.reads_last_run
    assert plan.query is not None
    assert ":since" in plan.query


@pytest.mark.parametrize("name", ["from", "to", "select", "order", "date", "user", "From"])
def test_a_parameter_may_be_named_as_a_reserved_word(name: str) -> None:
    query = f"SELECT id, ':{name}' AS text FROM bookings WHERE wedding_date >= :{name}::date AND id > :{name}"
    plan, columns = planned(query=query)
    assert plan.query == query
    assert list(columns or ()) == ["id", "text"]


def test_what_does_not_parse_is_told_as_it_was_written() -> None:
    path, words = path_and_words(query="SELECT id FROM bookings WHERE wedding_date > :from AND (id >")
    assert path == "source_config.query"
    assert "does not parse at line 1" in words
    assert ":from_" not in words


def test_last_run_makes_a_read_incremental() -> None:
    plan = compiled(simple(source_config={"source_id": "guest-files", "query": "changed > :last_run"}))
    read = plan.step("extract").extract
    assert read is not None
    assert read.reads_last_run
    assert read.incremental


def test_an_incremental_read_keeps_its_column_start_and_lag() -> None:
    incremental: dict[str, Json] = {"cursor_column": "name", "initial": "a", "lag_seconds": 60}
    plan = compiled(simple(source_config={"source_id": "guest-files", "incremental": incremental}))
    read = plan.step("extract").extract
    assert read is not None
    assert (read.cursor_column, read.cursor_initial, read.cursor_lag_seconds) == ("name", "a", 60)


def test_columns_are_named_as_the_source_spells_them() -> None:
    plan, _ = planned(
        dataset="bookings",
        filters={"COUPLE": "A"},
        incremental={"cursor_column": "Updated_At"},
        partition={"column": "ID"},
    )
    assert (dict(plan.filters), plan.cursor_column, plan.partition_column) == ({"couple": "A"}, "updated_at", "id")


def test_partitions_come_from_the_partition_or_from_parallel_execution() -> None:
    plan, _ = planned(dataset="bookings", partition={"column": "id", "count": 8})
    assert (plan.partition_column, plan.partitions) == ("id", 8)
    config = ExtractConfig(source_id="wedding-api-db", dataset="bookings")
    plan, _ = compile_extract(config, "c", CATALOG, parallel=True)
    assert (plan.partition_column, plan.partitions) == ("id", 4)
    plan, _ = compile_extract(config, "c", CATALOG, parallel=False)
    assert (plan.partition_column, plan.partitions) == (None, 1)


@pytest.mark.parametrize(
    ("config", "partitions"),
    [
        ({"source_id": "wedding-api-db", "dataset": "venues"}, 1),
        ({"source_id": "wedding-api-db", "query": "SELECT * FROM bookings"}, 1),
        ({"source_id": "new-db", "dataset": "bookings"}, 1),
        ({"source_id": "guest-files"}, 4),
    ],
    ids=["a key of two columns", "a query", "an undiscovered table", "files"],
)
def test_a_read_without_a_column_to_divide_by_is_planned_in_one_part(config: dict[str, Json], partitions: int) -> None:
    plan, _ = compile_extract(ExtractConfig.model_validate(config), "c", CATALOG, parallel=True)
    assert (plan.partition_column, plan.partitions) == (None, partitions)


@pytest.mark.parametrize(
    ("config", "path", "said"),
    [
        ({"source_id": "weding-api-db"}, "source_id", "did you mean `wedding-api-db`?"),
        ({"source_id": "00000000-0000-0000-0000-00000000dead"}, "source_id", "no source"),
        ({"source_id": "old-db", "dataset": "x"}, "source_id", "not active"),
        ({"dataset": "bokings"}, "dataset", "discover the source again"),
        ({"dataset": "bookings", "query": "SELECT 1"}, "dataset", "both a query and a dataset"),
        ({}, None, "neither a query nor a dataset"),
        ({"query": "SELECT FROM WHERE"}, "query", "it is read as PostgreSQL has it"),
        ({"query": "DELETE FROM bookings"}, "query", "not DELETE"),
        ({"query": "SELECT 1; DROP TABLE bookings"}, "query", "2 statements"),
        ({"query": "SELECT id INTO copy FROM bookings"}, "query", "not INTO"),
        ({"query": "SELECT cuple FROM bookings"}, "query", "did you mean `couple`?"),
        ({"dataset": "bookings", "filters": {"cuple": 1}}, "filters.cuple", "no column 'cuple'"),
        ({"dataset": "bookings", "filters": {"id": {"~": 1}}}, "filters.id.~", "no operator '~'"),
        ({"dataset": "bookings", "filters": {"id": 1, "ID": 2}}, "filters.ID", "a second time"),
        ({"dataset": "bookings", "partition": {"column": "idd"}}, "partition.column", "no column 'idd'"),
        ({"dataset": "bookings", "partition": {"column": "couple"}}, "partition.column", "VARCHAR"),
        (
            {"source_id": "guest-files", "incremental": {"cursor_column": "nam"}},
            "incremental.cursor_column",
            "did you mean `name`?",
        ),
        (
            {"source_id": "vendor-api", "query": "/vendors?since=:last_run"},
            "source_id",
            "no source of kind 'no-such-kind'",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_path(config: JsonObject, path: str | None, said: str) -> None:
    place, words = path_and_words(**config)
    assert place == (f"source_config.{path}" if path else "source_config")
    assert said in words


class OnceSource(Source[StrictModel]):
    """A source that cannot be read incrementally; never opened here."""

    kind = "postgres"


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"query": "SELECT * FROM bookings WHERE updated_at > :last_run"}, "c.query"),
        ({"dataset": "bookings", "incremental": {"cursor_column": "updated_at"}}, "c.incremental"),
    ],
)
def test_a_source_that_cannot_be_read_incrementally_is_refused(config: JsonObject, path: str) -> None:
    plugins: Registry[type[Source[StrictModel]]] = Registry("source", "tests.runtime.pipelines", "none")
    plugins.register(OnceSource)  # type: ignore[type-abstract]  # never made
    parsed = ExtractConfig.model_validate({"source_id": "wedding-api-db", **config})
    with pytest.raises(Invalid) as caught:
        compile_extract(parsed, "c", CATALOG, parallel=False, plugins=plugins)
    assert caught.value.path == path
