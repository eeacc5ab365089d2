"""Guests and their responses: who was invited, who comes, what they eat and where they sit."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from runtime.demo.blueprint import Blueprint
from runtime.demo.bookings import CANCELLED, Bookings
from runtime.demo.columns import DAY, Integers, chosen, dates, drawn, joined, slugs, text, where
from runtime.demo.dataset import Dataset, DefectKind, spoil
from runtime.demo.flaws import date_format, duplicate, invalid_email, missing, replaced
from runtime.demo.words import DIET_WEIGHTS, DIETS, FIRST_NAMES, LAST_NAMES, MAIL_DOMAINS, NOTES

GUESTS_AT_SCALE_ONE = 270_000
DAYS_BACK, DAYS_AHEAD = 300, 120
CHAIRS = 8
RESPONSES = ("accepted", "declined", "tentative")
SPELLINGS = {
    "accepted": ("yes", "Yes", "YES", "accepted", "attending"),
    "declined": ("no", "No", "NO", "declined", "regrets"),
    "tentative": ("maybe", "Maybe", "MAYBE", "tentative", "not sure"),
}


@dataclass(frozen=True, slots=True)
class _Invitations:
    """A guest each: booking (from 0), place in its list (from 0), days of invitation, response and event, answer.

    `answer` is a position in RESPONSES, or past them when none has come.
    """

    booking: Integers
    place: Integers
    invited: Integers
    responded: Integers
    event: Integers
    answer: Integers


def make_guests(blueprint: Blueprint, bookings: Bookings) -> Dataset:
    """Guests of recent and coming weddings, each wedding with as many as it booked.

    Clean: guest_id (BIGINT from 1), booking_id, name, email, invited_on, responded_on (DATE, null without an answer),
    rsvp (accepted, declined, tentative, or null), dietary, plus_one, table_number (of those who come), note.
    Delivered: the dates are text, and rsvp is spelled in many ways.
    """
    random = blueprint.random("guests")
    who = _invitations(random, blueprint, bookings)
    rows = len(who.booking)
    answered, comes = who.answer < len(RESPONSES), who.answer == 0
    clean = pa.table(
        {
            "guest_id": pa.array(np.arange(1, rows + 1)),
            "booking_id": pa.array(who.booking + 1),
            **_people(random, rows),
            "invited_on": dates(who.invited),
            "responded_on": where(answered, dates(who.responded)),
            "rsvp": chosen((*RESPONSES, None), who.answer),
            "dietary": where(comes, drawn(random, DIETS, rows, DIET_WEIGHTS)),
            "plus_one": pa.array(comes & (random.random(rows) < 0.15)),
            "table_number": where(comes, pa.array(who.place // CHAIRS + 1, pa.int32())),
            "note": where(answered & (random.random(rows) < 0.06), drawn(random, NOTES, rows)),
        }
    )
    flaws = [
        missing("email"),
        invalid_email("email"),
        replaced(DefectKind.UNKNOWN_STATUS, "rsvp", ["?", "see note", "tbd"]),
        date_format("invited_on"),
        missing("invited_on"),
        duplicate(),
    ]
    return spoil("guests", clean, _written(random, clean, who.answer), flaws, blueprint.dirty_share, random)


def _written(random: np.random.Generator, clean: pa.Table, answer: Integers) -> pa.Table:
    """The rows with dates in text and answers in the guests' own words."""
    spelled = [*(one for name in RESPONSES for one in SPELLINGS[name]), None]
    width = len(SPELLINGS["accepted"])
    picks = np.minimum(answer * width + random.integers(0, width, len(answer)), len(spelled) - 1)
    changed = {
        "invited_on": text(clean["invited_on"].combine_chunks()),
        "responded_on": text(clean["responded_on"].combine_chunks()),
        "rsvp": chosen(spelled, picks),
    }
    return pa.table({name: changed.get(name, clean[name]) for name in clean.column_names})


def _invitations(random: np.random.Generator, blueprint: Blueprint, bookings: Bookings) -> _Invitations:
    """The guest lists of as many weddings, drawn at random, as hold the guests that the scale asks for."""
    event, today = bookings.event, blueprint.today
    near = (event >= today - DAYS_BACK) & (event < today + DAYS_AHEAD) & (bookings.status != CANCELLED)
    drawn_in = random.permutation(np.flatnonzero(near))
    enough = np.searchsorted(np.cumsum(bookings.guests[drawn_in]), blueprint.rows(GUESTS_AT_SCALE_ONE, least=200))
    weddings = np.sort(drawn_in[: enough + 1])
    counts = bookings.guests[weddings]
    booking = np.repeat(weddings, counts)
    place = np.arange(len(booking)) - np.repeat(np.cumsum(counts) - counts, counts)
    days = event[booking]
    sent = np.maximum(event - 150, bookings.booked // DAY + 1) - random.integers(0, 2, len(event))
    invited = np.clip(sent[booking] + random.integers(0, 10, len(booking)), None, np.minimum(days - 9, today - 1))
    responded = np.minimum(invited + 1 + random.geometric(0.05, len(booking)), days - 7)
    answer = random.choice(len(RESPONSES), len(booking), p=(0.76, 0.17, 0.07))
    silent = (responded >= today) | (random.random(len(booking)) < 0.04)
    return _Invitations(booking, place, invited, responded, days, np.where(silent, len(RESPONSES), answer))


def _people(random: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    first, last = random.integers(0, len(FIRST_NAMES), rows), random.integers(0, len(LAST_NAMES), rows)
    number = text(random.integers(1, 10_000, rows))
    local = joined(chosen(slugs(FIRST_NAMES), first), ".", chosen(slugs(LAST_NAMES), last), number)
    return {
        "name": joined(chosen(FIRST_NAMES, first), " ", chosen(LAST_NAMES, last)),
        "email": joined(local, "@", drawn(random, MAIL_DOMAINS, rows)),
    }
