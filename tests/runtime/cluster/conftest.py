"""The order of the tests on Ray."""

import pytest

WAITS = "test_a_step_over_its_time_limit_is_stopped"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that waits for a minute to pass goes last, so that the others pass meanwhile."""
    items.sort(key=lambda item: item.name == WAITS)
