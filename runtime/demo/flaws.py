"""The ways in which the demo platform's rows go wrong."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.demo.columns import drawn, joined, text
from runtime.demo.dataset import DefectKind, Flaw

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def missing(column: str) -> Flaw:
    """The value is not there."""
    return Flaw(DefectKind.MISSING_VALUE, column, lambda values, _: pa.nulls(len(values), values.type))


def duplicate(identifier: str = "") -> Flaw:
    """The row comes twice, the second time under a new identifier where one is named."""
    return Flaw(DefectKind.DUPLICATE, identifier)


def invalid_email(column: str) -> Flaw:
    """The address lacks its @, its domain, or has a space or a second @."""

    def change(values: pa.Array, random: np.random.Generator) -> pa.Array:
        given = pc.coalesce(values, pa.scalar("nobody@example.com"))
        spoilt = [
            pc.replace_substring(given, "@", " at "),
            pc.replace_substring_regex(given, pattern="@.*", replacement="@"),
            pc.replace_substring(given, "@", "@@"),
            joined(given, "."),
        ]
        return pc.choose(pa.array(random.integers(0, len(spoilt), len(given))), *spoilt)

    return Flaw(DefectKind.INVALID_EMAIL, column, change)


def negative(column: str) -> Flaw:
    """The amount, a decimal, is below zero."""
    return Flaw(DefectKind.NEGATIVE_AMOUNT, column, lambda values, _: pc.negate(values))


def negative_text(column: str) -> Flaw:
    """The amount, in text, has a minus before it."""
    return Flaw(DefectKind.NEGATIVE_AMOUNT, column, lambda values, _: joined("-", values))


def replaced(kind: DefectKind, column: str, words: Sequence[str]) -> Flaw:
    """The text is one of these instead."""
    return Flaw(kind, column, lambda values, random: drawn(random, words, len(values)))


def out_of_range(column: str, values: Sequence[float]) -> Flaw:
    """The number is one of these instead."""

    def change(given: pa.Array, random: np.random.Generator) -> pa.Array:
        return pa.array(values, pa.float64()).take(pa.array(random.integers(0, len(values), len(given))))

    return Flaw(DefectKind.OUT_OF_RANGE, column, change)


def date_format(column: str) -> Flaw:
    """The ISO date in text is written day first with slashes or dots, or with the English name of its month."""

    def change(values: pa.Array, random: np.random.Generator) -> pa.Array:
        given = values.cast(pa.date32())
        day, month = (pc.utf8_lpad(text(part(given)), width=2, padding="0") for part in (pc.day, pc.month))
        year, name = text(pc.year(given)), pa.array(MONTHS).take(pc.subtract(pc.month(given), 1))
        forms = (
            joined(day, "/", month, "/", year),
            joined(day, ".", month, ".", year),
            joined(name, " ", day, ", ", year),
        )
        return pc.choose(pa.array(random.integers(0, len(forms), len(values))), *forms)

    return Flaw(DefectKind.DATE_FORMAT, column, change)
