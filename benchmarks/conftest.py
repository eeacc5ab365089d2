"""Benchmarks run on the same real servers as the tests."""

from tests.conftest import pytest_plugins

__all__ = ["pytest_plugins"]
