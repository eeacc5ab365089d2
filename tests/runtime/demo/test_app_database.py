"""The app database in a real PostgreSQL: rows, keys, index, and loading it again."""

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import pyarrow as pa
import pytest

from models.errors import Unavailable
from runtime.demo.app_database import AppDatabase
from runtime.demo.columns import cents
from runtime.demo.world import World


def answer(uri: str, query: str) -> pa.Table:
    """A query's rows."""
    with adbc.connect(uri) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetch_arrow_table()


async def test_every_row_lands_with_its_value(world: World, scratch: str) -> None:
    counts = AppDatabase(scratch).load(world)
    assert counts == {
        "venues": world.venues.rows,
        "bookings": world.bookings.rows,
        "payments": world.payments.rows,
        "exchange_rates": 5,
    }
    read = answer(scratch, "SELECT *, (total * 100)::bigint AS cents FROM bookings ORDER BY booking_id")
    given = world.bookings.delivered
    for name in ("booking_id", "couple", "contact_email", "venue_id", "event_date", "guests", "updated_at"):
        assert read[name].combine_chunks().cast(given[name].type).equals(given[name].combine_chunks()), name
    assert read["cents"].to_pylist() == cents(given["total"]).tolist()


async def test_nested_attributes_are_jsonb(world: World, scratch: str) -> None:
    AppDatabase(scratch).load(world)
    query = "SELECT attributes->>'style' AS style, attributes#>>'{catering,per_guest}' AS price FROM venues"
    rows = answer(scratch, query)
    assert rows["style"].null_count == 0
    assert rows["price"].null_count == 0


async def test_keys_and_the_index_of_changes_are_there(world: World, scratch: str) -> None:
    AppDatabase(scratch).load(world)
    connection = await asyncpg.connect(scratch)
    try:
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await connection.execute("UPDATE bookings SET venue_id = -1 WHERE booking_id = 1")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO exchange_rates VALUES ('EUR', 2, now())")
        indexes = await connection.fetch("SELECT indexname FROM pg_indexes WHERE tablename = 'bookings'")
    finally:
        await connection.close()
    assert "bookings_updated_at" in {row["indexname"] for row in indexes}


async def test_loading_again_starts_anew(world: World, scratch: str) -> None:
    AppDatabase(scratch).load(world)
    AppDatabase(scratch).load(world)
    rows = answer(scratch, "SELECT count(*) AS n FROM payments")
    assert rows["n"].to_pylist() == [world.payments.rows]


async def test_confirmed_bookings_are_the_only_ones_that_changed(world: World, scratch: str) -> None:
    database = AppDatabase(scratch)
    database.load(world)
    newest = answer(scratch, "SELECT max(updated_at)::text AS at FROM bookings")["at"][0].as_py()
    confirmed = database.confirm(5)
    assert len(confirmed) == 5
    query = f"SELECT booking_id, status FROM bookings WHERE updated_at > '{newest}' ORDER BY booking_id"
    changed = answer(scratch, query)
    assert changed["booking_id"].to_pylist() == confirmed
    assert set(changed["status"].to_pylist()) == {"confirmed"}


def test_a_server_that_is_away_is_told_with_a_remedy(world: World) -> None:
    with pytest.raises(Unavailable, match="wedding app's database") as refused:
        AppDatabase("postgresql://nobody@127.0.0.1:1/none").load(world)
    assert refused.value.hint
