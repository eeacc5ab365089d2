"""Tests of the `enrichment` transform."""

from typing import ClassVar

import pytest

from models.errors import Invalid
from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import TransformContract, made, refusal, relation, rows_of, sample_database

BOTH = ("bookings", "venues")
BASE: dict[str, Json] = {"source_id": "venues-db", "dataset": "venues", "on": {"venue_id": "id"}}


class TestEnrichment(TransformContract):
    """The shared suite."""

    kind = "enrichment"
    inputs = BOTH
    config: ClassVar[JsonObject] = {**BASE, "columns": {"venue_name": "name", "places": "capacity"}}
    missing = (
        ({**BASE, "on": {"venu_id": "id"}}, "on.venu_id"),
        ({**BASE, "on": {"venue_id": "idd"}}, "on.venue_id"),
        ({**BASE, "columns": ["capacity", "nam"]}, "columns[1]"),
        ({**BASE, "columns": {"x": "nam"}}, "columns.x"),
    )


def last(config: dict[str, Json], count: int = 1) -> list[tuple[object, ...]]:
    """The looked-up columns, sorted by the booking's id."""
    rows = sorted(rows_of("enrichment", {**BASE, **config}, BOTH), key=lambda row: (row[0], repr(row)))
    return [row[-count:] for row in rows]


def test_its_lookup_is_an_extract_of_the_other_source() -> None:
    lookup = made("enrichment", {**BASE, "filters": {"capacity": {">": 10}}}).lookup()
    assert lookup is not None
    assert lookup.config == {"source_id": "venues-db", "dataset": "venues", "filters": {"capacity": {">": 10}}}


def test_a_row_without_a_match_gets_nulls() -> None:
    found = last({"columns": ["capacity"]})
    assert len(found) == 5
    assert found[-1] == (None,)


def test_a_row_without_a_match_goes_with_an_inner_lookup() -> None:
    assert len(last({"columns": ["capacity"], "how": "inner"})) == 4


def test_several_matches_do_not_repeat_a_row_unless_asked() -> None:
    assert len(last({"columns": ["capacity"]})) == 5
    assert len(last({"columns": ["capacity"], "multiple": "all"})) == 8


def test_a_prefix_goes_before_the_names() -> None:
    assert last({"prefix": "venue_"}, 4)[0][0] == "Annexe"


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"on": {"venue_id": "capacity"}}, "columns"),
        ({"columns": ["capacity", "id"]}, "columns[1]"),
        ({"columns": {"couple": "name"}}, "columns.couple"),
        ({"columns": ["uests"], "prefix": "g"}, "columns[0]"),
    ],
)
def test_a_name_that_the_input_has_already_is_refused(config: dict[str, Json], path: str) -> None:
    database = sample_database()
    database.execute("CREATE TABLE places AS SELECT id, name, capacity, capacity AS uests FROM venues")
    relations = [relation(database, "bookings"), relation(database, "places")]
    with pytest.raises(Invalid) as caught:
        made("enrichment", {**BASE, **config}).expression(relations)
    assert caught.value.path == path
    assert "already" in caught.value.message


def test_a_lookup_of_unknown_columns_needs_a_list_for_a_prefix() -> None:
    rows = rows_of("enrichment", {**BASE, "columns": ["capacity"], "prefix": "venue_"}, BOTH, known=False)
    assert len(rows) == 5


def test_something_to_match_on_is_wanted() -> None:
    assert "names no column" in refusal("enrichment", {**BASE, "on": []}, BOTH).message
    assert refusal("enrichment", {"on": "id"}, BOTH).path == "source_id"
