"""A stack starts what the settings name no address for, and leaves nothing running when it cannot start."""

import socket
from pathlib import Path

import httpx
import pytest

from models.errors import Conflict, DomainError, NotFound, Unavailable
from runtime.embedded.stack import Stack
from tests.kit.database import Postgres
from tests.kit.graphql import settings_of


async def test_named_servers_are_used_instead_of_embedded_ones(
    postgres: Postgres, database_name: str, redis_url: str, tmp_path: Path
) -> None:
    url, owner_url = postgres.server.url(database_name), postgres.server.owner_url(database_name)
    named = {"database_url": url, "owner_url": owner_url, "redis_url": redis_url}
    stack = Stack(settings_of(tmp_path, port=0, ray_dashboard=False, **named))
    try:
        addresses = await stack.start()
        assert (addresses.database_url, addresses.owner_url, addresses.redis_url) == (url, owner_url, redis_url)
        assert stack.postgres is None
        assert not (tmp_path / "postgres").exists()
        async with httpx.AsyncClient(base_url=addresses.api_url) as client:
            assert (await client.get("/readyz")).status_code == httpx.codes.OK
        assert stack.home.running().url == addresses.api_url
        await stack.mend()
    finally:
        stack.stop()
    with pytest.raises(NotFound):
        stack.home.running()


async def test_a_database_that_is_away_is_told_and_nothing_stays(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, port=0, database_url="postgresql://nobody@127.0.0.1:1/nothing")
    stack = Stack(settings)
    with pytest.raises(Unavailable, match="PostgreSQL cannot be reached"):
        await stack.start()
    again = Stack(settings)
    again.home.acquire()
    again.home.release()


async def test_a_port_that_is_taken_is_a_conflict(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        stack = Stack(settings_of(tmp_path, port=taken.getsockname()[1]))
        with pytest.raises(Conflict, match="cannot be used: Address already in use"):
            await stack.start()


def test_a_stack_that_was_not_started_has_no_addresses(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="has not started"):
        _ = Stack(settings_of(tmp_path)).addresses
