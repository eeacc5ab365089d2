"""One transaction and one set of loaders per operation; a change is seen by what is read after it."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from graphql_schema.context import Context, Services
from models.errors import Exhausted, Unauthenticated
from runtime.access.sealing import Sealer
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings
from tests.kit.graphql import SEALING_KEY
from tests.kit.identities import ENGINEER
from tests.kit.statements import recorded

TRANSACTION = text("SELECT txid_current()")


@pytest.fixture
def context(settings: Settings, database: Database) -> Context:
    return Context(Services(settings, database, Bus(None), Sealer.parse(SEALING_KEY)), ENGINEER)


async def doubled(session: AsyncSession, keys: list[int]) -> list[int]:
    rows = await session.execute(text("SELECT unnest(CAST(:keys AS int[])) * 2"), {"keys": keys})
    return list(rows.scalars())


async def transaction_of(context: Context) -> int:
    async with context.reading() as session:
        return int(await session.scalar(TRANSACTION) or 0)


async def test_all_reads_of_an_operation_share_one_transaction(context: Context) -> None:
    found = await asyncio.gather(*(transaction_of(context) for _ in range(5)))
    assert len(set(found)) == 1
    await context.close()


async def test_another_operation_of_the_same_socket_has_a_transaction_of_its_own(context: Context) -> None:
    one, other = context.for_operation(), context.for_operation()
    assert await transaction_of(one) != await transaction_of(other)
    await one.close()
    await other.close()


async def test_a_stream_holds_no_transaction_between_its_reads(context: Context, owner: asyncpg.Connection) -> None:
    context.become_stream()
    assert await transaction_of(context) != await transaction_of(context)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"
    assert await owner.fetchval(idle) == 0


async def test_a_change_is_seen_by_what_is_read_after_it(context: Context) -> None:
    before = await transaction_of(context)
    async with context.writing() as session:
        assert int(await session.scalar(TRANSACTION) or 0) != before
    assert await transaction_of(context) != before
    await context.close()


async def test_a_level_of_keys_is_read_with_one_statement(context: Context, database: Database) -> None:
    with recorded(database) as statements:
        found = await asyncio.gather(*(context.load(doubled, number) for number in range(20)))
        assert await context.load(doubled, 3) == 6
    assert found == [number * 2 for number in range(20)]
    assert len(statements) == 1
    await context.close()


async def test_a_failed_read_is_told_and_does_not_spoil_the_next(context: Context) -> None:
    async def too_slow() -> None:
        async with context.reading() as session:
            await session.execute(text("SET LOCAL statement_timeout = 1"))
            await session.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(Exhausted):
        await too_slow()
    assert await transaction_of(context)
    await context.close()


async def test_a_cancelled_read_gives_its_connection_back(context: Context, owner: asyncpg.Connection) -> None:
    async def slow() -> None:
        async with context.reading() as session:
            await session.execute(text("SELECT pg_sleep(30)"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await slow()
    assert await transaction_of(context)
    await context.close()


async def test_what_was_read_is_in_the_audit_log_when_the_operation_ends(
    context: Context, owner: asyncpg.Connection
) -> None:
    await transaction_of(context)
    context.note("read", "samples", UUID(int=9), email="ann@example.org")
    assert await owner.fetchval("SELECT count(*) FROM audit_log") == 0
    await context.close()
    row = await owner.fetchrow("SELECT actor, action, entity_id, detail ->> 'email' AS email FROM audit_log")
    assert row is not None
    assert tuple(row) == (ENGINEER.user_id, "read", str(UUID(int=9)), "a***@e***.org")


async def test_nobody_reads_without_a_sign_in(settings: Settings, database: Database) -> None:
    stranger = Context(Services(settings, database, Bus(None), Sealer.parse(SEALING_KEY)))
    with pytest.raises(Unauthenticated):
        await transaction_of(stranger)
