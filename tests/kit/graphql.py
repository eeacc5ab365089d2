"""The API for tests: the application in process, and a real server on the loopback where a socket is the point."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette

from api.app import create_app
from api.server import LARGEST_MESSAGE
from runtime.access.principal import Principal
from runtime.access.tokens import Expected, issue
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings
from tests.kit.eventually import eventually
from tests.kit.identities import ENGINEER

SECRET: Final = "a secret of the tests, long enough to be one"
SEALING_KEY: Final = "test:" + "A" * 43 + "="


def token(principal: Principal, lifetime: timedelta = timedelta(hours=1)) -> str:
    """A token of the tests' home."""
    return issue(SECRET, principal, lifetime=lifetime, now=datetime.now(UTC), expected=Expected())


def settings_of(home: Path, **changes: Any) -> Settings:
    """Settings of a home of the test's own; nothing comes from the environment."""
    values: dict[str, Any] = {
        "home": home,
        "jwt_secret": SecretStr(SECRET),
        "sealing_key": SecretStr(SEALING_KEY),
        "work_timeout_seconds": 10.0,
        **changes,
    }
    return Settings.model_validate(values)


@dataclass
class Api:
    """The application, spoken to in process."""

    app: Starlette
    settings: Settings
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://wedsync.test")

    async def execute(
        self, document: str, variables: Mapping[str, object] | None = None, *, by: Principal | None = ENGINEER
    ) -> dict[str, Any]:
        """The whole answer of an operation."""
        headers = {} if by is None else {"authorization": f"Bearer {token(by)}"}
        body = {"query": document, "variables": dict(variables or {})}
        answer = await self.http.post("/graphql", json=body, headers=headers)
        result: dict[str, Any] = answer.json()
        return result

    async def ask(
        self, document: str, variables: Mapping[str, object] | None = None, *, by: Principal | None = ENGINEER
    ) -> Any:
        """The value of the operation's one field; an AssertionError tells the errors."""
        answer = await self.execute(document, variables, by=by)
        assert "errors" not in answer, answer["errors"]
        (value,) = answer["data"].values()
        return value

    async def refusal(
        self, document: str, variables: Mapping[str, object] | None = None, *, by: Principal | None = ENGINEER
    ) -> dict[str, Any]:
        """The first entry of `errors`: its message, path and extensions."""
        answer = await self.execute(document, variables, by=by)
        error: dict[str, Any] = answer["errors"][0]
        return error


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings for development in a home of the test's own."""
    return settings_of(tmp_path)


@pytest.fixture
async def api(settings: Settings, database: Database) -> AsyncIterator[Api]:
    """The application over the test's own database; without a bus, so that everything polls."""
    made = Api(create_app(settings, database, Bus(None)), settings)
    yield made
    await made.http.aclose()


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """A real server of the application on a free port of the loopback; gives `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws_max_size=LARGEST_MESSAGE,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(_started(server), because="the server listens")
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            await running


def _started(server: uvicorn.Server) -> Callable[[], Awaitable[bool]]:
    async def started() -> bool:
        return server.started

    return started


@pytest.fixture
async def live(api: Api) -> AsyncIterator[str]:
    """The `host:port` of a server of the test's application."""
    async with serving(api.app) as address:
        yield address
