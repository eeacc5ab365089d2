"""How large a benchmark is: as published, or the share of it that `--scale` names."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

Sized: TypeAlias = Callable[[int], int]


@pytest.fixture(scope="session")
def sized(pytestconfig: pytest.Config) -> Sized:
    """Gives the share of a full size, at least 1."""
    share = float(pytestconfig.getoption("--scale"))
    if not 0 < share <= 1:
        raise pytest.UsageError(f"--scale is a share in (0, 1], not {share:g}")
    return lambda full: max(1, round(full * share))
