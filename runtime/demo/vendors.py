"""Vendors: photographers, caterers, florists and the rest, and how to reach them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.demo.blueprint import Blueprint
from runtime.demo.columns import Integers, chosen, drawn, joined, moments, padded, slugs, text
from runtime.demo.dataset import Dataset, DefectKind, spoil
from runtime.demo.flaws import duplicate, invalid_email, missing, out_of_range, replaced
from runtime.demo.words import CATEGORIES, MAIL_DOMAINS, PLACES, VENDOR_KINDS, VENDOR_NAMES

VENDORS_AT_SCALE_ONE = 4000


def make_vendors(blueprint: Blueprint) -> Dataset:
    """Vendors with vendor_id (`V-00001`), category, name, email, phone, rating (0-5), city, country, updated_at."""
    random = blueprint.random("vendors")
    rows = blueprint.rows(VENDORS_AT_SCALE_ONE, least=40)
    order = np.arange(1, rows + 1)
    at = random.integers(0, len(PLACES), rows)
    name, kind = random.integers(0, len(VENDOR_NAMES), rows), random.integers(0, len(VENDOR_KINDS), rows)
    domain = joined(chosen(slugs(VENDOR_NAMES), name), "-", chosen(slugs(VENDOR_KINDS), kind))
    clean = pa.table(
        {
            "vendor_id": vendor_ids(order),
            "category": chosen(CATEGORIES, order % len(CATEGORIES)),
            "name": joined(chosen(VENDOR_NAMES, name), " ", chosen(VENDOR_KINDS, kind)),
            "email": joined("hello+", text(order), "@", domain, ".", drawn(random, MAIL_DOMAINS, rows)),
            "phone": _phones(random, at),
            "rating": pa.array(np.round(np.clip(random.normal(4.3, 0.5, rows), 1, 5), 1)),
            "city": chosen([place.city for place in PLACES], at),
            "country": chosen([place.country for place in PLACES], at),
            "updated_at": moments(blueprint.now - random.integers(0, 400 * 86_400, rows)),
        }
    )
    flaws = [
        missing("email"),
        invalid_email("email"),
        missing("rating"),
        out_of_range("rating", (-1.0, 9.9, 45.0)),
        replaced(DefectKind.MISSING_VALUE, "category", ["", "n/a", "-"]),
        duplicate(),
    ]
    written = clean.set_column(4, "phone", _written_phones(random, clean["phone"].combine_chunks()))
    return spoil("vendors", clean, written, flaws, blueprint.dirty_share, random)


def vendor_ids(numbers: Integers) -> pa.Array:
    """The identifiers of vendors by number, counted from 1."""
    return joined("V-", padded(numbers, 5))


def countries_of(vendors: Dataset) -> pa.Array:
    """The country of each vendor, in the order of their numbers."""
    return vendors.clean["country"].combine_chunks()


def with_contact(delivered: pa.Table) -> pa.Table:
    """The vendors as their API nests them: `contact` holds email and phone."""
    contact = pa.StructArray.from_arrays(
        [delivered["email"].combine_chunks(), delivered["phone"].combine_chunks()], names=["email", "phone"]
    )
    return delivered.drop_columns(["email", "phone"]).add_column(3, "contact", contact)


def _phones(random: np.random.Generator, places: Integers) -> pa.Array:
    """Telephone numbers as E.164 writes them: `+442079460123`."""
    codes = chosen([place.dialling for place in PLACES], places)
    return joined("+", codes, padded(random.integers(200_000_000, 999_999_999, len(places)), 9))


def _written_phones(random: np.random.Generator, phones: pa.Array) -> pa.Array:
    """The same numbers in the formats that people use; all begin with the country, as + or 00."""
    plain = pc.utf8_slice_codeunits(phones, 1)
    code, area = pc.utf8_slice_codeunits(plain, 0, -9), pc.utf8_slice_codeunits(plain, -9, -7)
    first, last = pc.utf8_slice_codeunits(plain, -7, -4), pc.utf8_slice_codeunits(plain, -4, None)
    forms = [
        phones,
        joined("00", plain),
        joined("+", code, " ", area, " ", first, " ", last),
        joined("+", code, " (", area, ") ", first, "-", last),
        joined("00", code, "-", area, "-", first, "-", last),
        joined("+", code, ".", area, ".", first, ".", last),
    ]
    return pc.choose(pa.array(random.integers(0, len(forms), len(phones))), *forms)
