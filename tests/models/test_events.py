"""Execution events: their partitions come and go by day, and a cursor over all of them skips nothing."""

from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.models.conftest import Migrated
from tests.models.people import ENGINEER, RUNTIME

EVENT = "INSERT INTO execution_events (execution_id, seq, kind, recorded_at) VALUES ($1, $2, 'step_started', {moment})"
AFTER = """
    SELECT transaction_id, position, execution_id FROM execution_events
    WHERE (transaction_id, position) > ($1, $2) AND transaction_id < wedsync.event_horizon()
    ORDER BY transaction_id, position
"""


async def partitions(database: Migrated) -> list[str]:
    async with database.as_owner() as connection:
        rows = await connection.fetch(
            """
            SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'execution_events'::regclass ORDER BY relname
            """
        )
    return [row["relname"] for row in rows]


async def test_a_migrated_database_has_partitions_for_today_and_a_week(migrated: Migrated) -> None:
    async with migrated.as_owner() as connection:
        today = await connection.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    names = await partitions(migrated)
    assert names[0] == f"execution_events_{today}"
    assert len(names) == 9
    assert names[-1] == "execution_events_default"


async def test_making_partitions_moves_what_waited_in_the_default_one(migrated: Migrated) -> None:
    async with migrated.acting(RUNTIME) as connection:
        await connection.execute(EVENT.format(moment="now() + interval '8 days'"), uuid4(), 1)
        await connection.execute(EVENT.format(moment="now() + interval '400 days'"), uuid4(), 1)
        before = await connection.fetch("SELECT * FROM execution_events ORDER BY position")
    async with migrated.acting(RUNTIME) as connection:
        assert await connection.fetchval("SELECT wedsync.ensure_event_partitions(9)") == 2
        assert await connection.fetchval("SELECT wedsync.ensure_event_partitions(9)") == 0
        assert await connection.fetch("SELECT * FROM execution_events ORDER BY position") == before
    async with migrated.as_owner() as connection:
        assert await connection.fetchval("SELECT count(*) FROM wedsync.execution_events_default") == 1


async def test_old_days_are_dropped_whole_and_the_default_one_is_swept(migrated: Migrated) -> None:
    async with migrated.as_owner() as connection:
        await connection.execute(
            """
            CREATE TABLE wedsync.execution_events_20010101 PARTITION OF execution_events
                FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')
            """
        )
        for moment in ("'2001-01-01'", "'2000-01-01'", "now()"):
            await connection.execute(EVENT.format(moment=moment), uuid4(), 1)
    async with migrated.acting(RUNTIME) as connection:
        assert await connection.fetchval("SELECT wedsync.drop_event_partitions(30)") == 1
        assert await connection.fetchval("SELECT count(*) FROM execution_events") == 1
    assert len(await partitions(migrated)) == 9


@pytest.mark.parametrize("call", ["ensure_event_partitions(-1)", "drop_event_partitions(0)"])
async def test_senseless_numbers_of_days_are_refused(migrated: Migrated, call: str) -> None:
    async with migrated.acting(RUNTIME) as connection:
        with pytest.raises(asyncpg.DataError, match="must be"):
            await connection.fetchval(f"SELECT wedsync.{call}")


async def test_people_may_not_drop_partitions(migrated: Migrated) -> None:
    async with migrated.acting(ENGINEER) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT wedsync.drop_event_partitions(1)")


async def read(database: Migrated, cursor: tuple[int, int]) -> tuple[list[UUID], tuple[int, int]]:
    """The executions of the events after a cursor, and the cursor after them."""
    async with database.acting(RUNTIME) as connection:
        rows = await connection.fetch(AFTER, *cursor)
    after = (rows[-1]["transaction_id"], rows[-1]["position"]) if rows else cursor
    return [row["execution_id"] for row in rows], after


async def test_an_event_committed_late_is_not_skipped_by_a_cursor(migrated: Migrated) -> None:
    early, late = uuid4(), uuid4()
    async with migrated.acting(RUNTIME) as slow:
        await slow.execute(EVENT.format(moment="now()"), early, 1)
        async with migrated.acting(RUNTIME) as quick:
            await quick.execute(EVENT.format(moment="now()"), late, 1)
        seen, cursor = await read(migrated, (0, 0))
        assert seen == []
    seen, cursor = await read(migrated, cursor)
    assert seen == [early, late]
    assert (await read(migrated, cursor))[0] == []


async def test_an_event_numbered_first_but_written_in_a_later_transaction_is_not_skipped(migrated: Migrated) -> None:
    first, second = uuid4(), uuid4()
    async with migrated.as_owner() as connection:
        # A sequence's first number is written to the log, which would give the slow transaction its id too early.
        await connection.fetchval("SELECT nextval('wedsync.execution_event_position')")
    number = "INSERT INTO execution_events (execution_id, seq, kind, position) VALUES ($1, 1, 'step_started', $2)"
    async with migrated.acting(RUNTIME) as slow:
        position = await slow.fetchval("SELECT nextval('wedsync.execution_event_position')")
        async with migrated.acting(RUNTIME) as quick:
            await quick.execute(EVENT.format(moment="now()"), second, 1)
        seen, cursor = await read(migrated, (0, 0))
        assert seen == [second]
        await slow.execute(number, first, position)
    assert (await read(migrated, cursor))[0] == [first]
