"""The whole program as people use it: commands of `wedsync` in process, clients of the session's stack."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from api.cli.main import app
from api.client import Client
from models.access import Role
from models.fields import Json
from runtime.embedded.stack import Stack
from tests.kit.graphql import SEALING_KEY, SECRET

Command = Callable[..., "Said"]


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended: its exit status, and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        """Its last line, read as JSON."""
        found: Json = orjson.loads(self.out.strip().splitlines()[-1])
        return found


def environment_of(home: Path) -> Mapping[str, str | None]:
    """The environment of a home with the tests' secrets, and with nothing of this machine's own."""
    unset = ("DATABASE_URL", "REDIS_URL", "RAY_ADDRESS", "WEDSYNC_OWNER_URL", "WEDSYNC_URL", "WEDSYNC_TOKEN")
    return {
        **dict.fromkeys(unset),
        "WEDSYNC_HOME": str(home),
        "WEDSYNC_JWT_SECRET": SECRET,
        "WEDSYNC_SEALING_KEY": SEALING_KEY,
    }


def run_command(home: Path, *arguments: object, **environment: str) -> Said:
    """Run a command in process. From a test that is not async: commands have event loops of their own."""
    words = [str(argument) for argument in arguments]
    result = CliRunner().invoke(app, words, env={**environment_of(home), **environment})
    return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def wedsync(tmp_path: Path) -> Command:
    """Runs a command in a home where no server runs."""

    def command(*arguments: object, **environment: str) -> Said:
        return run_command(tmp_path, *arguments, **environment)

    return command


@dataclass(slots=True)
class Platform:
    """The session's stack, and what tests do with it."""

    stack: Stack
    _numbers: "count[int]" = field(default_factory=count)

    @property
    def home(self) -> Path:
        """Its home."""
        return self.stack.home.path

    def run(self, *arguments: object, **environment: str) -> Said:
        """Run a command in its home."""
        return run_command(self.home, *arguments, **environment)

    def name(self, what: str) -> str:
        """A name that no other test uses."""
        return f"{what}-{next(self._numbers)}"

    @asynccontextmanager
    async def client(self, role: Role = Role.DATA_ENGINEER) -> AsyncIterator[Client]:
        """A client of its API."""
        settings = self.stack.settings.model_copy(update={"url": self.stack.addresses.api_url})
        async with Client.of_home(settings, role) as client:
            yield client


@pytest.fixture(scope="session")
def platform(stack: Stack) -> Platform:
    """The session's stack as people use it: PostgreSQL, Valkey, API and runtime of their own, started once."""
    return Platform(stack)
