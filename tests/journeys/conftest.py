"""A home for a server that a journey starts itself."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def home() -> Iterator[Path]:
    """A new home. Not in pytest's folder, which PostgreSQL's own user cannot enter."""
    folder = Path(tempfile.mkdtemp(prefix="wedsync-home-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
