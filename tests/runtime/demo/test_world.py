"""The generated world: the same from the same seed, and a world in which things fit together."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.errors import Invalid
from runtime.demo.blueprint import Blueprint
from runtime.demo.columns import cents, numbers
from runtime.demo.dataset import Dataset, DefectKind
from runtime.demo.world import World, make_world
from tests.runtime.demo.conftest import SMALL


def written(table: pa.Table) -> bytes:
    """The table as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    found: bytes = sink.getvalue().to_pybytes()
    return found


def test_the_same_seed_gives_the_same_bytes(world: World) -> None:
    again = make_world(SMALL)
    for one, other in zip(world.datasets, again.datasets, strict=True):
        assert written(one.delivered) == written(other.delivered), one.name
        assert written(one.clean) == written(other.clean), one.name
        assert written(one.defects) == written(other.defects), one.name


def test_another_seed_gives_another_world(world: World) -> None:
    other = make_world(Blueprint(seed=7, scale=SMALL.scale, dirty_share=SMALL.dirty_share))
    for mine, yours in zip(world.datasets, other.datasets, strict=True):
        assert not mine.delivered.equals(yours.delivered), mine.name


def test_the_usual_scale_delivers_more_than_half_a_million_rows() -> None:
    assert make_world(Blueprint()).rows > 500_000


def test_every_reference_holds(world: World) -> None:
    def known(child: Dataset, parent: Dataset, key: str) -> bool:
        return bool(pc.all(pc.is_in(child.delivered[key], parent.delivered[key].combine_chunks())).as_py())

    assert known(world.bookings, world.venues, "venue_id")
    assert known(world.payments, world.bookings, "booking_id")
    assert known(world.guests, world.bookings, "booking_id")
    assert known(world.prices, world.vendors, "vendor_id")
    assert known(world.availability, world.vendors, "vendor_id")


def test_identifiers_of_tables_are_unique_even_in_duplicates(world: World) -> None:
    for dataset, key in ((world.venues, "venue_id"), (world.bookings, "booking_id"), (world.payments, "payment_id")):
        assert pc.count_distinct(dataset.delivered[key]).as_py() == dataset.rows


def test_price_lists_and_calendars_have_one_row_for_each_key(world: World) -> None:
    for dataset, keys in (
        (world.prices, ["vendor_id", "package", "valid_from"]),
        (world.availability, ["vendor_id", "date"]),
    ):
        assert dataset.clean.group_by(keys).aggregate([]).num_rows == dataset.clean.num_rows


def test_no_venue_is_booked_twice_on_a_day_and_none_is_overfull(world: World) -> None:
    bookings = world.bookings.clean
    assert bookings.group_by(["venue_id", "event_date"]).aggregate([]).num_rows == bookings.num_rows
    seats = world.venues.clean["capacity"].take(pc.subtract(bookings["venue_id"], 1))
    assert pc.all(pc.less_equal(bookings["guests"], seats)).as_py()


def test_weddings_cluster_on_saturdays_and_in_the_season(world: World) -> None:
    day = world.bookings.clean["event_date"]
    saturdays = pc.mean(pc.equal(pc.day_of_week(day), 5)).as_py()
    summer = pc.mean(pc.and_(pc.greater_equal(pc.month(day), 5), pc.less_equal(pc.month(day), 9))).as_py()
    assert saturdays > 0.4
    assert summer > 0.55


def test_payments_sum_to_the_total_of_every_completed_wedding(world: World) -> None:
    bookings, payments = world.bookings.clean, world.payments.clean
    owed = cents(bookings["total"])
    paid = np.zeros(len(owed), dtype=np.int64)
    np.add.at(paid, numbers(payments["booking_id"]) - 1, cents(payments["amount"]))
    completed = np.array(pc.equal(bookings["status"], "completed"))
    assert completed.sum() > 100
    assert (paid[completed] == owed[completed]).all()
    assert (paid <= owed).all()
    assert (paid[~completed] < owed[~completed]).sum() > 100


def test_only_cancelled_bookings_are_refunded(world: World) -> None:
    refunded = world.payments.clean.filter(pc.field("status") == "refunded")["booking_id"]
    status = world.bookings.clean["status"].take(pc.subtract(refunded, 1))
    assert pc.unique(status).to_pylist() == ["cancelled"]


def test_guests_answer_after_their_invitation_and_before_the_wedding(world: World) -> None:
    guests = world.guests.clean
    event = world.bookings.clean["event_date"].take(pc.subtract(guests["booking_id"], 1))
    assert pc.all(pc.less(guests["invited_on"], event)).as_py()
    answered = pc.is_valid(guests["responded_on"])
    assert 0.5 < pc.mean(answered).as_py() < 1
    assert pc.all(pc.less(guests["responded_on"], event)).as_py()
    assert pc.all(pc.less(guests["invited_on"], guests["responded_on"])).as_py()
    assert pc.all(pc.equal(answered, pc.is_valid(guests["rsvp"]))).as_py()


def test_a_wedding_has_as_many_guests_as_it_booked_and_tables_of_eight(world: World) -> None:
    listed = world.guests.clean.group_by("booking_id").aggregate([("guest_id", "count")])
    booked = world.bookings.clean["guests"].take(pc.subtract(listed["booking_id"], 1))
    assert listed["guest_id_count"].cast(pa.int32()).equals(booked)
    seated = world.guests.clean.filter(pc.is_valid(pc.field("table_number")))
    at_table = seated.group_by(["booking_id", "table_number"]).aggregate([("guest_id", "count")])
    assert pc.max(at_table["guest_id_count"]).as_py() <= 8


def test_nothing_was_written_after_the_moment_that_is_shown(world: World) -> None:
    for dataset, column in (
        (world.vendors, "updated_at"),
        (world.prices, "updated_at"),
        (world.availability, "updated_at"),
        (world.bookings, "updated_at"),
        (world.payments, "paid_at"),
    ):
        assert pc.max(dataset.clean[column]).as_py() <= SMALL.as_of, dataset.name
    bookings = world.bookings.clean
    assert pc.all(pc.less_equal(bookings["booked_at"], bookings["updated_at"])).as_py()


@pytest.mark.parametrize(("field", "value"), [("scale", 0), ("scale", 101), ("dirty_share", 0.6), ("as_of", None)])
def test_a_blueprint_refuses_what_cannot_be_built(field: str, value: float | None) -> None:
    given: dict[str, object] = {field: datetime(2026, 1, 1) if value is None else value}
    with pytest.raises(Invalid) as refused:
        Blueprint(**given)  # type: ignore[arg-type]
    assert refused.value.path == field


def test_the_day_shown_moves_the_whole_world() -> None:
    earlier = make_world(Blueprint(scale=0.01, as_of=datetime(2024, 5, 1, tzinfo=UTC)))
    assert pc.max(earlier.bookings.clean["event_date"]).as_py() < datetime(2025, 9, 1).date()
    assert earlier.bookings.with_defect(DefectKind.DUPLICATE).min() >= earlier.bookings.clean.num_rows
