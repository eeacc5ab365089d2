"""The demo's sources through the connectors: what is delivered arrives, row for row, in the types discovered."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from models.base import StrictModel
from models.fields import JsonObject
from runtime.connectors._contract import SOURCES, ReadRequest, Source
from runtime.connectors.configs import SOURCE, Parts, plugin_of, whole
from runtime.demo.columns import cents
from runtime.demo.definitions import demo_sources
from runtime.demo.platform import DemoPlatform
from runtime.demo.vendor_api import Behaviour, Mode
from tests.runtime.demo.conftest import SMALL

Read = Mapping[str, pa.Table]


def opened(platform: DemoPlatform, url: str, name: str) -> Source[StrictModel]:
    """A source of the demo, configured as its row will be."""
    places = demo_sources(platform.connections(url, "postgresql://localhost/warehouse"))
    document = next(one.document for one in places if one.document["source_name"] == name)
    connection = cast(JsonObject, document["connection_config"])
    if document["kind"] == "http":
        connection = {**connection, "allow_private_addresses": True}
    documents = {"rate_limit_config": document.get("rate_limit_config")}
    parts = Parts(connection, cast(JsonObject, document.get("authentication_config") or {}), documents)
    plugin = SOURCES.get(str(document["kind"]))
    return plugin(whole(plugin_of(SOURCE, str(document["kind"])), parts))


def columns(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Names and types; a read may leave open what discovery knows to be never null."""
    return dict(zip(schema.names, schema.types, strict=True))


def reached(platform: DemoPlatform, url: str) -> list[bool]:
    """Whether each source answers its check."""
    sources = [opened(platform, url, name) for name in ("wedding-app-db", "vendor-api", "guest-files")]
    try:
        return [source.check().ok for source in sources]
    finally:
        for source in sources:
            source.close()


def read_all(platform: DemoPlatform, url: str, name: str) -> Read:
    """Every discovered dataset of a source, in full."""
    source = opened(platform, url, name)
    try:
        found = {}
        for dataset, schema in source.discover().items():
            request = ReadRequest(dataset=dataset)
            parts = [source.read(request, split).read_all() for split in source.split(request, 2)]
            found[dataset] = pa.concat_tables(parts)
            assert columns(found[dataset].schema) == columns(schema), dataset
        assert source.rejections.count == 0
        return found
    finally:
        source.close()


async def test_every_source_delivers_what_the_world_holds(scratch: str, tmp_path: Path) -> None:
    platform = await DemoPlatform.prepare(tmp_path, scratch, SMALL)
    async with platform.serve() as url:
        assert await asyncio.to_thread(reached, platform, url) == [True, True, True]
        api = await asyncio.to_thread(read_all, platform, url, "vendor-api")
        database = await asyncio.to_thread(read_all, platform, url, "wedding-app-db")
        files = await asyncio.to_thread(read_all, platform, url, "guest-files")
    world = platform.world
    assert api["prices"].combine_chunks().equals(world.prices.delivered)
    assert api["availability"].combine_chunks().equals(world.availability.delivered)
    assert (
        api["vendors"]["contact"]
        .combine_chunks()
        .field("email")
        .equals(world.vendors.delivered["email"].combine_chunks())
    )
    bookings = database["bookings"].sort_by("booking_id")
    assert bookings["updated_at"].equals(world.bookings.delivered["updated_at"])
    assert (
        cents(pc.cast(bookings["total"], pa.decimal128(12, 2))).tolist()
        == cents(world.bookings.delivered["total"]).tolist()
    )
    assert {name: rows.num_rows for name, rows in database.items()} == {
        "venues": world.venues.rows,
        "bookings": world.bookings.rows,
        "payments": world.payments.rows,
        "exchange_rates": 5,
    }
    assert files["responses"].num_rows == world.guests.rows


async def test_the_vendor_source_outlasts_a_busy_hour_and_the_rate_limit(scratch: str, tmp_path: Path) -> None:
    platform = await DemoPlatform.prepare(tmp_path, scratch, SMALL)
    platform.vendor_api.rate.burst = 2
    platform.vendor_api.rate.per_second = 1
    platform.vendor_api.behaviour = Behaviour(mode=Mode.BUSY, times=1)
    async with platform.serve() as url:
        api = await asyncio.to_thread(read_all, platform, url, "vendor-api")
    assert api["prices"].num_rows == platform.world.prices.rows
    assert platform.vendor_api.behaviour.mode is Mode.NORMAL
    assert platform.vendor_api.limited > 0
