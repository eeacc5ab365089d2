"""The wedding app's own database: its tables, filled with bookings, payments, venues and exchange rates."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pyarrow as pa

from models.errors import Unavailable
from runtime.demo.columns import dates
from runtime.demo.words import EXCHANGE_RATES
from runtime.demo.world import World

TABLES = """
DROP TABLE IF EXISTS payments, bookings, venues, exchange_rates CASCADE;
CREATE TABLE venues (
    venue_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    city TEXT,
    country TEXT NOT NULL,
    capacity INTEGER,
    currency TEXT NOT NULL,
    attributes JSONB NOT NULL
);
CREATE TABLE bookings (
    booking_id BIGINT NOT NULL,
    couple TEXT NOT NULL,
    contact_email TEXT,
    venue_id BIGINT NOT NULL,
    event_date DATE NOT NULL,
    guests INTEGER,
    status TEXT NOT NULL,
    total NUMERIC(12, 2) NOT NULL,
    currency TEXT NOT NULL,
    booked_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE payments (
    payment_id BIGINT NOT NULL,
    booking_id BIGINT NOT NULL,
    amount NUMERIC(12, 2) NOT NULL,
    method TEXT,
    paid_at TIMESTAMPTZ,
    status TEXT NOT NULL
);
CREATE TABLE exchange_rates (
    currency TEXT NOT NULL,
    per_euro NUMERIC(12, 6) NOT NULL,
    valid_on DATE NOT NULL
);
"""

# After the rows, as one pass over a full table is cheaper than a look-up for each row.
KEYS = """
ALTER TABLE venues ADD PRIMARY KEY (venue_id);
ALTER TABLE exchange_rates ADD PRIMARY KEY (currency);
ALTER TABLE bookings ADD PRIMARY KEY (booking_id), ADD FOREIGN KEY (venue_id) REFERENCES venues;
ALTER TABLE payments ADD PRIMARY KEY (payment_id), ADD FOREIGN KEY (booking_id) REFERENCES bookings;
CREATE INDEX bookings_updated_at ON bookings (updated_at);
CREATE INDEX bookings_venue_day ON bookings (venue_id, event_date);
CREATE INDEX payments_paid_at ON payments (paid_at);
CREATE INDEX payments_booking ON payments (booking_id);
ANALYZE venues, bookings, payments, exchange_rates;
"""

CONFIRMATION = """
UPDATE bookings SET status = 'confirmed', updated_at = now()
WHERE booking_id IN (
    SELECT booking_id FROM bookings WHERE status = 'tentative' ORDER BY booking_id LIMIT $1
)
RETURNING booking_id
"""


@dataclass(frozen=True, slots=True)
class AppDatabase:
    """The app's database at a libpq URI."""

    uri: str

    def load(self, world: World) -> Mapping[str, int]:
        """Make the tables anew and fill them, in one transaction; answers the rows of each.

        Raises `Unavailable` when the server cannot be reached or refuses.
        """
        tables = {
            "venues": world.venues.delivered,
            "bookings": world.bookings.delivered,
            "payments": world.payments.delivered,
            "exchange_rates": exchange_rates(world),
        }
        with self._transaction() as cursor:
            _run(cursor, TABLES)
            for name, rows in tables.items():
                cursor.adbc_ingest(name, rows, mode="append")
            _run(cursor, KEYS)
        return {name: rows.num_rows for name, rows in tables.items()}

    def confirm(self, count: int) -> list[int]:
        """Let life go on: confirm the first `count` tentative bookings, changed now; answers their ids in order.

        Raises `Unavailable` as `load` does.
        """
        with self._transaction() as cursor:
            cursor.execute(CONFIRMATION, (count,))
            return sorted(cursor.fetch_arrow_table()["booking_id"].to_pylist())

    @contextmanager
    def _transaction(self) -> Iterator[adbc.Cursor]:
        try:
            with adbc.connect(self.uri) as connection, connection.cursor() as cursor:
                yield cursor
                connection.commit()
        except adbc_driver_manager.Error as error:
            hint = "does the database exist, and may its user create tables there?"
            raise Unavailable(f"the wedding app's database cannot be written: {error}", hint=hint) from error


def exchange_rates(world: World) -> pa.Table:
    """What one euro costs in each currency: currency, per_euro (DECIMAL), valid_on."""
    rates = [Decimal(rate) for rate in EXCHANGE_RATES.values()]
    return pa.table(
        {
            "currency": pa.array(EXCHANGE_RATES),
            "per_euro": pa.array(rates, pa.decimal128(12, 6)),
            "valid_on": dates(np.full(len(rates), world.blueprint.today)),
        }
    )


def _run(cursor: adbc.Cursor, script: str) -> None:
    """Statement by statement: several at once cannot be prepared."""
    for statement in filter(str.strip, script.split(";")):
        cursor.execute(statement)
