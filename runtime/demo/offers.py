"""What vendors offer: price lists as they write them, and the days on which they can be had."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.demo.blueprint import Blueprint
from runtime.demo.columns import DAY, Integers, chosen, dates, joined, moments, money, numbers, padded, text
from runtime.demo.dataset import Dataset, DefectKind, spoil
from runtime.demo.flaws import date_format, duplicate, missing, negative_text, replaced
from runtime.demo.vendors import countries_of, vendor_ids
from runtime.demo.words import CATEGORIES, CATEGORY_COSTS, PACKAGES, PLACES

VERSIONS = (3, 6)
WEEKENDS = 21
STATUSES = ("available", "booked", "tentative")
STATUS_WEIGHTS = (0.55, 0.35, 0.10)
SPELLINGS = {
    "available": ("available", "Available", "AVAILABLE", "avail.", "free", " available "),
    "booked": ("booked", "Booked", "BOOKED", "taken", "Booked ", "fully booked"),
    "tentative": ("tentative", "Tentative", "TENTATIVE", "on hold", "option", "hold"),
}
SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "CHF": "CHF ", "SEK": "kr "}


@dataclass(frozen=True, slots=True)
class _Lines:
    """One line of a price list each: the vendor's number from 1, package, quarter (0 is the newest), cents."""

    vendor: Integers
    package: Integers
    quarter: Integers
    cents: Integers


def make_prices(blueprint: Blueprint, vendors: Dataset) -> Dataset:
    """Price lists. Clean: vendor_id, package, price (DECIMAL), currency, valid_from (DATE), updated_at.

    Delivered: `price` is text with its currency in one of six forms and no column `currency`; `valid_from` is text.
    A row is one vendor's package from one day on.
    """
    random = blueprint.random("prices")
    lines = _lines(random, vendors.clean.num_rows)
    currency_of = {place.country: place.currency for place in PLACES}
    by_vendor = pa.array([currency_of[country] for country in countries_of(vendors).to_pylist()])
    currencies = by_vendor.take(pa.array(lines.vendor - 1))
    valid_from = _quarters(blueprint, lines.quarter)
    clean = pa.table(
        {
            "vendor_id": vendor_ids(lines.vendor),
            "package": chosen(PACKAGES, lines.package),
            "price": money(lines.cents),
            "currency": currencies,
            "valid_from": valid_from,
            "updated_at": moments(numbers(valid_from) * DAY - random.integers(0, 20 * DAY, len(lines.cents))),
        }
    )
    written = clean.drop_columns(["currency"])
    written = written.set_column(2, "price", written_prices(random, lines.cents, currencies))
    written = written.set_column(3, "valid_from", text(valid_from))
    flaws = [
        replaced(DefectKind.UNREADABLE_AMOUNT, "price", ["on request", "tbc", "call us", "l2OO"]),
        missing("price"),
        negative_text("price"),
        date_format("valid_from"),
        missing("valid_from"),
        duplicate(),
    ]
    return spoil("prices", clean, written, flaws, blueprint.dirty_share, random)


def _lines(random: np.random.Generator, vendors: int) -> _Lines:
    packages = random.integers(3, len(PACKAGES) + 1, vendors)
    vendor = np.repeat(np.arange(1, vendors + 1), packages)
    package = _counted(packages)
    base = np.array(CATEGORY_COSTS)[vendor % len(CATEGORIES)] * (1 + 0.55 * package)
    base = base * random.uniform(0.7, 1.5, vendors)[vendor - 1]
    versions = random.integers(*VERSIONS, len(vendor))
    quarter = _counted(versions)
    euros = np.repeat(base, versions) * 0.98**quarter
    odd = random.random(len(euros)) < 0.3
    cents = np.where(odd, euros * 100, euros // 10 * 1000).astype(np.int64)
    return _Lines(np.repeat(vendor, versions), np.repeat(package, versions), quarter, cents)


def _counted(repeats: Integers) -> Integers:
    """0, 1, … within each run of that many."""
    ends = np.cumsum(repeats)
    counted: Integers = np.arange(ends[-1]) - np.repeat(ends - repeats, repeats)
    return counted


def _quarters(blueprint: Blueprint, back: Integers) -> pa.Array:
    """The first day of the quarter of `as_of`, and of those before it."""
    now = (blueprint.as_of.year - 1970) * 4 + (blueprint.as_of.month - 1) // 3
    months = ((now - back) * 3).astype("datetime64[M]").astype("datetime64[D]")
    return dates(months.astype(np.int64))


def written_prices(random: np.random.Generator, amounts: Integers, currencies: pa.Array) -> pa.Array:
    """Amounts in cents as vendors write them: `€1,250.00`, `1.250,00 EUR`, `EUR 1250.00`, `1 250,00 €`, `1'250.00`…"""
    symbols = chosen(list(SYMBOLS.values()), _positions(currencies, tuple(SYMBOLS)))
    cents = padded(amounts % 100, 2)
    plain = text(amounts // 100)

    def grouped(mark: str) -> pa.Array:
        thousands = joined(text(amounts // 100_000), mark, padded(amounts // 100 % 1000, 3))
        return pc.if_else(pa.array(amounts >= 100_000), thousands, plain)

    trimmed = pc.utf8_trim_whitespace(symbols)
    forms = [
        joined(symbols, grouped(","), ".", cents),
        joined(grouped("."), ",", cents, " ", currencies),
        joined(currencies, " ", plain, ".", cents),
        joined(grouped(" "), ",", cents, " ", trimmed),
        joined(currencies, " ", grouped("'"), ".", cents),
        joined(plain, ".", cents, " ", pc.utf8_lower(currencies)),
    ]
    return pc.choose(pa.array(random.integers(0, len(forms), len(amounts))), *forms)


def make_availability(blueprint: Blueprint, vendors: Dataset) -> Dataset:
    """Which vendor can be had on which coming Friday and Saturday: vendor_id, date, status, updated_at.

    Clean statuses are available, booked and tentative; delivered they are spelled in many ways, and `date` is text.
    """
    random = blueprint.random("availability")
    count = vendors.clean.num_rows
    friday = blueprint.today + (4 - (blueprint.today + 3)) % 7
    weekend = friday + np.arange(WEEKENDS).repeat(2) * 7 + np.tile([0, 1], WEEKENDS)
    rows = count * len(weekend)
    status = random.choice(len(STATUSES), rows, p=STATUS_WEIGHTS)
    clean = pa.table(
        {
            "vendor_id": vendor_ids(np.arange(1, count + 1).repeat(len(weekend))),
            "date": dates(np.tile(weekend, count)),
            "status": chosen(STATUSES, status),
            "updated_at": moments(blueprint.now - random.integers(0, 60 * DAY, rows)),
        }
    )
    spelled = [spelling for name in STATUSES for spelling in SPELLINGS[name]]
    spelling = status * len(SPELLINGS["booked"]) + random.integers(0, len(SPELLINGS["booked"]), rows)
    written = clean.set_column(1, "date", text(clean["date"].combine_chunks()))
    written = written.set_column(2, "status", chosen(spelled, spelling))
    flaws = [
        replaced(DefectKind.UNKNOWN_STATUS, "status", ["?", "ask", "see calendar"]),
        missing("status"),
        date_format("date"),
        duplicate(),
    ]
    return spoil("availability", clean, written, flaws, blueprint.dirty_share, random)


def _positions(words: pa.Array, among: tuple[str, ...]) -> Integers:
    found: Integers = pc.index_in(words, pa.array(among)).to_numpy().astype(np.int64)
    return found
