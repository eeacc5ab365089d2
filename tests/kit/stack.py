"""The whole program for journeys, as `wedsync up` starts it: once a session, in a home of its own."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.embedded.stack import Stack
from tests.kit.graphql import settings_of


@pytest.fixture(scope="session")
async def stack() -> AsyncIterator[Stack]:
    """PostgreSQL, Valkey, the API and the runtime on a local Ray, ready to run executions.

    Its tokens are signed with the tests' secret, so `tests.kit.graphql.token` makes them; its port is a free one.
    """
    folder = Path(tempfile.mkdtemp(prefix="wedsync-stack-"))
    folder.chmod(0o755)
    made = Stack(settings_of(folder / "home", port=0, ray_dashboard=False, supervisors_min=2))
    try:
        await made.start()
        await made.runtime_ready()
        yield made
        made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
