"""Dirty rows: their share, their kinds, and that exactly those are dirty that are reported."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from runtime.demo.blueprint import Blueprint
from runtime.demo.dataset import Dataset, DefectKind
from runtime.demo.world import World, make_world
from tests.runtime.demo.conftest import SMALL

ADDRESS = r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$"
ISO = r"^\d{4}-\d{2}-\d{2}$"


def test_the_share_of_dirty_rows_is_the_one_asked_for(world: World) -> None:
    for dataset in world.datasets:
        assert dataset.defects.num_rows == round(SMALL.dirty_share * dataset.clean.num_rows), dataset.name


def test_no_row_has_two_defects(world: World) -> None:
    for dataset in world.datasets:
        assert pc.count_distinct(dataset.defects["row"]).as_py() == dataset.defects.num_rows, dataset.name


def test_without_dirt_nothing_is_reported_and_bookings_are_what_they_are() -> None:
    clean = make_world(Blueprint(scale=0.01, dirty_share=0))
    for dataset in clean.datasets:
        assert dataset.defects.num_rows == 0
        assert dataset.rows == dataset.clean.num_rows
    assert clean.bookings.delivered.equals(clean.bookings.clean)


def test_rows_that_are_not_reported_are_clean(world: World) -> None:
    for dataset in (world.venues, world.bookings, world.payments):
        sound = dataset.delivered.take(_sound(dataset))
        assert sound.equals(dataset.clean.take(_sound(dataset)).cast(sound.schema)), dataset.name


def test_rows_that_are_reported_differ_from_the_truth_in_the_column_named(world: World) -> None:
    for dataset in (world.venues, world.bookings, world.payments):
        for found in dataset.defects.to_pylist():
            if found["defect"] != DefectKind.DUPLICATE:
                row, column = found["row"], found["column"]
                assert dataset.delivered[column][row] != dataset.clean[column][row], (dataset.name, row)


def test_duplicates_repeat_a_row_that_is_there(world: World) -> None:
    for dataset, identifier in ((world.bookings, "booking_id"), (world.prices, ""), (world.guests, "")):
        names = [name for name in dataset.delivered.column_names if name != identifier]
        again = dataset.with_defect(DefectKind.DUPLICATE)
        assert len(again) > 0
        repeated = dataset.delivered.take(pa.array(again)).select(names).to_pylist()
        first = dataset.delivered.slice(0, dataset.clean.num_rows).select(names).to_pylist()
        assert all(row in first for row in repeated), dataset.name


@pytest.mark.parametrize("name", ["vendors", "bookings", "guests"])
def test_exactly_the_addresses_reported_are_invalid(world: World, name: str) -> None:
    dataset: Dataset = getattr(world, name)
    column = "contact_email" if name == "bookings" else "email"
    bad = pc.indices_nonzero(pc.invert(pc.match_substring_regex(dataset.delivered[column], ADDRESS)))
    reported = dataset.with_defect(DefectKind.INVALID_EMAIL)
    assert sorted(bad.to_pylist()) == sorted(reported.tolist())
    assert len(reported) > 0


@pytest.mark.parametrize(
    ("name", "column"), [("prices", "valid_from"), ("availability", "date"), ("guests", "invited_on")]
)
def test_exactly_the_dates_reported_are_not_iso(world: World, name: str, column: str) -> None:
    dataset: Dataset = getattr(world, name)
    other = pc.indices_nonzero(pc.invert(pc.match_substring_regex(dataset.delivered[column], ISO)))
    assert sorted(other.to_pylist()) == sorted(dataset.with_defect(DefectKind.DATE_FORMAT).tolist())


def test_exactly_the_amounts_reported_are_negative(world: World) -> None:
    for dataset, column in ((world.bookings, "total"), (world.payments, "amount")):
        below = pc.indices_nonzero(pc.less(dataset.delivered[column], 0)).to_pylist()
        assert sorted(below) == sorted(dataset.with_defect(DefectKind.NEGATIVE_AMOUNT).tolist())


def test_dirty_and_sound_rows_are_all_rows(world: World) -> None:
    for dataset in world.datasets:
        assert dataset.dirty_rows.num_rows + dataset.sound_rows.num_rows == dataset.rows
        assert dataset.dirty_rows.column_names[-2:] == ["_column", "_defect"]


def test_phones_prices_and_statuses_come_in_many_spellings(world: World) -> None:
    sound = world.availability.sound_rows["status"]
    assert pc.count_distinct(sound).as_py() >= 12
    shapes = pc.replace_substring_regex(world.prices.sound_rows["price"], pattern=r"\d+", replacement="9")
    assert pc.count_distinct(shapes).as_py() >= 12
    phones = pc.replace_substring_regex(world.vendors.sound_rows["phone"], pattern=r"\d+", replacement="9")
    assert pc.count_distinct(phones).as_py() >= 5


def _sound(dataset: Dataset) -> pa.Array:
    dirty = dataset.defects["row"].combine_chunks()
    rows = pa.array(range(dataset.clean.num_rows))
    return rows.filter(pc.invert(pc.is_in(rows, dirty)))
