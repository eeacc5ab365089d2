"""A bench with the source and the destination that the small definitions name."""

import pytest

from tests.kit.definitions import ROWS
from tests.kit.engine import Bench


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    await bench.files("in", ROWS)
    await bench.shelf("out")
    return bench
