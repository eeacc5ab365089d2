"""Payments: what couples have paid for their bookings, in instalments."""

import numpy as np
import pyarrow as pa

from runtime.demo.blueprint import Blueprint
from runtime.demo.bookings import CANCELLED, Bookings
from runtime.demo.columns import DAY, Integers, chosen, drawn, moments, money
from runtime.demo.dataset import Dataset, spoil
from runtime.demo.flaws import duplicate, missing, negative


def make_payments(blueprint: Blueprint, bookings: Bookings) -> Dataset:
    """Payments: payment_id (BIGINT from 1), booking_id, amount (its booking's currency), method, paid_at, status.

    A booking is paid in two or three instalments: on booking, half-way (of three), and three weeks before the day;
    those due by `as_of` are here, and of a completed wedding they sum to its total. A cancelled one paid its deposit,
    which half of them got back (`refunded`).
    """
    random = blueprint.random("payments")
    booking, amount, paid = _instalments(random, blueprint, bookings)
    rows = len(booking)
    cancelled = bookings.status[booking] == CANCELLED
    refunded = cancelled & (booking % 2 == 0)
    recent = ~cancelled & (paid > blueprint.now - 4 * DAY)
    status = np.select([refunded, recent], [2, 1], 0)
    clean = pa.table(
        {
            "payment_id": pa.array(np.arange(1, rows + 1)),
            "booking_id": pa.array(booking + 1),
            "amount": money(amount),
            "method": drawn(random, ("card", "transfer", "direct debit", "cash"), rows, (0.5, 0.35, 0.13, 0.02)),
            "paid_at": moments(paid),
            "status": chosen(("settled", "pending", "refunded"), status),
        }
    )
    flaws = [missing("method"), negative("amount"), missing("paid_at"), duplicate("payment_id")]
    return spoil("payments", clean, clean, flaws, blueprint.dirty_share, random)


def _instalments(
    random: np.random.Generator, blueprint: Blueprint, bookings: Bookings
) -> tuple[Integers, Integers, Integers]:
    """Booking (from 0), cents and second of each payment made, by time."""
    number = np.arange(len(bookings.event))
    deposit = bookings.total // 4
    middle = np.where(random.random(len(number)) < 0.6, bookings.total * 7 // 20, 0)
    last = bookings.total - deposit - middle
    final_due = (bookings.event - 21) * DAY + random.integers(0, 5 * DAY, len(number))
    half_way = (bookings.booked + final_due) // 2
    booking = np.tile(number, 3)
    amount = np.concatenate([deposit, middle, last])
    paid = np.concatenate([bookings.booked + random.integers(0, DAY, len(number)), half_way, final_due])
    is_deposit = np.arange(len(booking)) < len(number)
    made = (amount > 0) & (paid < blueprint.now) & (is_deposit | (bookings.status[booking] != CANCELLED))
    order = np.argsort(paid[made], kind="stable")
    return booking[made][order], amount[made][order], paid[made][order]
