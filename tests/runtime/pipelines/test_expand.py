"""Tests of turning both forms of a definition into steps."""

import pytest

from models.errors import Invalid
from models.fields import JsonObject
from runtime.pipelines.definition import ExtractStep, TransformStep, parse_definition
from runtime.pipelines.expand import expand, placed_steps, references
from tests.runtime.pipelines.platform import definition, entry, explicit, extract, load, simple, transform

LOOKUP = entry("enrichment", source_id="venues-db", dataset="venues", on={"venue_id": "id"}, columns=["name"])


def test_the_simple_form_becomes_extract_transforms_and_load() -> None:
    steps = expand(definition(simple(entry("filter", condition="true"), entry("mapping", mappings={"a": "b"}))))
    assert [step.name for step in steps] == ["extract", "filter_1", "mapping_2", "load"]
    assert [step.depends_on for step in steps] == [[], ["extract"], ["filter_1"], ["mapping_2"]]


def test_without_transforms_the_load_reads_the_extract() -> None:
    document = simple()
    del document["transformation_config"]
    assert [step.depends_on for step in expand(definition(document))] == [[], ["extract"]]


@pytest.mark.parametrize("form", ["simple", "explicit"])
def test_a_lookup_becomes_an_extract_of_its_own_before_the_step_that_reads_it(form: str) -> None:
    config = LOOKUP["config"]
    assert isinstance(config, dict)
    steps = (
        extract("e"),
        transform("enrichment_1", "enrichment", config, "e", retry_attempts=7),
        load("l", "enrichment_1"),
    )
    document = simple(LOOKUP) if form == "simple" else explicit(*steps)
    found = expand(definition(document))
    lookup, reader = found[1], found[2]
    assert isinstance(lookup, ExtractStep)
    assert isinstance(reader, TransformStep)
    assert lookup.name == "enrichment_1__lookup"
    assert lookup.config.source_id == "venues-db"
    assert lookup.config.dataset == "venues"
    assert lookup.retry_attempts == reader.retry_attempts
    assert reader.depends_on[-1] == lookup.name


def test_each_step_knows_where_it_was_written() -> None:
    short = placed_steps(definition(simple(entry("filter", condition="true"))))
    assert [one.config_path for one in short] == [
        "source_config",
        "transformation_config.transformations[0]",
        "destination_config",
    ]
    written = placed_steps(definition(explicit(extract("e"), load("l", "e"))))
    assert [one.config_path for one in written] == ["steps[0].config", "steps[1].config"]


def test_the_sources_and_destinations_that_it_names_are_told() -> None:
    assert references(definition(simple(LOOKUP))) == ["wedding-api-db", "venues-db", "analytics-warehouse"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pipeline_typ": "etl"}, "pipeline_typ"),
        ({"pipeline_type": "elt"}, "pipeline_type"),
        ({"pipeline_name": ""}, "pipeline_name"),
        ({"source_config": {"source_id": "x", "quer": "y"}}, "source_config.quer"),
        ({"source_config": {"source_id": "x", "batch_size": "many"}}, "source_config.batch_size"),
        ({"source_config": {"source_id": "x", "batch_size": 0}}, "source_config.batch_size"),
        ({"destination_config": {"destination_id": "x"}}, "destination_config.table_name"),
        (
            {"destination_config": {"destination_id": "x", "table_name": "t", "write_mode": "merge"}},
            "destination_config.write_mode",
        ),
        (
            {"transformation_config": {"transformations": [{"type": "filter", "conf": {}}]}},
            "transformation_config.transformations[0].conf",
        ),
        ({"tags": "a"}, "tags"),
        ({"steps": []}, None),
        ({"source_config": None}, None),
        ({"retry_policy": {"max_attempts": 0}}, "retry_policy.max_attempts"),
        ({"schedule_config": {"type": "cron"}}, "schedule_config.expression"),
    ],
)
def test_bad_keys_of_the_document_are_refused_with_their_path(change: JsonObject, path: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        parse_definition({**simple(), **change})
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("steps", "path"),
    [
        ([{**extract("e"), "typ": 1}], "steps[0].typ"),
        ([{**extract("e"), "type": "extrakt"}], "steps[0].type"),
        ([extract("e"), {**load("l", "e"), "timeout_minutes": 0}], "steps[1].timeout_minutes"),
        ([extract("1e")], "steps[0].name"),
        ([extract("e"), transform("t", "filter", {"condition": 1}, "e")], "steps[1].config.config.condition"),
        ([extract("e"), transform("t", "filter", {"conditio": "true"}, "e")], "steps[1].config.config.conditio"),
        ([extract("e"), transform("t", "filtr", {}, "e")], "steps[1].config.type"),
    ],
)
def test_bad_keys_of_steps_are_refused_with_their_path(steps: list[JsonObject], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        placed_steps(parse_definition(explicit(*steps)))
    assert caught.value.path == path


def test_an_unknown_transform_is_refused_with_a_near_miss() -> None:
    with pytest.raises(Invalid) as caught:
        placed_steps(definition(simple(entry("filtr", condition="true"))))
    assert caught.value.path == "transformation_config.transformations[0].type"
    assert "did you mean 'filter'?" in str(caught.value.hint)
