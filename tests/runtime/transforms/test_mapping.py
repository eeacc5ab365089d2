"""Tests of the `mapping` transform."""

from decimal import Decimal
from typing import ClassVar

import duckdb

from models.fields import Json, JsonObject
from runtime.batches.types import Column
from runtime.transforms._contract import Relation
from runtime.transforms._sql import render
from tests.kit.contracts.transforms import TransformContract, made, refusal, rows_of


class TestMapping(TransformContract):
    """The shared suite."""

    kind = "mapping"
    inputs = ("venues",)
    config: ClassVar[JsonObject] = {
        "mappings": {"venue": "name", "city": "address.city", "latitude": "address.geo.lat", "stars": "details.stars"},
        "defaults": {"city": "unknown", "country": "GB"},
    }
    missing = (
        ({"mappings": {"venue": "nam"}}, "mappings.venue"),
        ({"mappings": {"city": "address.cty"}}, "mappings.city"),
        ({"mappings": {"city": "address.geo.lon"}}, "mappings.city"),
    )


def test_columns_are_renamed_and_nested_values_brought_up() -> None:
    config: dict[str, Json] = {
        "mappings": {"venue": "name", "city": "address.city", "lat": "address.geo.lat", "tag": "details.tags[0]"}
    }
    assert rows_of("mapping", config, ["venues"]) == [
        ("Hall", "Bath", Decimal("51.4"), "old"),
        ("Annexe", "Bath", Decimal("51.5"), None),
        ("Old Barn", None, None, None),
    ]


def test_nested_values_of_unknown_columns_come_as_text() -> None:
    config: dict[str, Json] = {"mappings": {"lat": "address.geo.lat", "stars": "details.stars"}}
    rows = rows_of("mapping", config, ["venues"], known=False)
    assert rows == [("51.4", "5"), ("51.5", None), (None, "3")]


def test_a_path_into_a_plain_value_is_refused() -> None:
    error = refusal("mapping", {"mappings": {"inner": "id.x"}}, ["bookings"])
    assert error.path == "mappings.inner"
    assert "INT" in error.message


def test_json_in_a_text_column_is_read_too() -> None:
    database = duckdb.connect()
    database.execute("""CREATE TABLE answers AS SELECT '{"guest": {"name": "Ada"}}' AS body""")
    transform = made("mapping", {"mappings": {"guest": "body.guest.name"}})
    for columns in ((Column("body", "VARCHAR"),), None):
        sql = render(transform.expression([Relation("answers", columns)]))
        assert database.execute(sql).fetchall() == [("Ada",)]


def test_defaults_fill_nulls_and_stand_alone_as_constants() -> None:
    config: dict[str, Json] = {
        "mappings": {"city": "address.city"},
        "defaults": {"city": "unknown", "country": "GB", "rank": 1},
    }
    rows = rows_of("mapping", config, ["venues"])
    assert rows == [("Bath", "GB", 1), ("Bath", "GB", 1), ("unknown", "GB", 1)]


def test_unmapped_columns_are_kept_when_asked_for() -> None:
    config: dict[str, Json] = {"mappings": {"booking_id": "id", "price": "guests"}, "keep_unmapped": True}
    for known in (True, False):
        rows = rows_of("mapping", config, ["bookings"], known=known)
        assert rows[0][0] == 10
        assert rows[0][-2:] == (1, 120)
        assert len(rows[0]) == 7


def test_two_targets_that_differ_in_case_alone_are_refused() -> None:
    error = refusal("mapping", {"mappings": {"name": "id", "Name": "couple"}}, ["bookings"])
    assert error.path == "mappings.Name"


def test_a_path_that_is_none_is_refused() -> None:
    error = refusal("mapping", {"mappings": {"x": "name..city"}}, ["venues"])
    assert error.path == "mappings.x"
    assert "not a column path" in error.message


def test_a_near_miss_is_named() -> None:
    error = refusal("mapping", {"mappings": {"x": "pryce"}}, ["bookings"])
    assert error.hint is not None
    assert error.hint.startswith("did you mean `price`? there are: id, venue_id")


def test_names_with_quotes_and_spaces_are_quoted() -> None:
    assert rows_of("mapping", {"mappings": {'a "b" c; drop table x': "id"}}, ["bookings"])[0] == (1,)


def test_text_defaults_are_literals_whatever_they_hold() -> None:
    config: dict[str, Json] = {"mappings": {"id": "id"}, "defaults": {"note": "O'Hara'); DROP TABLE bookings; --"}}
    assert rows_of("mapping", config, ["bookings"])[0] == (1, "O'Hara'); DROP TABLE bookings; --")
