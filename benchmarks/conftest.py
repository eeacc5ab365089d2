"""Benchmarks share one running program a session, and can be run at a fraction of their size."""

import pytest

pytest_plugins = ["benchmarks.server", "benchmarks.sizes", "benchmarks.yardstick"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--scale`."""
    parser.addoption("--scale", type=float, default=1.0, help="the share of the full size, in (0, 1]; 1: as published")


def pytest_configure(config: pytest.Config) -> None:
    """A benchmark that failed leaves nothing to save: pytest's own report says so well enough."""
    config.addinivalue_line("filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
