"""The demo's pipelines: they compile against what is discovered, and give the truth without what was spoilt."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast
from uuid import uuid4

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.destinations import DestinationType, WriteMode
from models.fields import JsonObject
from models.sources import SourceType
from runtime.batches.engine import Engine, EngineLimits
from runtime.batches.types import columns_of
from runtime.connectors._contract import DESTINATIONS, RunKey, Target
from runtime.connectors.catalog import Catalog, DestinationEntry, SourceEntry
from runtime.connectors.configs import DESTINATION, Parts, plugin_of, whole
from runtime.demo.columns import cents, numbers
from runtime.demo.dataset import Dataset, DefectKind
from runtime.demo.definitions import Connections, demo_destinations, demo_pipelines, demo_sources
from runtime.demo.world import World
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.plan import Plan

Delivered = Mapping[str, Mapping[str, pa.Table]]

PIPELINE = uuid4()
PLACES = Connections("postgresql://app?x=: #", "postgresql://warehouse", "http://vendors", Path("/guests"), "key: '\"")


@pytest.fixture(scope="session")
def catalog(delivered: Delivered) -> Catalog:
    """The demo's sources as discovery finds them, and its warehouse."""
    documents = [entry.document for entry in demo_sources(PLACES)]
    sources = [
        SourceEntry(
            uuid4(),
            str(document["source_name"]),
            SourceType(str(document["source_type"])),
            str(document["kind"]),
            datasets={name: columns_of(t.schema) for name, t in delivered[str(document["source_name"])].items()},
        )
        for document in documents
    ]
    warehouse = DestinationEntry(
        uuid4(), "analytics-warehouse", DestinationType.WAREHOUSE, "postgres", write_mode=WriteMode.UPSERT
    )
    return Catalog(sources, [warehouse])


@pytest.fixture(scope="session")
def plans(catalog: Catalog) -> Mapping[str, Plan]:
    """The compiled pipelines by name."""
    made = [compile_definition(entry.pipeline(), catalog) for entry in demo_pipelines()]
    return {plan.pipeline_name: plan for plan in made}


@pytest.fixture(scope="session")
def loaded(plans: Mapping[str, Plan], catalog: Catalog, delivered: Delivered) -> Iterator[Mapping[str, pa.Table]]:
    """What each load step is given, by table, when the plans' queries run over the delivered rows."""
    engine = Engine(EngineLimits())
    found: dict[str, pa.Table] = {}
    for plan in plans.values():
        rows: dict[str, pa.Table] = {}
        for step in plan.steps:
            if step.extract is not None:
                source = catalog.source(step.extract.source)
                assert source is not None
                tables = delivered[source.name]
                query = step.extract.query or f'SELECT * FROM "{step.extract.dataset}"'
                rows[step.name] = engine.table(query, tables)
            elif step.sql is not None:
                rows[step.name] = engine.table(step.sql, {name: rows[name] for name in step.inputs})
            else:
                rows[step.name] = rows[step.inputs[0]]
            if step.load is not None:
                found[step.load.table] = rows[step.name].combine_chunks()
    yield found
    engine.close()


def true_rows(dataset: Dataset, *unreadable: DefectKind) -> pa.Table:
    """The clean rows without those that no reading can recover."""
    lost = [row for kind in unreadable for row in dataset.with_defect(kind).tolist() if row < dataset.clean.num_rows]
    rows = pa.array(range(dataset.clean.num_rows))
    return dataset.clean.filter(pc.invert(pc.is_in(rows, pa.array(lost, pa.int64()))))


def same(given: pa.Table, true: pa.Table, keys: list[str], columns: list[str]) -> None:
    """Both hold equal values in these columns, row by row in the order of the keys."""
    order = [(key, "ascending") for key in keys]
    one, other = (table.select(columns).sort_by(order).combine_chunks() for table in (given, true))
    assert one.num_rows == other.num_rows
    for name in columns:
        assert one[name].cast(other[name].type).equals(other[name]), name


def test_places_are_filled_in_as_text_whatever_it_holds() -> None:
    documents = {str(one.document["source_name"]): one.document for one in demo_sources(PLACES)}
    assert list(documents) == ["wedding-app-db", "vendor-api", "guest-files"]
    assert documents["wedding-app-db"]["connection_config"] == {"url": "postgresql://app?x=: #"}
    authentication = documents["vendor-api"]["authentication_config"]
    assert authentication == {"type": "api_key", "name": "X-API-Key", "key": "key: '\""}
    (warehouse,) = demo_destinations(PLACES)
    assert warehouse.document["destination_name"] == "analytics-warehouse"
    assert "${" not in str([*documents.values(), warehouse.document])


def test_the_four_pipelines_compile_with_every_column_known(plans: Mapping[str, Plan]) -> None:
    assert list(plans) == ["vendor-standardisation", "bookings-fact", "guest-responses", "daily-revenue"]
    for plan in plans.values():
        assert plan.notes == ()
        for step in plan.steps:
            assert step.columns is not None, (plan.pipeline_name, step.name)
            assert "UNKNOWN" not in {column.type for column in step.columns}, (plan.pipeline_name, step.name)


def test_bookings_are_read_by_what_changed(plans: Mapping[str, Plan]) -> None:
    extract = plans["bookings-fact"].step("extract").extract
    assert extract is not None
    assert extract.cursor_column == "updated_at"


def test_prices_come_out_in_true_amounts_currencies_and_dates(loaded: Mapping[str, pa.Table], world: World) -> None:
    true = true_rows(world.prices, DefectKind.UNREADABLE_AMOUNT, DefectKind.MISSING_VALUE, DefectKind.NEGATIVE_AMOUNT)
    keys = ["vendor_id", "package", "valid_from"]
    same(loaded["vendor_prices"], true, keys, [*keys, "price", "currency", "updated_at"])
    assert loaded["vendor_prices"]["country"].null_count == 0


def test_availability_comes_out_in_three_words(loaded: Mapping[str, pa.Table], world: World) -> None:
    true = true_rows(world.availability, DefectKind.UNKNOWN_STATUS, DefectKind.MISSING_VALUE)
    true = true.rename_columns(["vendor_id", "day", "status", "updated_at"])
    same(loaded["vendor_availability"], true, ["vendor_id", "day"], ["vendor_id", "day", "status", "updated_at"])


def test_vendors_come_out_once_with_numbers_as_e164_writes_them(loaded: Mapping[str, pa.Table], world: World) -> None:
    same(loaded["dim_vendors"], world.vendors.clean, ["vendor_id"], ["vendor_id", "phone", "city", "updated_at"])
    spoilt = len(world.vendors.with_defect(DefectKind.INVALID_EMAIL))
    missing = pc.is_null(world.vendors.delivered["email"].slice(0, world.vendors.clean.num_rows))
    assert loaded["dim_vendors"]["email"].null_count == spoilt + pc.sum(missing).as_py()


def test_bookings_come_out_once_with_their_venue(loaded: Mapping[str, pa.Table], world: World) -> None:
    true = true_rows(world.bookings, DefectKind.NEGATIVE_AMOUNT, DefectKind.UNKNOWN_STATUS)
    columns = ["booking_id", "couple", "venue_id", "event_date", "total", "currency", "status", "updated_at"]
    same(loaded["fact_bookings"], true, ["booking_id"], columns)
    rows = loaded["fact_bookings"]
    names = world.venues.clean["name"].take(pc.subtract(rows["venue_id"], 1))
    assert rows["venue_name"].equals(names)
    assert rows["is_saturday"].equals(pc.equal(pc.day_of_week(rows["event_date"]), 5))
    euros = rows.filter(pc.field("currency") == "EUR")
    assert euros["total_eur"].equals(euros["total"])


def test_guests_come_out_once_with_their_answer_and_wedding(loaded: Mapping[str, pa.Table], world: World) -> None:
    rows = loaded["guest_responses"].sort_by("guest_id")
    assert rows["guest_id"].to_pylist() == world.guests.clean["guest_id"].to_pylist()
    unclear = pc.sum(pc.equal(rows["response"], "unclear")).as_py()
    assert unclear == len(world.guests.with_defect(DefectKind.UNKNOWN_STATUS))
    readable = pc.not_equal(rows["response"], "unclear")
    true = pc.fill_null(world.guests.clean["rsvp"], "pending")
    assert rows["response"].filter(readable).to_pylist() == true.filter(readable.combine_chunks()).to_pylist()
    event = world.bookings.clean["event_date"].take(pc.subtract(rows["booking_id"], 1))
    assert rows["event_date"].equals(event)
    invited = pc.coalesce(rows["invited_on"], world.guests.clean["invited_on"])
    assert invited.equals(world.guests.clean["invited_on"])


def test_daily_figures_add_up_to_what_was_booked_and_paid(loaded: Mapping[str, pa.Table], world: World) -> None:
    days = loaded["daily_revenue"]
    assert days.group_by(["day", "country"]).aggregate([]).num_rows == days.num_rows
    bookings = true_rows(world.bookings, DefectKind.NEGATIVE_AMOUNT)
    assert pc.sum(days["bookings"]).as_py() == bookings.num_rows
    undated = world.payments.defects.filter(pc.field("column") == "paid_at")["row"].to_pylist()
    lost = {*undated, *world.payments.with_defect(DefectKind.NEGATIVE_AMOUNT).tolist()}
    kept = [row for row in range(world.payments.clean.num_rows) if row not in lost]
    assert pc.sum(days["payments"]).as_py() == len(kept)
    euros = pc.equal(world.bookings.clean["currency"], "EUR").combine_chunks()
    payments = world.payments.clean.take(pa.array(kept))
    in_euros = euros.take(pa.array(numbers(payments["booking_id"]) - 1))
    places = world.venues.clean.filter(pc.field("currency") == "EUR")["country"].combine_chunks()
    of_euros = days.filter(pc.is_in(days["country"], places))
    total = cents(payments.filter(in_euros)["amount"]).sum()
    assert int(pc.sum(pc.add(of_euros["paid_eur"], of_euros["refunded_eur"])).as_py() * 100) == total


async def test_every_table_lands_in_the_warehouse_and_a_repeated_run_changes_no_count(
    plans: Mapping[str, Plan], loaded: Mapping[str, pa.Table], scratch: str
) -> None:
    (place,) = demo_destinations(Connections("postgresql://app/app", scratch, "http://vendors", Path("/guests")))
    parts = Parts(cast(JsonObject, place.document["connection_config"]))
    warehouse = DESTINATIONS.get("postgres")(whole(plugin_of(DESTINATION, "postgres"), parts))
    loads = [step.load for plan in plans.values() for step in plan.steps if step.load is not None]
    try:
        for load in loads:
            rows = loaded[load.table]
            target = Target(load.table, load.write_mode, load.key_columns, load.partition_by)
            first, again = (
                warehouse.load(target, RunKey(PIPELINE, uuid4(), load.table), rows.to_reader(), None) for _ in range(2)
            )
            assert first.inserted == rows.num_rows, load.table
            assert first.failed == again.failed == 0
            assert again.inserted == (rows.num_rows if load.write_mode is WriteMode.OVERWRITE else 0), load.table
    finally:
        warehouse.close()
    connection = await asyncpg.connect(scratch)
    try:
        for load in loads:
            assert await connection.fetchval(f"SELECT count(*) FROM {load.table}") == loaded[load.table].num_rows
    finally:
        await connection.close()
