"""Schedules: what can be kept is what can be run."""

import pytest

from models.errors import Invalid
from models.fields import StrictModel, parse
from models.schedules import ScheduleConfig


class Kept(StrictModel):
    schedule: ScheduleConfig


def kept(**schedule: str) -> ScheduleConfig:
    return parse(Kept, {"schedule": schedule}).schedule


@pytest.mark.parametrize(
    "expression",
    [
        "0 */4 * * *",
        "*/15 8-18 * * mon-fri",
        "0 0 1,15 JAN-MAR,dec *",
        "5 4 L * *",
        "0 9 * * 1#2",
        "0 9 * * friL",
        "30 23 * * 7",
        "10-50/20 * * * *",
    ],
)
def test_a_cron_expression_is_taken_as_it_was_written(expression: str) -> None:
    assert kept(type="cron", expression=expression).expression == expression


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 4 * *", "5 parts .* not 4"),
        ("@daily", "5 parts"),
        ("99 4 * * *", "'99' is no minute: write \\*, 0 to 59"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "'0' is no day of the month"),
        ("0 0 * 13 *", "'13' is no month"),
        ("0 0 * * banana", "'banana' is no day of the week"),
        ("0 0 * * 1#6", "'1#6' is no day of the week"),
        ("*/0 * * * *", "'\\*/0' is no minute"),
        ("50-10 * * * *", "'50-10' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
    ],
)
def test_the_part_of_a_cron_expression_that_is_wrong_is_named(expression: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        kept(type="cron", expression=expression)
    assert refused.value.path == "schedule.expression"


@pytest.mark.parametrize(
    ("schedule", "most"),
    [
        ({"type": "cron", "expression": "*/5 * * * *"}, 299),
        ({"type": "cron", "expression": "0 6,7 * * mon"}, 3_599),
        ({"type": "cron", "expression": "0 0 * * *"}, 86_399),
        ({"type": "interval", "expression": "15m"}, 899),
    ],
)
def test_a_jitter_is_shorter_than_what_is_between_two_moments(schedule: dict[str, str], most: int) -> None:
    parse(Kept, {"schedule": {**schedule, "jitter_seconds": most}})
    with pytest.raises(Invalid, match="jitter_seconds should be less than") as refused:
        parse(Kept, {"schedule": {**schedule, "jitter_seconds": most + 1}})
    assert refused.value.path == "schedule"


def test_a_time_zone_is_one_of_the_worlds() -> None:
    assert kept(type="interval", expression="15m", timezone="Europe/Berlin").timezone == "Europe/Berlin"
    for zone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(Invalid, match="not a time zone") as refused:
            kept(type="cron", expression="0 4 * * *", timezone=zone)
        assert refused.value.path == "schedule.timezone"
