"""The suites that every plugin of an open set passes."""

import pytest

pytest.register_assert_rewrite("tests.kit.contracts.connectors", "tests.kit.contracts.connector_rows")
