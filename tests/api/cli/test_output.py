"""How spans, moments and tables are written."""

from datetime import UTC, datetime

import pytest

from api.cli.output import duration, moment, print_table


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "-"), (0, "0 ms"), (12.4, "12 ms"), (3400, "3.4 s"), (59_949, "59.9 s"), (125_000, "2 min 5 s")],
)
def test_a_span_is_written_as_people_do(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text


def test_a_moment_is_written_to_the_second() -> None:
    assert moment(datetime(2026, 6, 6, 12, 30, 1, 999, tzinfo=UTC)) == "2026-06-06 12:30:01"
    assert moment(None) == "-"


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "rows>"], [["[red]x[/red]", "1"], ["y", "22"]])
    head, first, second = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert head.split() == ["name", "rows"]
    assert first.split() == ["[red]x[/red]", "1"]
    assert second.endswith("  22")
