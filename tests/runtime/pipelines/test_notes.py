"""Tests of what a person is told of a plan before its run."""

import pytest

from models.fields import Json, JsonObject
from tests.runtime.pipelines.platform import compiled, entry, explicit, extract, load, simple, transform


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pipeline_type", "sync", "runs as etl does"),
        ("quality_checks", [{"rule_id": "r", "threshold": 95, "action": "fail"}], "no rows are checked yet"),
        ("alert_config", {"on_failure": True}, "nobody is told"),
    ],
)
def test_a_setting_that_nothing_acts_on_yet_is_told(key: str, value: Json, said: str) -> None:
    (note,) = compiled(simple(**{key: value})).notes
    assert said in note


def test_a_pipeline_that_does_all_it_says_has_no_notes() -> None:
    assert compiled(simple(entry("filter", condition="id > 1"))).notes == ()


def test_a_step_whose_rows_go_nowhere_is_told() -> None:
    steps = extract("b"), transform("clean", "filter", {"condition": "id > 1"}, "b"), load("l", "b")
    (note,) = compiled(explicit(*steps)).notes
    assert "'clean' go nowhere" in note


def incremental(mode: str) -> JsonObject:
    """A pipeline that loads what changed, after a filter."""
    source: JsonObject = {
        "source_id": "wedding-api-db",
        "dataset": "bookings",
        "incremental": {"cursor_column": "updated_at"},
    }
    keys: list[Json] = ["id"]
    config: JsonObject = {"destination_id": "mirror", "table_name": "t", "write_mode": mode, "key_columns": keys}
    return simple(entry("filter", condition="id > 1"), source_config=source, destination_config=config)


def test_an_overwrite_with_what_changed_is_told_for_it_loses_the_rest() -> None:
    (note,) = compiled(incremental("overwrite")).notes
    assert "overwrites t with what changed since the last run alone" in note
    assert compiled(incremental("upsert")).notes == ()


def test_a_step_that_may_run_in_parallel_and_does_not_is_told() -> None:
    divided = explicit(extract("b", parallel_execution=True), load("l", "b", parallel_execution=True))
    assert compiled(divided).notes == ()
    whole = explicit(extract("v", "venues", parallel_execution=True), load("l", "v", parallel_execution=True))
    read, written = compiled(whole).notes
    assert "'v' is read in one part" in read
    assert "'l' runs in one part" in written
