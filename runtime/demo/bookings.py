"""Bookings: which couple marries where and when, with how many guests, and for how much."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from runtime.demo.blueprint import Blueprint
from runtime.demo.columns import (
    DAY,
    Booleans,
    Floats,
    Integers,
    chosen,
    dates,
    drawn,
    joined,
    moments,
    money,
    slugs,
    text,
)
from runtime.demo.dataset import Dataset, DefectKind, spoil
from runtime.demo.flaws import duplicate, invalid_email, missing, negative, replaced
from runtime.demo.venues import Venues
from runtime.demo.words import FIRST_NAMES, LAST_NAMES, MAIL_DOMAINS

DAYS_BACK, DAYS_AHEAD = 730, 450
PER_VENUE = (30, 91)
# Monday to Sunday, and January to December.
WEEKDAY_WEIGHTS = (0.15, 0.15, 0.2, 0.5, 2.2, 9.0, 1.6)
MONTH_WEIGHTS = (0.35, 0.4, 0.6, 0.9, 1.5, 2.2, 2.0, 1.9, 2.1, 1.3, 0.5, 0.7)
STATUSES = ("completed", "confirmed", "tentative", "cancelled")
COMPLETED, CONFIRMED, TENTATIVE, CANCELLED = range(4)


@dataclass(frozen=True, slots=True)
class Bookings:
    """The dataset, and in numbers what guests and payments build on, a booking each.

    `event` and `booked` are days and seconds since 1970, `total` is cents, `status` a position in STATUSES.
    """

    dataset: Dataset
    event: Integers
    booked: Integers
    guests: Integers
    total: Integers
    status: Integers


def make_bookings(blueprint: Blueprint, venues: Venues) -> Bookings:
    """Bookings, no two at one venue on one day.

    Columns: booking_id (BIGINT from 1), couple, contact_email, venue_id, event_date, guests (INT), status, total
    (DECIMAL in `currency`), currency, booked_at, updated_at (both UTC).
    """
    random = blueprint.random("bookings")
    venue, event = _dates(random, blueprint, len(venues.capacity))
    rows = len(event)
    booked = _booked_at(random, blueprint, event)
    guests = np.clip(random.lognormal(4.35, 0.4, rows), 20, venues.capacity[venue]).astype(np.int64)
    total = venues.hire[venue] + guests * venues.per_guest[venue]
    status = _statuses(random, event < blueprint.today)
    changed = booked + (random.random(rows) * (np.minimum(event * DAY, blueprint.now) - booked)).astype(np.int64)
    clean = pa.table(
        {
            "booking_id": pa.array(np.arange(1, rows + 1)),
            **_couples(random, rows),
            "venue_id": pa.array(venue + 1),
            "event_date": dates(event),
            "guests": pa.array(guests, pa.int32()),
            "status": chosen(STATUSES, status),
            "total": money(total),
            "currency": venues.currencies.take(pa.array(venue)),
            "booked_at": moments(booked),
            "updated_at": moments(changed),
        }
    )
    flaws = [
        missing("guests"),
        missing("contact_email"),
        invalid_email("contact_email"),
        negative("total"),
        replaced(DefectKind.UNKNOWN_STATUS, "status", ["", "unknown", "CONFIRMED?"]),
        duplicate("booking_id"),
    ]
    dataset = spoil("bookings", clean, clean, flaws, blueprint.dirty_share, random)
    return Bookings(dataset, event, booked, guests, total, status)


def _dates(random: np.random.Generator, blueprint: Blueprint, venues: int) -> tuple[Integers, Integers]:
    """Venue (from 0) and day of each booking, by day.

    A venue draws its days without replacement, by weight: the days of the greatest log-weights with Gumbel noise
    (Efraimidis and Spirakis, 2006).
    """
    days = np.arange(blueprint.today - DAYS_BACK, blueprint.today + DAYS_AHEAD)
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    weights = np.array(WEEKDAY_WEIGHTS)[(days + 3) % 7] * np.array(MONTH_WEIGHTS)[month]
    scores = np.log(weights) + random.gumbel(size=(venues, len(days)))
    most = PER_VENUE[1]
    top = np.argpartition(-scores, most, axis=1)[:, :most]
    wanted = random.integers(*PER_VENUE, venues)
    taken = np.arange(most)[None, :] < wanted[:, None]
    venue, day = np.broadcast_to(np.arange(venues)[:, None], top.shape)[taken], days[top[taken]]
    order = np.lexsort((venue, day))
    return venue[order], day[order]


def _booked_at(random: np.random.Generator, blueprint: Blueprint, event: Integers) -> Integers:
    """Two months to a year and a half before the day, and before `as_of`; seconds."""
    lead = random.integers(60 * DAY, 540 * DAY, len(event))
    latest = blueprint.now - random.integers(1, 30 * DAY, len(event))
    earliest: Integers = np.minimum(event * DAY - lead, latest)
    return earliest


def _statuses(random: np.random.Generator, past: Booleans) -> Integers:
    chance: Floats = random.random(len(past))
    ahead = np.select([chance < 0.75, chance < 0.9], [CONFIRMED, TENTATIVE], CANCELLED)
    return np.where(past, np.where(chance < 0.92, COMPLETED, CANCELLED), ahead).astype(np.int64)


def _couples(random: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    one, family = random.integers(0, len(FIRST_NAMES), rows), random.integers(0, len(LAST_NAMES), rows)
    other, second = drawn(random, FIRST_NAMES, rows), drawn(random, LAST_NAMES, rows)
    local = joined(
        chosen(slugs(FIRST_NAMES), one), ".", chosen(slugs(LAST_NAMES), family), text(np.arange(1, rows + 1))
    )
    return {
        "couple": joined(chosen(FIRST_NAMES, one), " ", chosen(LAST_NAMES, family), " & ", other, " ", second),
        "contact_email": joined(local, "@", drawn(random, MAIL_DOMAINS, rows)),
    }
