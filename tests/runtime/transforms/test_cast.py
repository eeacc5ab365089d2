"""Tests of the `cast` transform."""

import datetime
from typing import ClassVar

import duckdb
import pytest

from models.fields import Json, JsonObject
from runtime.transforms._contract import Relation
from runtime.transforms._sql import render
from tests.kit.contracts.transforms import TransformContract, made, refusal, relation, rows_of, sample_database


class TestCast(TransformContract):
    """The shared suite."""

    kind = "cast"
    inputs = ("guests",)
    config: ClassVar[JsonObject] = {
        "columns": {
            "booking_id": "BIGINT",
            "answered_on": {"type": "DATE", "format": "%d.%m.%Y", "on_error": "null"},
            "plus": {"type": "SMALLINT", "on_error": "reject"},
        }
    }
    missing = (({"columns": {"boking_id": "INT"}}, "columns.boking_id"),)


def aside(config: JsonObject, *, known: bool = True) -> list[tuple[object, ...]] | None:
    """The guests that a cast sets aside, each after the reason; None where it never does."""
    with sample_database() as database:
        guests = relation(database, "guests") if known else Relation("guests", None)
        query = made("cast", config).set_aside([guests])
        return None if query is None else database.execute(render(query)).fetchall()


def column(config: dict[str, Json], index: int, *, known: bool = True) -> list[object]:
    """One column of the guests after a cast."""
    return [row[index] for row in rows_of("cast", config, ["guests"], known=known)]


def test_values_are_cast_in_their_places() -> None:
    assert column({"columns": {"booking_id": "INTEGER"}}, 0) == [1, 2, None]


def test_a_value_that_does_not_fit_fails_the_run_by_default() -> None:
    with pytest.raises(duckdb.ConversionException):
        column({"columns": {"plus": "INTEGER"}}, 3)


def test_a_value_that_does_not_fit_becomes_null_when_asked() -> None:
    assert column({"columns": {"plus": "INTEGER"}, "on_error": "null"}, 3) == [7, None, 3]


def test_a_row_with_a_value_that_does_not_fit_is_rejected_when_asked() -> None:
    config: dict[str, Json] = {"columns": {"plus": "INTEGER"}, "on_error": "reject"}
    assert column(config, 1) == ["g1", "g3"]
    assert len(column(config, 1, known=False)) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_rejected_row_is_set_aside_as_it_came_with_what_it_does_not_fit(known: bool) -> None:
    dates: JsonObject = {"type": "DATE", "format": "%d.%m.%Y"}
    config: JsonObject = {"columns": {"plus": "INTEGER", "answered_on": dates}, "on_error": "reject"}
    assert aside(config, known=known) == [
        ("plus is no INT; answered_on is no DATE by the format %d.%m.%Y", "2", "g2", "2026-05-13", "x")
    ]
    lenient: JsonObject = {"columns": {"plus": "INTEGER", "answered_on": {**dates, "on_error": "null"}}}
    assert aside({**lenient, "on_error": "reject"}, known=known) == [("plus is no INT", "2", "g2", "2026-05-13", "x")]


@pytest.mark.parametrize("on_error", ["fail", "null"])
def test_a_cast_that_rejects_nothing_sets_nothing_aside(on_error: str) -> None:
    assert aside({"columns": {"plus": "INTEGER"}, "on_error": on_error}) is None


def test_null_fits_every_type() -> None:
    assert column({"columns": {"booking_id": "INTEGER"}, "on_error": "reject"}, 0) == [1, 2, None]


def test_text_is_read_as_a_date_by_its_format() -> None:
    config: dict[str, Json] = {"columns": {"answered_on": {"type": "DATE", "format": "%d.%m.%Y", "on_error": "null"}}}
    assert column(config, 2) == [datetime.date(2026, 5, 12), None, None]


def test_each_column_may_say_what_becomes_of_bad_values() -> None:
    config: dict[str, Json] = {
        "columns": {"plus": {"type": "INT", "on_error": "null"}, "booking_id": "INT"},
        "on_error": "fail",
    }
    assert column(config, 3) == [7, None, 3]


@pytest.mark.parametrize("wrong", ["INTT", "DECIMAL(50, 2)", "UNKNOWN", "'INT'", "", "NULL", "INTERVALL"])
def test_a_type_that_is_none_is_refused(wrong: str) -> None:
    assert refusal("cast", {"columns": {"plus": wrong}}, ["guests"]).path == "columns.plus"
    assert refusal("cast", {"columns": {"plus": {"type": wrong}}}, ["guests"]).path == "columns.plus.type"


def test_a_format_is_for_dates_alone() -> None:
    error = refusal("cast", {"columns": {"plus": {"type": "INT", "format": "%d"}}}, ["guests"])
    assert error.path == "columns.plus.format"
