"""Tests of the `derive` transform."""

from decimal import Decimal
from typing import ClassVar

import pytest

from models.fields import JsonObject
from tests.kit.contracts.transforms import TransformContract, refusal, rows_of


class TestDerive(TransformContract):
    """The shared suite."""

    kind = "derive"
    config: ClassVar[JsonObject] = {
        "columns": {
            "per_guest": "price / nullif(guests, 0)",
            "month": "date_trunc('month', wedding_date)",
            "price": "coalesce(price, 0) * 1.2",
            "label": "upper(couple) || '-' || id",
            "late": "per_guest > 10 AND confirmed = 'yes'",
        }
    }
    missing = (({"columns": {"x": "pryce * 2"}}, "columns.x"), ({"columns": {"id": "id + gusts"}}, "columns.id"))


def test_new_columns_come_last_and_changed_ones_stay_in_their_place() -> None:
    rows = rows_of("derive", {"columns": {"price": "price * 2", "double_guests": "guests * 2"}}, ["bookings"])
    assert rows[0][4] == Decimal("3000.00")
    assert rows[0][-1] == 240


@pytest.mark.parametrize("known", [True, False])
def test_a_derived_name_means_the_derived_value_in_whatever_order_they_are_written(known: bool) -> None:
    orders = (
        {"half": "total / 2", "total": "price * 3", "price": "price * 2"},
        {"price": "price * 2", "total": "price * 3", "half": "total / 2"},
    )
    for columns in orders:
        row = rows_of("derive", {"columns": {**columns}}, ["bookings"], known=known)[0]
        assert {Decimal("3000.00"), Decimal("9000.00")} <= {value for value in row if isinstance(value, Decimal)}
        assert 4500.0 in row


def test_columns_that_build_on_each_other_in_a_circle_are_refused() -> None:
    error = refusal("derive", {"columns": {"a": "b + 1", "b": "c + 1", "c": "a + 1"}}, ["bookings"])
    assert error.path == "columns.a"
    assert "a -> b -> c -> a" in error.message


def test_a_column_may_build_on_its_own_old_value() -> None:
    assert rows_of("derive", {"columns": {"id": "id + 100"}}, ["bookings"])[0][0] == 101


@pytest.mark.parametrize("expression", ["sum(price)", "rank() OVER (ORDER BY id)", "(SELECT 1)", "unnest([1])"])
def test_what_needs_other_rows_is_refused(expression: str) -> None:
    assert refusal("derive", {"columns": {"x": expression}}, ["bookings"]).path == "columns.x"


def test_sql_that_does_not_parse_is_refused_with_its_position() -> None:
    error = refusal("derive", {"columns": {"ok": "1", "bad": "price *"}}, ["bookings"])
    assert error.path == "columns.bad"
    assert "line 1, column 7" in error.message
