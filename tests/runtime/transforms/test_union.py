"""Tests of the `union` transform."""

from typing import ClassVar

from models.fields import JsonObject
from tests.kit.contracts.transforms import TransformContract, rows_of


class TestUnion(TransformContract):
    """The shared suite."""

    kind = "union"
    inputs = ("bookings", "venues")
    config: ClassVar[JsonObject] = {}


class TestDistinctUnion(TransformContract):
    """The shared suite, without equal rows."""

    kind = "union"
    inputs = ("bookings", "guests")
    config: ClassVar[JsonObject] = {"distinct": True}


def test_columns_are_matched_by_name_and_filled_with_null() -> None:
    rows = rows_of("union", {}, ["bookings", "venues"])
    assert len(rows) == 8
    assert rows[5][0] == 10
    assert rows[5][2] is None
    assert rows[0][-1] is None


def test_equal_rows_come_once_when_asked() -> None:
    assert len(rows_of("union", {}, ["bookings", "bookings"])) == 10
    assert len(rows_of("union", {"distinct": True}, ["bookings", "bookings"])) == 5
    assert len(rows_of("union", {"distinct": True}, ["bookings"])) == 5
