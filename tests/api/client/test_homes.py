"""A client of a home finds its server and signs itself in."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from api.client import Client
from models.errors import NotFound
from runtime.embedded.home import Home, Running
from tests.kit.graphql import settings_of


async def test_a_client_of_a_home_speaks_to_its_server(tmp_path: Path, live: str) -> None:
    home = Home(tmp_path)
    home.acquire()
    home.announce(Running(f"http://{live}", os.getpid(), "postgresql://", "postgresql://", "redis://"))
    async with Client.of_home(settings_of(tmp_path)) as client:
        assert await client.pipelines() == []
        assert await client.executions() == ()
    home.release()


async def test_an_address_and_a_token_of_the_settings_come_first(tmp_path: Path, live: str) -> None:
    async with Client.of_home(settings_of(tmp_path, url=f"http://{live}")) as client:
        assert await client.pipelines() == []
    stranger = settings_of(tmp_path, url=f"http://{live}", token=SecretStr("nonsense"))
    async with Client.of_home(stranger) as client:
        with pytest.raises(Exception, match="the token is not accepted"):
            await client.pipelines()


def test_a_home_without_a_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no server runs in"):
        Client.of_home(settings_of(tmp_path))
