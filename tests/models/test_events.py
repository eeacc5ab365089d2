"""Execution events: their partitions come and go by day."""

from uuid import uuid4

import asyncpg
import pytest

from tests.models.conftest import Migrated
from tests.models.people import ENGINEER, RUNTIME

EVENT = "INSERT INTO execution_events (execution_id, seq, kind, recorded_at) VALUES ($1, $2, 'step_started', {moment})"


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
