"""Tests of compiling definitions to plans."""

import pytest

from models.fields import Json, JsonObject
from runtime.batches.types import UNKNOWN
from tests.runtime.pipelines.platform import (
    DATABASE_ID,
    WAREHOUSE_ID,
    compiled,
    entry,
    explicit,
    extract,
    load,
    refused,
    simple,
    transform,
)

WS_269: JsonObject = {
    "pipeline_name": "wedding-booking-etl",
    "pipeline_type": "etl",
    "description": "Process wedding booking data",
    "source_config": {
        "source_id": "wedding-api-db",
        "query": "SELECT * FROM bookings WHERE updated_at > :last_run",
        "batch_size": 1000,
    },
    "destination_config": {
        "destination_id": "analytics-warehouse",
        "table_name": "fact_bookings",
        "write_mode": "upsert",
    },
    "transformation_config": {
        "transformations": [
            {
                "type": "mapping",
                "config": {
                    "mappings": {"booking_id": "id", "venue_name": "venue.name", "day": "wedding_date"},
                },
            }
        ]
    },
    "schedule_config": {"type": "cron", "expression": "0 */4 * * *", "timezone": "UTC"},
}


def types(document: JsonObject, step: str) -> dict[str, str] | None:
    """The columns of a step with their types."""
    columns = compiled(document).step(step).columns
    return None if columns is None else {one.name: one.type for one in columns}


def test_the_pipeline_of_ws_269_compiles_to_one_task() -> None:
    plan = compiled(WS_269)
    (task,) = plan.tasks
    assert task.members == ("extract", "mapping_1", "load")
    read, write = plan.step("extract").extract, plan.step("load").load
    assert read is not None
    assert write is not None
    assert read.source == str(DATABASE_ID)
    assert read.reads_last_run
    assert read.batch_rows == 1000
    assert write.destination == str(WAREHOUSE_ID)
    assert write.key_columns == ("booking_id",)
    assert types(WS_269, "load") == {"booking_id": "BIGINT", "venue_name": "VARCHAR", "day": "DATE"}


def test_a_plan_survives_its_json() -> None:
    plan = compiled(WS_269)
    again = type(plan).model_validate_json(plan.model_dump_json())
    assert again == plan
    assert again.fingerprint == plan.fingerprint


def test_the_fingerprint_changes_with_the_plan_alone() -> None:
    changed = {**WS_269, "description": "other words"}
    assert compiled(changed).fingerprint == compiled(WS_269).fingerprint
    assert compiled({**WS_269, "pipeline_name": "other"}).fingerprint != compiled(WS_269).fingerprint


def test_types_go_from_step_to_step() -> None:
    document = explicit(
        extract("b"),
        extract("v", "venues"),
        transform(
            "j", "join", {"on": {"venue_id": "id"}, "how": "left", "columns": ["couple", "price", "name"]}, "b", "v"
        ),
        transform("d", "derive", {"columns": {"gross": "price * 1.2", "who": "couple || '!'"}}, "j"),
        transform("a", "aggregation", {"group_by": ["name"], "aggregates": {"n": "count(*)", "s": "sum(gross)"}}, "d"),
        load("l", "a"),
    )
    assert types(document, "d") == {
        "couple": "VARCHAR",
        "price": "DECIMAL(10, 2)",
        "name": "VARCHAR",
        "gross": "DECIMAL(12, 3)",
        "who": "VARCHAR",
    }
    assert types(document, "l") == {"name": "VARCHAR", "n": "BIGINT", "s": "DECIMAL(38, 3)"}


def test_sums_of_integers_leave_a_step_as_bigint() -> None:
    document = simple(entry("aggregation", group_by=["couple"], aggregates={"s": "sum(venue_id)"}))
    assert types(document, "load") == {"couple": "VARCHAR", "s": "BIGINT"}
    assert "CAST" in str(compiled(document).step("aggregation_1").sql)


def test_columns_of_an_undiscovered_source_are_open_and_noted() -> None:
    source: JsonObject = {"source_id": "new-db", "dataset": "anything"}
    open_ended = simple(entry("filter", condition="whatever > 1"), source_config=source)
    assert types(open_ended, "load") is None
    assert any("checked at the run" in note for note in compiled(open_ended).notes)
    mapped = simple(entry("mapping", mappings={"a": "b.c", "d": "e"}), source_config=source)
    assert types(mapped, "load") == {"a": "VARCHAR", "d": UNKNOWN}


def test_columns_after_a_mapping_are_checked_even_if_the_source_is_open() -> None:
    source: JsonObject = {"source_id": "new-db", "dataset": "anything"}
    document = simple(entry("mapping", mappings={"a": "b"}), entry("filter", condition="c > 1"), source_config=source)
    assert refused(document).path == "transformation_config.transformations[1].config.condition"


def test_a_pipeline_without_a_load_is_allowed_and_noted() -> None:
    plan = compiled(explicit(extract("b")))
    assert plan.notes == ("No step loads: the rows are counted and dropped.",)


def test_several_inputs_of_a_load_are_united_by_name() -> None:
    document = explicit(extract("b"), extract("v", "venues"), load("l", "b", "v"))
    step = compiled(document).step("l")
    assert step.sql == 'SELECT * FROM "b" UNION ALL BY NAME SELECT * FROM "v"'
    assert step.columns is not None
    assert [one.name for one in step.columns][-2:] == ["name", "capacity"]


def test_the_retry_policy_gives_the_default_of_the_steps() -> None:
    policy: dict[str, Json] = {"max_attempts": 5}
    document = explicit(extract("b"), load("l", "b", retry_attempts=0), retry_policy=policy)
    assert [step.retry_attempts for step in compiled(document).steps] == [4, 0]
    assert compiled(explicit(extract("b"))).steps[0].retry_attempts == 3
    assert compiled(explicit(extract("b"), retry_policy={"jitter": 0})).steps[0].retry_attempts == 3
    once: dict[str, Json] = {"max_attempts": 1}
    assert compiled(explicit(extract("b"), retry_policy=once)).steps[0].retry_attempts == 0


def test_disabled_steps_stay_in_the_plan_and_out_of_the_tasks() -> None:
    document = explicit(
        extract("b"), transform("f", "filter", {"condition": "nope"}, "b", is_enabled=False), load("l", "f")
    )
    plan = compiled(document)
    assert [(step.name, step.enabled) for step in plan.steps] == [("b", True), ("f", False), ("l", True)]
    assert [task.members for task in plan.tasks] == [("b", "l")]
    assert "Step 'f' does not run: it is disabled." in plan.notes


def test_two_columns_of_one_name_are_refused() -> None:
    config: JsonObject = {"on": {"venue_id": "id"}, "columns": ["b.id", "v.id"]}
    error = refused(explicit(extract("b"), extract("v", "venues"), transform("j", "join", config, "b", "v")))
    assert error.path == "steps[2].config.config"
    assert "two columns called 'id'" in error.message


@pytest.mark.parametrize(
    ("transformation", "key", "said"),
    [
        (entry("mapping", mappings={"price": "pryce"}), "mappings.price", "no column 'pryce'"),
        (entry("mapping", mappings={"n": "id.name"}), "mappings.n", "has no fields"),
        (entry("mapping", mapping={}), "mapping", "not a known key"),
        (entry("mapping"), "mappings", "required"),
        (entry("filter", condition="price >"), "condition", "does not parse at line 1, column 7"),
        (entry("filter", condition="pryce > 1"), "condition", "no column 'pryce' at line 1, column 1"),
        (entry("filter", conditions=[{"column": "pryce"}]), "conditions[0].column", "no column 'pryce'"),
        (entry("derive", columns={"x": "pryce + 1"}), "columns.x", "no column 'pryce'"),
        (entry("derive", columns={"x": "y", "y": "x"}), "columns.x", "x -> y -> x"),
        (entry("cast", columns={"price": "MONEY!"}), "columns.price", "not a column type"),
        (entry("cast", columns={"pryce": "INT"}), "columns.pryce", "no column 'pryce'"),
        (entry("aggregation", group_by=["cople"], aggregates={"n": "count(*)"}), "group_by[0]", "no column 'cople'"),
        (entry("aggregation", aggregates={"n": "sum(pryce)"}), "aggregates.n", "no column 'pryce'"),
        (entry("deduplicate", keys=["idd"]), "keys[0]", "no column 'idd'"),
        (entry("sql", query="SELECT pryce FROM input"), "query", "no column 'pryce'"),
        (entry("sql", query="SELECT * FROM inputs"), "query", "no table 'inputs'"),
        (entry("sql", query="DELETE FROM input"), "query", "not DELETE"),
        (
            entry("enrichment", source_id="nope", dataset="venues", on={"venue_id": "id"}),
            "source_id",
            "no source 'nope'",
        ),
        (
            entry("enrichment", source_id="wedding-api-db", dataset="venue", on={"venue_id": "id"}),
            "dataset",
            "no dataset 'venue'",
        ),
        (
            entry("enrichment", source_id="wedding-api-db", dataset="venues", on={"venue_id": "idd"}),
            "on.venue_id",
            "no column 'idd'",
        ),
    ],
)
def test_bad_input_of_a_transform_is_refused_with_its_path(transformation: JsonObject, key: str, said: str) -> None:
    error = refused(simple(transformation))
    assert error.path == f"transformation_config.transformations[0].config.{key}"
    assert said in error.message
    assert error.hint or "required" in said


def test_a_transform_of_two_inputs_is_refused_in_the_simple_form() -> None:
    error = refused(simple(entry("join", using=["id"])))
    assert error.path == "transformation_config.transformations[0]"
    assert "explicit form" in str(error.hint)


def test_a_bad_column_far_down_is_named_at_its_own_step() -> None:
    steps = [
        extract("b"),
        *(transform(f"f{i}", "filter", {"condition": "id > 1"}, f"f{i - 1}" if i else "b") for i in range(8)),
    ]
    error = refused(explicit(*steps, transform("bad", "mapping", {"mappings": {"x": "cuple"}}, "f7")))
    assert error.path == "steps[9].config.config.mappings.x"
