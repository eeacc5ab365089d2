"""The whole demo wedding platform as datasets that fit together."""

from dataclasses import dataclass

from runtime.demo.blueprint import Blueprint
from runtime.demo.bookings import make_bookings
from runtime.demo.dataset import Dataset
from runtime.demo.guests import make_guests
from runtime.demo.offers import make_availability, make_prices
from runtime.demo.payments import make_payments
from runtime.demo.vendors import make_vendors
from runtime.demo.venues import make_venues


@dataclass(frozen=True, slots=True)
class World:
    """Venues, bookings, payments (of the app database), vendors, prices, availability (of the vendor API), guests.

    Every reference holds in the clean and in the delivered rows, as far as a defect does not say otherwise.
    """

    blueprint: Blueprint
    venues: Dataset
    vendors: Dataset
    prices: Dataset
    availability: Dataset
    bookings: Dataset
    payments: Dataset
    guests: Dataset

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """All of them, each after those that it refers to."""
        return (
            self.venues, self.vendors, self.prices, self.availability, self.bookings, self.payments, self.guests,
        )  # fmt: skip

    @property
    def rows(self) -> int:
        """How many rows are delivered in all."""
        return sum(dataset.rows for dataset in self.datasets)


def make_world(blueprint: Blueprint) -> World:
    """Generate everything; about 2 s at scale 1."""
    venues = make_venues(blueprint)
    vendors = make_vendors(blueprint)
    bookings = make_bookings(blueprint, venues)
    return World(
        blueprint,
        venues.dataset,
        vendors,
        make_prices(blueprint, vendors),
        make_availability(blueprint, vendors),
        bookings.dataset,
        make_payments(blueprint, bookings),
        make_guests(blueprint, bookings),
    )
