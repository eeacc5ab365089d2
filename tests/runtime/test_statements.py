"""Transactions of plain statements: the same identities and errors as the session's, over connections of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from models.errors import Conflict, Denied, Exhausted, Unavailable
from runtime.access.principal import Principal
from runtime.database import Database
from tests.kit.database import Postgres
from tests.kit.eventually import eventually
from tests.kit.identities import ADMIN, ANALYST, ENGINEER, RUNTIME

WHO = text("SELECT current_user AS role, auth.jwt() ->> 'sub' AS subject, pg_backend_pid() AS pid")
TAKE = text("""
    INSERT INTO leases (name, holder, generation, acquired_at, expires_at) VALUES (:name, :holder, 1, now(), now())
""")
LEASES = text("SELECT count(*) FROM leases WHERE name = :name")


@pytest.fixture
async def narrow(postgres: Postgres, database_name: str) -> AsyncIterator[Database]:
    """One connection for statements."""
    made = Database(postgres.server.url(database_name), pool_size=1, statement_timeout=5)
    yield made
    await made.close()


async def pid(database: Database, person: Principal = RUNTIME) -> int:
    """The server process that a transaction is given."""
    async with database.statements(person) as session:
        return int((await session.execute(WHO)).one().pid)


async def test_identities_take_turns_on_one_connection_and_never_see_each_other(narrow: Database) -> None:
    pids = set()
    for person in (ADMIN, ENGINEER, ANALYST, RUNTIME):
        async with narrow.statements(person) as session:
            row = (await session.execute(WHO)).one()
        assert (row.role, row.subject) == (person.database_role, str(person.user_id))
        pids.add(row.pid)
    assert len(pids) == 1


async def test_names_are_bound_wherever_they_stand_and_casts_are_none(narrow: Database) -> None:
    statement = text("SELECT :b::text AS bound, CAST(:a AS int) + CAST(:a AS int) AS twice, :b::text AS again")
    async with narrow.statements(RUNTIME) as session:
        row = (await session.execute(statement, {"a": 2, "b": "x'; --"})).first()
    assert row is not None
    assert (row.bound, row.twice, row.again) == ("x'; --", 4, "x'; --")
    with pytest.raises(AttributeError):
        _ = row.unknown


async def test_documents_come_as_values_and_go_as_text(narrow: Database) -> None:
    async with narrow.statements(RUNTIME) as session:
        answer = await session.execute(text("SELECT CAST(:given AS jsonb)"), {"given": '{"a": [1, null]}'})
    assert answer.scalar_one() == {"a": [1, None]}


async def test_an_error_undoes_the_transaction_and_comes_out_typed(narrow: Database) -> None:
    name = uuid4().hex

    async def take(times: int) -> None:
        async with narrow.statements(RUNTIME) as session:
            for _ in range(times):
                await session.execute(TAKE, {"name": name, "holder": "me"})
            raise LookupError

    with pytest.raises(Conflict, match="duplicate key"):
        await take(2)
    with pytest.raises(LookupError):
        await take(1)
    async with narrow.statements(RUNTIME) as session:
        assert (await session.scalars(LEASES, {"name": name})).one() == 0
    with pytest.raises(Denied):
        async with narrow.statements(ANALYST) as session:
            await session.execute(TAKE, {"name": name, "holder": "me"})


async def test_what_takes_too_long_is_stopped_and_told(postgres: Postgres, database_name: str) -> None:
    hasty = Database(postgres.server.url(database_name), pool_size=1, statement_timeout=0.05)
    with pytest.raises(Exhausted):
        async with hasty.statements(RUNTIME) as session:
            await session.execute(text("SELECT pg_sleep(5)"))
    await hasty.close()


async def test_a_connection_that_was_dropped_while_it_was_idle_is_replaced(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    first = await pid(narrow)
    assert await pid(narrow) == first
    await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", first)
    assert await pid(narrow) != first


async def test_a_connection_that_is_dropped_amid_a_transaction_is_unavailable(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    own = await pid(narrow)

    async def dropped() -> None:
        async with narrow.statements(RUNTIME) as session:
            await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", own)
            await session.execute(WHO)

    with pytest.raises(Unavailable):
        await dropped()
    assert await pid(narrow) != own


async def test_a_cancelled_statement_holds_no_connection_and_leaves_nothing(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    name, began = uuid4().hex, asyncio.Event()

    async def hang() -> None:
        async with narrow.statements(RUNTIME) as session:
            await session.execute(TAKE, {"name": name, "holder": "me"})
            began.set()
            await session.execute(text("SELECT pg_sleep(60)"))

    hanging = asyncio.create_task(hang())
    await asyncio.wait([hanging, asyncio.create_task(began.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not hanging.done()
    hanging.cancel()
    with suppress(asyncio.CancelledError):
        await hanging
    assert await asyncio.wait_for(pid(narrow), 5)

    async def is_undone() -> bool:
        return not await owner.fetch("SELECT FROM leases WHERE name = $1", name)

    await eventually(is_undone, because="the transaction is rolled back")


async def test_no_more_connections_are_made_than_allowed(narrow: Database) -> None:
    assert len(set(await asyncio.gather(*(pid(narrow) for _ in range(8))))) == 1


async def test_what_comes_back_to_a_closed_database_is_closed(postgres: Postgres, database_name: str) -> None:
    made = Database(postgres.server.url(database_name), pool_size=1)
    async with made.statements(RUNTIME) as session:
        await session.execute(WHO)
        await made.close()
    assert made._connections._idle == []


async def test_a_transaction_need_not_wait_for_the_disk(narrow: Database) -> None:
    ask = text("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'")
    async with narrow.statements(RUNTIME, lasting=False) as session:
        row = (await session.execute(ask)).one()
    assert (row.setting, row.source) == ("off", "session")
    async with narrow.statements(RUNTIME) as session:
        assert (await session.execute(ask)).one().source != "session"


@pytest.mark.usefixtures("migrated_template")
async def test_a_database_that_is_not_there_is_unavailable(postgres: Postgres) -> None:
    missing = Database(postgres.server.url("no_such_database"))
    with pytest.raises(Unavailable, match="no_such_database"):
        async with missing.statements(RUNTIME):
            pass
