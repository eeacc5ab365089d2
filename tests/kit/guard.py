"""Ends the session's servers when the tests are killed and cannot."""

from collections.abc import Iterator

import pytest

from runtime.embedded.guard import Guard


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    """What each server of the session is told to."""
    made = Guard()
    yield made
    made.close()
