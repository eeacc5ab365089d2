"""The whole program for journeys, as `wedsync up` starts it: once a session, in a home of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.embedded.stack import Stack
from tests.kit.graphql import settings_of


@pytest.fixture(scope="session")
def stack_home() -> Iterator[Path]:
    """The home of the session's program. Not in pytest's folder, which PostgreSQL's own user cannot enter."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-stack-"))
    folder.chmod(0o755)
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def stack(stack_home: Path) -> AsyncIterator[Stack]:
    """PostgreSQL, Valkey, the API and the runtime on a local Ray, ready to run executions.

    Its tokens are signed with the tests' secret, so `tests.kit.graphql.token` makes them; its port is a free one.
    """
    made = Stack(settings_of(stack_home, port=0, ray_dashboard=False, supervisors_min=2, work_timeout_seconds=60.0))
    await made.start()
    try:
        await made.runtime_ready()
        yield made
    finally:
        made.stop()
