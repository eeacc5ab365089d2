"""Venues: where weddings are held, for how many guests and at what price."""

from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from runtime.demo.blueprint import Blueprint
from runtime.demo.columns import Integers, chosen, joined, text
from runtime.demo.dataset import Dataset, spoil
from runtime.demo.flaws import missing
from runtime.demo.words import AMENITIES, PLACES, STYLES, VENUE_KINDS, VENUE_NAMES

VENUES_AT_SCALE_ONE = 1000


@dataclass(frozen=True, slots=True)
class Venues:
    """The dataset, and what bookings are priced with: capacity in guests, price of a guest and hire in cents."""

    dataset: Dataset
    capacity: Integers
    per_guest: Integers
    hire: Integers
    currencies: pa.Array


def make_venues(blueprint: Blueprint) -> Venues:
    """Venues with venue_id (BIGINT from 1), name, city, country, capacity (INT), currency and attributes (JSON)."""
    random = blueprint.random("venues")
    rows = blueprint.rows(VENUES_AT_SCALE_ONE, least=20)
    at = random.integers(0, len(PLACES), rows)
    capacity = (np.clip(random.lognormal(4.9, 0.45, rows), 40, 600) // 10 * 10).astype(np.int64)
    cost = np.array([place.cost for place in PLACES])[at] * random.uniform(0.8, 1.4, rows)
    per_guest = (cost * 95).astype(np.int64) * 100
    currencies = chosen([place.currency for place in PLACES], at)
    clean = pa.table(
        {
            "venue_id": pa.array(np.arange(1, rows + 1)),
            "name": _names(random, rows),
            "city": chosen([place.city for place in PLACES], at),
            "country": chosen([place.country for place in PLACES], at),
            "capacity": pa.array(capacity, pa.int32()),
            "currency": currencies,
            "attributes": _attributes(random, rows, per_guest),
        }
    )
    flaws = [missing("capacity"), missing("city")]
    dataset = spoil("venues", clean, clean, flaws, blueprint.dirty_share, random)
    return Venues(dataset, capacity, per_guest, per_guest * 20, currencies)


def _names(random: np.random.Generator, rows: int) -> pa.Array:
    """Names, each of which is used once: past the first round of combinations they are numbered."""
    order = np.arange(rows)
    pairs = random.permutation(len(VENUE_NAMES) * len(VENUE_KINDS))[order % (len(VENUE_NAMES) * len(VENUE_KINDS))]
    rounds = order // (len(VENUE_NAMES) * len(VENUE_KINDS)) + 1
    name = joined(chosen(VENUE_NAMES, pairs % len(VENUE_NAMES)), " ", chosen(VENUE_KINDS, pairs // len(VENUE_NAMES)))
    numbered = joined(name, " No. ", text(rounds))
    return pc.if_else(pa.array(rounds == 1), name, numbered)


def _attributes(random: np.random.Generator, rows: int, per_guest: Integers) -> pa.Array:
    """Nested JSON: style, indoor, catering with its price and diets, amenities."""
    styles = random.integers(0, len(STYLES), rows)
    flags = random.random((rows, 3 + len(AMENITIES))) < 0.5
    documents = [
        orjson.dumps(
            {
                "style": STYLES[style],
                "indoor": bool(flag[0]),
                "catering": {"in_house": bool(flag[1]), "per_guest": price / 100, "vegan": bool(flag[2])},
                "amenities": [name for name, has in zip(AMENITIES, flag[3:], strict=True) if has],
            }
        ).decode()
        for style, flag, price in zip(styles.tolist(), flags.tolist(), per_guest.tolist(), strict=True)
    ]
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(documents, pa.string()))
