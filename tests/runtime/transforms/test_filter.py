"""Tests of the `filter` transform."""

from typing import ClassVar

import pytest

from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import TransformContract, refusal, rows_of


class TestFilter(TransformContract):
    """The shared suite."""

    kind = "filter"
    config: ClassVar[JsonObject] = {"condition": "price > 800 AND wedding_date < DATE '2026-06-16'"}
    missing = (
        ({"condition": "pryce > 1"}, "condition"),
        ({"conditions": [{"column": "id", "value": 1}, {"column": "pryce", "value": 1}]}, "conditions[1].column"),
    )


def ids(config: dict[str, Json]) -> list[object]:
    """The ids of the bookings that a filter keeps."""
    known = [row[0] for row in rows_of("filter", config, ["bookings"])]
    assert known == [row[0] for row in rows_of("filter", config, ["bookings"], known=False)]
    return known


@pytest.mark.parametrize(
    ("operator", "column", "value", "kept"),
    [
        ("=", "couple", "Ada", [1]),
        ("!=", "couple", "Ada", [2, 3, 3, 4]),
        (">", "price", 899, [1, 2]),
        (">=", "guests", 80, [1, 2]),
        ("<", "price", 700.5, [3, 4]),
        ("<=", "wedding_date", "2026-06-15", [1, 2]),
        ("in", "venue_id", [10, 99], [1, 3, 3, 4]),
        ("not_in", "venue_id", [10, 99], [2]),
        ("between", "guests", [60, 80], [2, 3]),
        ("like", "couple", "%o", [2]),
        ("ilike", "couple", "a%", [1]),
        ("contains", "couple", "d", [1]),
        ("starts_with", "couple", "D", [4]),
        ("ends_with", "couple", "i", [4]),
        ("matches", "couple", "^[AB]", [1, 2]),
        ("is_null", "confirmed", None, [4]),
        ("is_not_null", "updated_at", None, [1, 2, 3, 3]),
    ],
)
def test_each_operator_keeps_the_rows_it_says(operator: str, column: str, value: Json, kept: list[int]) -> None:
    condition: dict[str, Json] = {"column": column, "operator": operator}
    if value is not None:
        condition["value"] = value
    assert ids({"conditions": [condition]}) == kept


def test_all_or_any_of_the_conditions_must_hold() -> None:
    conditions: list[Json] = [{"column": "venue_id", "value": 10}, {"column": "confirmed", "value": "no"}]
    assert ids({"conditions": conditions, "match": "all"}) == []
    assert ids({"conditions": conditions, "match": "any"}) == [1, 2, 3, 3]


def test_rows_where_the_condition_is_null_are_left_out() -> None:
    assert ids({"condition": "price > 0 OR guests IS NULL"}) == [1, 2, 3, 3]


def test_values_are_literals_whatever_they_hold() -> None:
    assert ids({"conditions": [{"column": "couple", "value": "x' OR '1'='1"}]}) == []


def test_sql_that_does_not_parse_is_refused_with_its_position() -> None:
    error = refusal("filter", {"condition": "price >\n  AND 1"}, ["bookings"])
    assert error.path == "condition"
    assert "does not parse at line 2" in error.message


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("id IN (SELECT id FROM venues)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("sum(price) > 1", "aggregate"),
        ("row_number() OVER () = 1", "window"),
        ("price > $least", "parameter"),
        ("getvariable('x') = 1", "getvariable"),
        ("price; DROP TABLE bookings", "2 statements"),
        ("DROP TABLE bookings", "not one SQL expression"),
        ("price AS p", "not one SQL expression"),
        ("unnest([1, 2]) = 1", "more than one value"),
        ("", "is empty"),
        ("couple = 'Ada", "left open"),
    ],
)
def test_anything_but_an_expression_over_the_row_is_refused(condition: str, said: str) -> None:
    error = refusal("filter", {"condition": condition}, ["bookings"])
    assert error.path == "condition"
    assert said in error.message


def test_a_missing_column_in_sql_is_named_with_its_position() -> None:
    error = refusal("filter", {"condition": "price > 1 AND\n  gusts > 3"}, ["bookings"])
    assert error.message == "there is no column 'gusts' at line 2, column 3"
    assert error.hint is not None
    assert "did you mean `guests`?" in error.hint


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ({"column": "id", "operator": "in", "value": 1}, "conditions[0].value"),
        ({"column": "id", "operator": "between", "value": [1]}, "conditions[0].value"),
        ({"column": "id", "operator": "="}, "conditions[0].value"),
        ({"column": "id", "operator": ">", "value": [1]}, "conditions[0].value"),
        ({"column": "id", "operator": "in", "value": [[1]]}, "conditions[0].value[0]"),
        ({"column": "id", "operator": "~"}, "conditions[0].operator"),
    ],
)
def test_a_value_that_does_not_suit_its_operator_is_refused(condition: dict[str, Json], path: str) -> None:
    assert refusal("filter", {"conditions": [condition]}, ["bookings"]).path == path


def test_exactly_one_form_is_wanted() -> None:
    assert "either condition" in refusal("filter", {}, ["bookings"]).message
    both: dict[str, Json] = {"condition": "true", "conditions": [{"column": "id", "value": 1}]}
    assert "either condition" in refusal("filter", both, ["bookings"]).message
