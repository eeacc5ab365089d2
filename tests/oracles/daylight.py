"""Judges the moments of cron schedules minute by minute: `python -m tests.oracles.daylight [--processes N] [ZONE…]`.

Nothing here is shared with what it judges: each minute of the years 2000-2037 is looked at through zoneinfo, in arrays.
A time on the wall fires when the wall first shows it or skips over it; one of elapsed time whenever the wall shows it.
"""

import argparse
import importlib.resources
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt

from models.schedules import CronSchedule
from runtime.schedules.due import fires_after

Minutes = npt.NDArray[np.int64]
FIRST_YEAR, LAST_YEAR = 2000, 2037
HOUR, DAY = 60, 1440
RARE = ("30 2 * * *", "0 0 * * *", "15,45 1-3 * * sun", "59 23 1,15 * *", "0 12 29 2 *")
"""Expressions on the wall, looked at over all the years."""
DENSE = ("*/15 * * * *", "7 * * * *", "*/20 2 * * *", "0 */2 * * *", "30 0-4 * * *", "0-50/10 1,2 * * *", "0 0 * * mon")
"""Expressions looked at around each change of the clocks."""
AROUND = 36 * HOUR
LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class Mismatch:
    """Where the two disagree first."""

    zone: str
    expression: str
    expected: datetime | None
    found: datetime | None


def named(part: str, low: int, high: int) -> set[int]:
    """The numbers that a part of an expression names."""
    numbers: set[int] = set()
    for item in part.split(","):
        span, _, step = item.partition("/")
        first, _, last = span.partition("-")
        begin = low if span == "*" else number(first)
        end = high if span == "*" or (step and not last) else number(last or first)
        numbers.update(range(begin, end + 1, int(step or 1)))
    return numbers


def number(word: str) -> int:
    """A number, or a day's name as one."""
    return DAYS.index(word) if word in DAYS else int(word)


@lru_cache(maxsize=2)
def wall_minutes(zone: str) -> tuple[Minutes, Minutes]:
    """Each minute of the years in UTC and what the wall shows then, both in minutes since 1970."""
    start = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()) // 60
    end = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp()) // 60
    known = ZoneInfo(zone)
    hours = [offset(known, minute) for minute in range(start, end + HOUR, HOUR)]
    offsets = np.repeat(np.array(hours[:-1], np.int64), HOUR)
    for index in np.flatnonzero(np.diff(np.array(hours))):
        first = start + int(index) * HOUR
        offsets[int(index) * HOUR : (int(index) + 1) * HOUR] = [offset(known, first + one) for one in range(HOUR)]
    utc = np.arange(start, end, dtype=np.int64)
    return utc, utc + offsets


def offset(zone: ZoneInfo, minute: int) -> int:
    """The zone's offset in minutes at a minute."""
    found = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    assert found is not None
    return int(found.total_seconds()) // 60


@lru_cache
def named_times(expression: str) -> Minutes:
    """The minutes on a wall, in all the years and a little more, that an expression names; rising."""
    parts = expression.split()
    minutes, hours, days, months, weekdays = (
        named(part, low, high) for part, (low, high) in zip(parts, LIMITS, strict=True)
    )
    dates = np.arange(np.datetime64(f"{FIRST_YEAR}-01-01") - 3, np.datetime64(f"{LAST_YEAR + 1}-01-01") + 3)
    month = dates.astype("datetime64[M]")
    on_day = np.isin((dates - month).astype(np.int64) + 1, list(days))
    on_weekday = np.isin((dates.astype(np.int64) + 4) % 7, [one % 7 for one in weekdays])
    both = parts[2].startswith("*") or parts[4].startswith("*")
    meets = (on_day & on_weekday) if both else (on_day | on_weekday)
    meets &= np.isin(month.astype(np.int64) % 12 + 1, list(months))
    within = np.array(sorted(hour * HOUR + minute for hour in hours for minute in minutes), np.int64)
    times: Minutes = (dates[meets].astype(np.int64)[:, None] * DAY + within[None, :]).ravel()
    return times


def fires(expression: str, utc: Minutes, wall: Minutes) -> Minutes:
    """The minutes in UTC at which an expression fires, but for the first of all."""
    times = named_times(expression)
    if any(mark in part for part in expression.split()[:2] for mark in "*/"):
        # Both rise but for a change of the clocks; `np.isin` would sort the times of all years at each change.
        nearest = np.minimum(np.searchsorted(times, wall[1:]), len(times) - 1)
        shown: Minutes = utc[1:][times[nearest] == wall[1:]]
        return shown
    # The furthest that the wall has shown: a time fires when that first reaches it.
    furthest = np.maximum.accumulate(wall)
    reached = np.unique(np.searchsorted(furthest, times))
    return utc[reached[(reached > 0) & (reached < len(utc))]]


def windows(wall: Minutes, utc: Minutes) -> Iterator[slice]:
    """The stretches around each change of the clocks."""
    for change in np.flatnonzero(np.diff(wall - utc)):
        yield slice(max(0, int(change) - AROUND), min(len(utc), int(change) + AROUND))


def compared(zone: str, expression: str, utc: Minutes, wall: Minutes) -> tuple[int, Mismatch | None]:
    """How many moments agree over a stretch of minutes, and where the two part."""
    expected = [datetime.fromtimestamp(int(one) * 60, UTC) for one in fires(expression, utc, wall)]
    config = CronSchedule(type="cron", expression=expression, timezone=zone)
    begin, end = (datetime.fromtimestamp(int(one) * 60, UTC) for one in (utc[0], utc[-1]))
    ours = fires_after(config, begin)
    for index, wanted in enumerate(expected):
        found = next(ours, None)
        if found != wanted:
            return index, Mismatch(zone, expression, wanted, found)
    beyond = next(ours, None)
    if beyond is not None and beyond <= end:
        return len(expected), Mismatch(zone, expression, None, beyond)
    return len(expected), None


def judged(zone: str, rare: Sequence[str] = RARE, dense: Sequence[str] = DENSE) -> tuple[int, list[Mismatch]]:
    """How many moments of a zone were compared, and what did not agree."""
    utc, wall = wall_minutes(zone)
    rounds = [compared(zone, expression, utc, wall) for expression in rare]
    for stretch in windows(wall, utc):
        rounds += [compared(zone, expression, utc[stretch], wall[stretch]) for expression in dense]
    return sum(count for count, _ in rounds), [wrong for _, wrong in rounds if wrong is not None]


def distinct_zones() -> dict[str, list[str]]:
    """Zones that are the same by other names, under the first of them."""
    groups: dict[bytes, list[str]] = {}
    for zone in sorted(available_timezones() - {"localtime"}):
        content = importlib.resources.files("tzdata.zoneinfo").joinpath(zone).read_bytes()
        groups.setdefault(content, []).append(zone)
    return {zones[0]: zones[1:] for zones in groups.values()}


def main() -> int:
    """Judge the zones named, or all; 1 when any moment is another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("zones", nargs="*")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    known = distinct_zones()
    zones = given.zones or list(known)
    began, moments, wrong = time.monotonic(), 0, list[Mismatch]()
    with ProcessPoolExecutor(given.processes) as pool:
        for done, (zone, (count, mismatches)) in enumerate(zip(zones, pool.map(judged, zones), strict=True), start=1):
            moments += count
            wrong += mismatches
            sys.stdout.write(f"{done}/{len(zones)} {zone}: {count:,} moments, {len(mismatches)} mismatches\n")
            sys.stdout.flush()
            for one in mismatches:
                sys.stdout.write(f"  {one}\n")
    names = sum(1 + len(known.get(zone, ())) for zone in zones)
    taken = timedelta(seconds=round(time.monotonic() - began))
    told = f"{names} zones ({len(zones)} distinct), {FIRST_YEAR}-{LAST_YEAR}, {moments:,} moments in {taken}"
    sys.stdout.write(f"{told}: {len(wrong)} mismatches\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
