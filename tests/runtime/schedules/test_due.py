"""When schedules fire: against an oracle that looks at every minute, and by example."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from models.fields import Json
from models.parsing import adapter_of
from models.schedules import ScheduleConfig
from runtime.schedules.due import fires_after, jitter, next_fire
from tests.oracles.daylight import DENSE, RARE, compared, fires, named_times, offset, wall_minutes, windows

START = datetime(2026, 1, 1, tzinfo=UTC)


def config(**written: Json) -> ScheduleConfig:
    made: ScheduleConfig = adapter_of(ScheduleConfig).validate_python(written, strict=False)
    return made


def cron(expression: str, zone: str = "UTC", **options: Json) -> ScheduleConfig:
    return config(type="cron", expression=expression, timezone=zone, **options)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def first(schedule: ScheduleConfig, moment: datetime, count: int) -> list[datetime]:
    return list(islice(fires_after(schedule, moment), count))


@pytest.mark.parametrize(
    "zone", ["Europe/London", "America/St_Johns", "Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Apia"]
)
def test_every_moment_around_changes_of_the_clocks_is_the_oracles(zone: str) -> None:
    """A sample of zones: whole hours, a change at 00:01, half an hour, two hours, and a day that was skipped."""
    utc, wall = wall_minutes(zone)
    stretches = list(windows(wall, utc))
    assert stretches
    for stretch in stretches[-4:]:
        for expression in (*RARE, *DENSE):
            _, mismatch = compared(zone, expression, utc[stretch], wall[stretch])
            assert mismatch is None


def test_the_oracle_would_notice_an_hour_that_is_wrong() -> None:
    utc, wall = wall_minutes("Europe/London")
    (stretch, *_) = windows(wall, utc)
    _, mismatch = compared("Europe/London", "30 1 * * *", utc[stretch], wall[stretch] + 60)
    assert mismatch is not None
    assert len(fires("*/15 * * * *", utc[stretch], wall[stretch])) == 72 * 4
    assert len(np.unique(named_times("0 12 29 2 *"))) == 10


def test_a_skipped_time_fires_once_at_the_end_of_the_gap() -> None:
    schedule = cron("0,30 2 * * *", "Europe/Berlin")
    found = first(schedule, at("2026-03-28T12:00:00+01:00"), 3)
    assert found == [at("2026-03-29T03:00:00+02:00"), at("2026-03-30T02:00:00+02:00"), at("2026-03-30T02:30:00+02:00")]


def test_a_repeated_time_fires_once_at_its_first_occurrence() -> None:
    schedule = cron("30 2 * * *", "Europe/Berlin")
    found = first(schedule, at("2026-10-24T12:00:00+02:00"), 2)
    assert found == [at("2026-10-25T02:30:00+02:00"), at("2026-10-26T02:30:00+01:00")]
    assert next_fire(schedule, at("2026-10-25T02:10:00+01:00")) == found[1]


def test_a_step_fires_by_elapsed_time() -> None:
    every_half_hour = cron("*/30 * * * *", "Europe/Berlin")
    for day in ("2026-03-28T23:00:00+00:00", "2026-10-24T22:00:00+00:00"):
        found = first(every_half_hour, at(day), 20)
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=30)}


def test_an_interval_counts_from_where_it_starts_and_clocks_have_no_effect() -> None:
    assert first(config(type="interval", expression="4h"), at("2026-03-29T00:10:00+00:00"), 2) == [
        at("2026-03-29T04:00:00+00:00"),
        at("2026-03-29T08:00:00+00:00"),
    ]
    starts = config(type="interval", expression="1d", starts_at="2026-03-01T06:30:00+01:00", timezone="Europe/Berlin")
    assert first(starts, START, 2) == [at("2026-03-01T05:30:00+00:00"), at("2026-03-02T05:30:00+00:00")]
    assert next_fire(starts, at("2026-04-01T12:00:00+00:00")) == at("2026-04-02T05:30:00+00:00")


def test_moments_are_within_start_and_end() -> None:
    schedule = cron("0 0 * * *", starts_at="2026-02-01T00:00:00+00:00", ends_at="2026-02-03T00:00:00+00:00")
    assert list(fires_after(schedule, START)) == [at("2026-02-01T00:00:00+00:00"), at("2026-02-02T00:00:00+00:00")]


def test_names_ordinals_and_last_days_are_understood() -> None:
    assert next_fire(cron("0 9 * * friL"), START) == at("2026-01-30T09:00:00+00:00")
    assert next_fire(cron("0 9 * * mon#2"), START) == at("2026-01-12T09:00:00+00:00")
    assert next_fire(cron("0 9 L feb *"), START) == at("2026-02-28T09:00:00+00:00")


def test_an_event_has_no_moments() -> None:
    assert next_fire(config(type="event", expression="pipeline:a"), START) is None


def test_jitter_is_bounded_and_always_the_same() -> None:
    schedule, identity = cron("0 * * * *", jitter_seconds=60), uuid4()
    found = [jitter(identity, fire, schedule) for fire in first(schedule, START, 200)]
    assert found == [jitter(identity, fire, schedule) for fire in first(schedule, START, 200)]
    assert all(timedelta() <= one < timedelta(seconds=60) for one in found)
    assert max(found) > timedelta(seconds=45)
    assert min(found) < timedelta(seconds=15)
    assert jitter(identity, START, cron("0 * * * *")) == timedelta()


def test_the_oracle_looks_at_whole_minutes() -> None:
    utc, wall = wall_minutes("UTC")
    assert int(utc[1] - utc[0]) == 1
    assert (utc == wall).all()
    assert offset(ZoneInfo("Asia/Kathmandu"), int(utc[0])) == 345
