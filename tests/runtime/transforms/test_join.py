"""Tests of the `join` transform."""

from typing import ClassVar

import pytest

from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import (
    TransformContract,
    described,
    made,
    refusal,
    relation,
    rows_of,
    sample_database,
)

BOTH = ("bookings", "venues")


class TestJoin(TransformContract):
    """The shared suite."""

    kind = "join"
    inputs = BOTH
    config: ClassVar[JsonObject] = {"on": {"venue_id": "id"}, "how": "left"}
    missing = (
        ({"on": {"venu_id": "id"}}, "on.venu_id"),
        ({"on": {"venue_id": "idd"}}, "on.venue_id"),
        ({"on": "bookings.venu_id = venues.id"}, "on"),
        ({"using": ["idd"]}, "using[0]"),
        ({"on": {"venue_id": "id"}, "columns": ["couple", "venues.nam"]}, "columns[1]"),
        ({"on": {"venue_id": "id"}, "columns": {"x": "nam"}}, "columns.x"),
        ({"on": {"venue_id": "id"}, "left": "booking"}, "left"),
    )


class TestJoinWithUsing(TransformContract):
    """The shared suite, over a full join on a shared name."""

    kind = "join"
    inputs = BOTH
    config: ClassVar[JsonObject] = {
        "using": ["id"],
        "how": "full",
        "columns": {"id": "left.id", "capacity": "right.capacity"},
    }


def pairs(config: dict[str, Json]) -> list[tuple[object, ...]]:
    """The joined rows, sorted."""
    return sorted(rows_of("join", config, BOTH), key=repr)


@pytest.mark.parametrize(
    ("how", "count"), [("inner", 7), ("left", 8), ("right", 7), ("full", 8), ("semi", 4), ("anti", 1)]
)
def test_each_kind_of_join_keeps_the_rows_it_says(how: str, count: int) -> None:
    conditions: list[Json] = [
        {"venue_id": "id"},
        "bookings.venue_id = venues.id",
        "left.venue_id = right.id",
        "l.venue_id = r.id",
    ]
    for on in conditions:
        assert len(pairs({"on": on, "how": how})) == count


def test_a_cross_join_takes_no_condition() -> None:
    assert len(pairs({"how": "cross"})) == 15
    assert "either on or using" in refusal("join", {"how": "cross", "using": ["id"]}, BOTH).message


def test_a_right_name_that_is_taken_gets_its_input_s_name_before_it() -> None:
    database = sample_database()
    relations = [relation(database, table) for table in BOTH]
    query = made("join", {"on": {"venue_id": "id"}}).expression(relations)
    names = [one.name for one in described(database, query.sql("duckdb"))]
    assert names[-5:] == ["venues_id", "name", "address", "details", "capacity"]


def test_columns_of_using_come_once_and_are_filled_from_either_side() -> None:
    rows = pairs({"using": ["id"], "how": "full"})
    assert {row[0] for row in rows} == {1, 2, 3, 4, 10, 20}


def test_sides_are_named_where_their_order_matters() -> None:
    swapped: dict[str, Json] = {"left": "venues", "right": "bookings", "on": {"id": "venue_id"}, "how": "anti"}
    assert pairs(swapped) == []
    assert pairs({"left": "venues", "on": {"id": "venue_id"}, "how": "semi"})[0][1] == "Annexe"


def test_chosen_columns_may_be_paths_of_either_side() -> None:
    config: dict[str, Json] = {"on": {"venue_id": "id"}, "columns": {"who": "couple", "city": "venues.address.city"}}
    assert ("Ada", "Bath") in pairs(config)


def test_an_ambiguous_column_is_refused() -> None:
    error = refusal("join", {"on": {"venue_id": "id"}, "columns": ["id"]}, BOTH)
    assert error.path == "columns[0]"
    assert "`bookings.id` or `venues.id`" in str(error.hint)
    assert refusal("join", {"on": "id = venue_id"}, BOTH).path == "on"


@pytest.mark.parametrize("config", [{}, {"on": {}}, {"on": "true", "using": ["id"]}])
def test_exactly_one_condition_is_wanted(config: dict[str, Json]) -> None:
    assert "either on or using" in refusal("join", config, BOTH).message


def test_both_sides_cannot_be_the_same_input() -> None:
    assert refusal("join", {"left": "venues", "right": "venues", "using": ["id"]}, BOTH).path == "right"
