"""A small demo world that all tests of the room read, and its Arrow tables as their sources deliver them."""

from collections.abc import Mapping

import pyarrow as pa
import pytest

from runtime.demo.app_database import exchange_rates
from runtime.demo.blueprint import Blueprint
from runtime.demo.vendors import with_contact
from runtime.demo.world import World, make_world

SMALL = Blueprint(scale=0.02, dirty_share=0.1)


@pytest.fixture(scope="session")
def world() -> World:
    """Some 12,000 rows, a tenth of them dirty."""
    return make_world(SMALL)


@pytest.fixture(scope="session")
def delivered(world: World) -> Mapping[str, Mapping[str, pa.Table]]:
    """Source to dataset to rows, in the types in which the connectors read them."""
    return {
        "wedding-app-db": {
            "venues": world.venues.delivered,
            "bookings": world.bookings.delivered,
            "payments": world.payments.delivered,
            "exchange_rates": exchange_rates(world),
        },
        "vendor-api": {
            "vendors": with_contact(world.vendors.delivered),
            "prices": world.prices.delivered,
            "availability": world.availability.delivered,
        },
        "guest-files": {"responses": world.guests.delivered},
    }
