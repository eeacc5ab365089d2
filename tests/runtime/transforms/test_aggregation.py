"""Tests of the `aggregation` transform."""

import datetime
from decimal import Decimal
from typing import ClassVar

import pytest

from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import TransformContract, refusal, rows_of


class TestAggregation(TransformContract):
    """The shared suite."""

    kind = "aggregation"
    config: ClassVar[JsonObject] = {
        "group_by": ["venue_id", "date_trunc('month', wedding_date) AS month"],
        "aggregates": {
            "bookings": "count(*)",
            "revenue": "sum(price)",
            "mean": "round(avg(price), 2)",
            "couples": "string_agg(couple, ', ' ORDER BY couple)",
            "confirmed": "count(*) FILTER (WHERE confirmed = 'yes')",
        },
        "having": "bookings > 0",
    }
    missing = (
        ({"group_by": ["venu_id"], "aggregates": {"n": "count(*)"}}, "group_by[0]"),
        ({"aggregates": {"n": "sum(pryce)"}}, "aggregates.n"),
        ({"aggregates": {"n": "count(*)"}, "having": "m > 1"}, "having"),
        ({"aggregates": {"n": "count(*)"}, "having": "sum(pryce) > 1"}, "having"),
        ({"group_by": ["pryce + 1 AS p"], "aggregates": {"n": "count(*)"}}, "group_by[0]"),
    )


def result(config: dict[str, Json], table: str = "bookings") -> list[tuple[object, ...]]:
    """The sorted groups."""
    return sorted(rows_of("aggregation", config, [table]), key=repr)


def test_each_group_becomes_one_row() -> None:
    config: dict[str, Json] = {"group_by": ["venue_id"], "aggregates": {"n": "count(*)", "sum": "sum(price)"}}
    assert result(config) == [(10, 3, Decimal("2200.00")), (20, 1, Decimal("900.50")), (99, 1, Decimal("0.00"))]


def test_without_keys_all_rows_are_one_group() -> None:
    assert result({"aggregates": {"n": "count(*)", "most": "max(guests)"}}) == [(5, 120)]


def test_groups_by_expressions_and_paths_under_their_names() -> None:
    by_month: dict[str, Json] = {
        "group_by": ["date_trunc('month', wedding_date) AS month"],
        "aggregates": {"n": "count(*)"},
    }
    assert (datetime.datetime(2026, 6, 1), 3) in result(by_month)
    by_city: dict[str, Json] = {"group_by": ["address.city"], "aggregates": {"n": "count(*)"}}
    assert result(by_city, "venues") == [("Bath", 2), (None, 1)]


def test_having_means_aggregates_by_name_and_columns_inside_functions() -> None:
    config: dict[str, Json] = {
        "group_by": ["venue_id"],
        "aggregates": {"price": "sum(price)"},
        "having": "price > 100 AND max(price) < 1000 AND venue_id > 0",
    }
    assert result(config) == [(20, Decimal("900.50"))]


@pytest.mark.parametrize(
    ("config", "path", "said"),
    [
        ({"aggregates": {"p": "price"}}, "aggregates.p", "no aggregate function"),
        ({"aggregates": {"p": "sum(price) / guests"}}, "aggregates.p", "neither aggregated nor grouped"),
        ({"group_by": ["id + 1"], "aggregates": {"n": "count(*)"}}, "group_by[0]", "without a name"),
        ({"group_by": ["id"], "aggregates": {"id": "count(*)"}}, "aggregates.id", "also in group_by"),
        ({"group_by": ["id"], "aggregates": {"n": "count("}}, "aggregates.n", "does not parse"),
        ({"group_by": ["id"], "aggregates": {}}, "aggregates", "at least 1"),
        ({"aggregates": {"n": "count(*)", "N": "sum(id)"}}, "aggregates.N", "same column name"),
    ],
)
def test_what_is_no_aggregate_of_a_group_is_refused(config: dict[str, Json], path: str, said: str) -> None:
    error = refusal("aggregation", config, ["bookings"])
    assert error.path == path
    assert said in error.message
