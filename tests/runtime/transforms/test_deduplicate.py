"""Tests of the `deduplicate` transform."""

from decimal import Decimal
from typing import ClassVar

import pytest

from models.fields import Json, JsonObject
from tests.kit.contracts.transforms import TransformContract, refusal, rows_of


class TestDeduplicate(TransformContract):
    """The shared suite."""

    kind = "deduplicate"
    config: ClassVar[JsonObject] = {"keys": ["id"], "order_by": ["updated_at desc"]}
    missing = (
        ({"keys": ["idd"]}, "keys[0]"),
        ({"keys": ["id"], "order_by": ["id", "updated_a desc"]}, "order_by[1]"),
    )


@pytest.mark.parametrize(
    ("order", "keep", "price"),
    [
        ("updated_at", "first", None),
        ("updated_at", "last", Decimal("700.00")),
        ("updated_at desc", "first", Decimal("700.00")),
        ("updated_at DESC", "last", None),
        ("price", "first", Decimal("700.00")),
        ("price", "last", Decimal("700.00")),
    ],
)
def test_the_first_or_last_by_the_order_is_kept_and_null_loses(order: str, keep: str, price: Decimal | None) -> None:
    config: dict[str, Json] = {"keys": ["id"], "order_by": [order], "keep": keep}
    rows = {row[0]: row[4] for row in rows_of("deduplicate", config, ["bookings"])}
    assert len(rows) == 4
    assert rows[3] == price


def test_without_an_order_the_same_row_is_kept_every_time() -> None:
    kept = {repr(sorted(rows_of("deduplicate", {"keys": ["venue_id"]}, ["bookings"]))) for _ in range(5)}
    assert len(kept) == 1


def test_keys_may_be_paths() -> None:
    assert len(rows_of("deduplicate", {"keys": ["address.city"]}, ["venues"])) == 2


def test_keys_are_wanted() -> None:
    assert refusal("deduplicate", {"keys": []}, ["bookings"]).path == "keys"
    assert refusal("deduplicate", {"keys": ["id"], "order_by": [" "]}, ["bookings"]).path == "order_by[0]"
