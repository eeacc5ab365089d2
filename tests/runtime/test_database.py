"""The unit of work: whose identity a transaction has, and what becomes of errors, cancellation and lost connections."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Conflict, Denied, Exhausted, Invalid, Unavailable
from runtime.access.principal import Principal
from runtime.database import Database, translated
from runtime.resets import resets_told
from tests.kit.database import Postgres
from tests.kit.eventually import eventually
from tests.kit.identities import ADMIN, ANALYST, ENGINEER, OTHER_ANALYST, RUNTIME

EVERYONE = (ADMIN, ENGINEER, ANALYST, OTHER_ANALYST, RUNTIME)
WHO = text("SELECT current_user, auth.jwt() ->> 'sub', pg_backend_pid()")


@pytest.fixture
async def narrow(postgres: Postgres, database_name: str) -> AsyncIterator[Database]:
    """A pool of two connections at most, so that all identities share them."""
    made = Database(postgres.server.url(database_name), pool_size=1)
    yield made
    await made.close()


async def who(session: AsyncSession) -> tuple[str, str, int]:
    """The role, the subject and the server process of a session."""
    role, subject, pid = (await session.execute(WHO)).one()
    return role, subject, pid


async def backend_is_idle(owner: asyncpg.Connection, pid: int) -> bool:
    """Whether a server process is in no transaction, or gone."""
    state = await owner.fetchval("SELECT state FROM pg_stat_activity WHERE pid = $1", pid)
    return state in (None, "idle")


async def test_a_transaction_acts_as_its_identity(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        role, subject, _ = await who(session)
    assert (role, subject) == ("authenticated", str(ENGINEER.user_id))


async def test_identities_that_share_connections_never_see_each_other(narrow: Database) -> None:
    pids: set[int] = set()

    async def act(person: Principal, fails: bool) -> None:
        with suppress(LookupError):
            async with narrow.transaction(person) as session:
                role, subject, pid = await who(session)
                pids.add(pid)
                assert (role, subject) == (person.database_role, str(person.user_id))
                if fails:
                    raise LookupError

    order = [(person, turn % 7 == 0) for turn in range(40) for person in EVERYONE]
    random.shuffle(order)
    await asyncio.gather(*(act(person, fails) for person, fails in order))
    assert len(pids) <= 2


async def test_nothing_of_an_identity_stays_on_the_connection(narrow: Database) -> None:
    async with narrow.transaction(ADMIN) as session:
        _, _, acted = await who(session)
    async with narrow.engine.connect() as connection:
        row = (
            await connection.execute(
                text("SELECT current_user, current_setting('request.jwt.claims', true), pg_backend_pid()")
            )
        ).one()
    assert (row[0], row[1] or None, row[2]) == ("wedsync_app", None, acted)


async def test_a_cancelled_task_leaves_neither_its_identity_nor_its_rows(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    holding = asyncio.Event()
    pids: list[int] = []

    async def work() -> None:
        async with narrow.transaction(ADMIN) as session:
            pids.append((await who(session))[2])
            await session.execute(text("INSERT INTO auth.users (id) VALUES (gen_random_uuid())"))
            holding.set()
            await session.execute(text("SELECT pg_sleep(60)"))

    before = await owner.fetchval("SELECT count(*) FROM auth.users")
    await owner.execute("GRANT INSERT ON auth.users TO authenticated")
    task = asyncio.create_task(work())
    await holding.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: backend_is_idle(owner, pids[0]), because="the cancelled statement ends on the server")
    assert await owner.fetchval("SELECT count(*) FROM auth.users") == before
    for person in (ANALYST, ENGINEER, RUNTIME):
        async with narrow.transaction(person) as session:
            assert (await who(session))[:2] == (person.database_role, str(person.user_id))


async def test_a_task_cancelled_at_any_moment_leaves_a_clean_pool(narrow: Database) -> None:
    async def work() -> None:
        for person in EVERYONE:
            async with narrow.transaction(person) as session:
                await session.execute(text("SELECT pg_sleep(0.001)"))

    for moment in range(30):
        task = asyncio.create_task(work())
        for _ in range(moment):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with narrow.transaction(ANALYST) as session:
            assert (await who(session))[:2] == ("authenticated", str(ANALYST.user_id))
    assert narrow.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_killed_backend_is_unavailable_for_its_transaction_only(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    killed: list[int] = []

    async def work() -> None:
        async with narrow.transaction(ADMIN) as session:
            killed.append((await who(session))[2])
            await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", killed[0])
            await session.execute(text("SELECT 1"))

    with pytest.raises(Unavailable, match="cannot be reached"):
        await work()
    async with narrow.transaction(ANALYST) as session:
        role, subject, later = await who(session)
    assert (role, subject) == ("authenticated", str(ANALYST.user_id))
    assert later not in killed


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    database: Database, owner: asyncpg.Connection
) -> None:
    async def hold() -> int:
        async with database.transaction(ENGINEER) as session:
            await session.execute(text("SELECT pg_sleep(0.05)"))
            return (await who(session))[2]

    pids = set(await asyncio.gather(*(hold() for _ in range(4))))
    assert len(pids) > 1
    for pid in pids:
        await owner.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
    for _ in range(4):
        assert await hold() not in pids


CLOSED = "unable to perform operation on <TCPTransport closed=True reading=False 0x7f>; the handler is closed"
"""What uvloop says of a connection that was reset, and whose end it has yet to tell."""


def test_a_reset_as_uvloop_tells_it_is_unavailable() -> None:
    with pytest.raises(ConnectionResetError) as told, resets_told():
        raise RuntimeError(CLOSED)
    assert isinstance(translated(told.value), Unavailable)


async def test_a_reset_as_uvloop_tells_it_ends_its_transaction_only(narrow: Database) -> None:
    pids: list[int] = []

    async def work(said: str) -> None:
        async with narrow.transaction(ADMIN) as session:
            pids.append((await who(session))[2])
            raise RuntimeError(said)

    with pytest.raises(Unavailable, match="cannot be reached"):
        await work(CLOSED)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a bug of ours"):
            await work("a bug of ours")
    assert pids[0] != pids[1] == pids[2]


async def test_a_server_that_is_away_is_unavailable_with_the_remedy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    away = Database(f"postgresql+asyncpg://nobody@127.0.0.1:{port}/none")
    with pytest.raises(Unavailable) as caught:
        async with away.transaction(RUNTIME):
            pass
    assert "DATABASE_URL" in str(caught.value)


@pytest.mark.usefixtures("migrated_template")
async def test_a_database_that_is_not_there_is_unavailable(postgres: Postgres) -> None:
    missing = Database(postgres.server.url("no_such_database"))
    with pytest.raises(Unavailable, match="no_such_database"):
        async with missing.transaction(RUNTIME):
            pass


async def test_a_role_the_login_may_not_take_is_denied(database: Database) -> None:
    forged = Principal(ADMIN.user_id, ADMIN.role, database_role="postgres")
    with pytest.raises(Denied, match="postgres"):
        async with database.transaction(forged):
            pass


async def test_errors_of_the_work_itself_pass_through(database: Database) -> None:
    for error in (TimeoutError("of the work"), ConnectionRefusedError("of another server"), Conflict("of ours")):
        with pytest.raises(type(error)) as caught:
            async with database.transaction(ENGINEER):
                raise error
        assert caught.value is error


async def test_a_bug_in_our_sql_stays_what_it_is(database: Database) -> None:
    with pytest.raises(ProgrammingError):
        async with database.transaction(ENGINEER) as session:
            await session.execute(text("SELECT * FROM no_such_table"))


@pytest.fixture
async def table(owner: asyncpg.Connection) -> None:
    """A table with every kind of constraint, open to people, with row-level security on one column."""
    await owner.execute("""
        CREATE TABLE guests (
            name text PRIMARY KEY, seats integer NOT NULL CHECK (seats > 0), host text REFERENCES guests, secret text
        );
        ALTER TABLE guests ENABLE ROW LEVEL SECURITY;
        CREATE POLICY all_but_ghosts ON guests TO authenticated USING (true) WITH CHECK (name <> 'ghost');
        GRANT SELECT, INSERT, UPDATE ON guests TO authenticated;
        INSERT INTO guests VALUES ('ada', 2)
    """)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("values", "expected", "path"),
    [
        ("'ada', 1, NULL, NULL", Conflict, None),
        ("'bea', 1, 'nobody', NULL", Conflict, None),
        ("'ghost', 1, NULL, NULL", Denied, None),
        ("'bea', NULL, NULL, 'hush'", Invalid, "seats"),
        ("'bea', 0, NULL, 'hush'", Invalid, None),
        ("'bea', 99999999999, NULL, 'hush'", Invalid, None),
    ],
)
async def test_what_the_database_refuses_is_a_typed_error(
    database: Database, values: str, expected: type[Exception], path: str | None
) -> None:
    with pytest.raises(expected) as caught:
        async with database.transaction(ENGINEER) as session:
            await session.execute(text(f"INSERT INTO guests VALUES ({values})"))
    assert getattr(caught.value, "path", None) == path
    assert getattr(caught.value, "hint", None)
    assert "hush" not in str(caught.value)


@pytest.mark.usefixtures("table")
async def test_a_taken_key_names_its_column_where_row_level_security_lets_it(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute("ALTER TABLE guests DISABLE ROW LEVEL SECURITY")
    with pytest.raises(Conflict, match="already exists") as caught:
        async with database.transaction(ENGINEER) as session:
            await session.execute(text("INSERT INTO guests VALUES ('ada', 1)"))
    assert caught.value.path == "name"


async def test_a_statement_that_takes_too_long_is_stopped(postgres: Postgres, database_name: str) -> None:
    hasty = Database(postgres.server.url(database_name), statement_timeout=0.05)
    with pytest.raises(Exhausted, match="statement timeout"):
        async with hasty.transaction(ENGINEER) as session:
            await session.execute(text("SELECT pg_sleep(10)"))
    await hasty.close()


@pytest.mark.usefixtures("table")
async def test_tables_that_change_under_a_running_process_cost_one_try(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    async def read() -> list[tuple[object, ...]]:
        async with narrow.transaction(ENGINEER) as session:
            return [tuple(row) for row in await session.execute(text("SELECT * FROM guests"))]

    await read()
    await owner.execute("ALTER TABLE guests ADD COLUMN phone text")
    with pytest.raises(Unavailable, match="migrated"):
        await read()
    assert await read() == [("ada", 2, None, None, None)]


@pytest.mark.usefixtures("table")
async def test_a_plan_cached_for_one_identity_is_not_used_for_another(
    narrow: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute("""
        CREATE POLICY nothing_of_others ON guests AS RESTRICTIVE TO authenticated
            USING (host IS NULL OR host = (SELECT auth.jwt() ->> 'sub'));
        GRANT SELECT ON guests TO wedsync_runtime;
        CREATE POLICY runtime_all ON guests TO wedsync_runtime USING (true)
    """)
    await owner.execute("INSERT INTO guests VALUES ($1, 1)", str(ANALYST.user_id))
    await owner.execute("INSERT INTO guests VALUES ('plus one', 1, $1)", str(ANALYST.user_id))
    expected = {ANALYST: 3, ENGINEER: 2, RUNTIME: 3, ADMIN: 2}
    for person in [*expected] * 8:
        async with narrow.transaction(person) as session:
            assert await session.scalar(text("SELECT count(*) FROM guests")) == expected[person]


def test_an_error_that_is_no_refusal_is_not_translated() -> None:
    assert translated(ValueError("a bug")) is None
