"""`python -m api` serves from the environment alone, and says in one line what it lacks."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.server import configuration
from models.errors import Invalid
from tests.kit.database import Postgres
from tests.kit.eventually import eventually
from tests.kit.graphql import SECRET, settings_of, token
from tests.kit.identities import ENGINEER


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def started(environment: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WEDSYNC_", "DATABASE_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", env={**clean, **environment}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_the_server_answers_over_a_database_it_was_told_of(
    tmp_path: Path, postgres: Postgres, database_name: str
) -> None:
    port = free_port()
    environment = {
        "DATABASE_URL": postgres.server.url(database_name),
        "WEDSYNC_HOME": str(tmp_path),
        "WEDSYNC_JWT_SECRET": SECRET,
        "WEDSYNC_PORT": str(port),
    }
    headers = {"authorization": f"Bearer {token(ENGINEER)}"}
    async with started(environment), httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:

        async def ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, within=30, because="the server is ready")
        answer = await http.post("/graphql", json={"query": "{sources{totalCount}}"})
        assert answer.json() == {"data": {"sources": {"totalCount": 0}}}


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "DATABASE_URL"),
        ({"WEDSYNC_ENV": "production"}, "WEDSYNC_SEALING_KEY"),
        ({"DATABASE_URL": "postgresql+asyncpg://x@/y", "WEDSYNC_JWT_SECRET": "short"}, "WEDSYNC_JWT_SECRET"),
        ({"DATABASE_URL": "postgresql+asyncpg://x@/y", "WEDSYNC_SEALING_KEY": "nonsense"}, "WEDSYNC_SEALING_KEY"),
    ],
)
async def test_what_the_server_lacks_is_told_in_one_line(
    tmp_path: Path, environment: dict[str, str], told: str
) -> None:
    async with started({"WEDSYNC_HOME": str(tmp_path), **environment}) as process:
        _, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert told in stderr.decode()
    assert "Traceback" not in stderr.decode()


def test_sockets_take_messages_of_a_megabyte_at_most_and_are_not_compressed(tmp_path: Path) -> None:
    made = configuration(settings_of(tmp_path, database_url="postgresql+asyncpg://x@/y"))
    assert made.ws_max_size == 1024 * 1024
    assert made.ws_per_message_deflate is False
    with pytest.raises(Invalid):
        configuration(settings_of(tmp_path, database_url=None))
