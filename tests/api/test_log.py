"""The API's log tells what failed without the values at hand, which may be secrets."""

import json
from collections.abc import Iterator

import pytest
import structlog

from api.server import configure_log


@pytest.fixture
def configured() -> Iterator[None]:
    before = structlog.get_config()
    configure_log()
    yield
    structlog.configure(**before)


def test_a_traceback_shows_no_local_variable(configured: None, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(password: str) -> None:
        raise ValueError(f"refused after {len(password)} letters")

    try:
        fail("hunter2")
    except ValueError:
        structlog.get_logger("test").exception("failed")
    line = capsys.readouterr().out.strip()
    assert "ValueError" in json.loads(line)["exception"]
    assert "hunter2" not in line.replace('fail("hunter2")', "").replace('fail(\\"hunter2\\")', "")
