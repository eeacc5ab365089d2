"""The moments at which a schedule fires: pure, over the time zones of the tz database.

What a change of the clocks means for a cron expression, as in Vixie's cron:

- One whose minute and hour are plain numbers, lists or ranges (`30 2 * * *`) names times on the wall. A time that is
  skipped fires once, at the end of the gap, together with all others of that gap; a time that is repeated fires once,
  at its first occurrence.
- One with `*` or a step in its minute or hour (`*/15 * * * *`) fires by elapsed time: whenever the wall shows a time
  that it names. A skipped time does not fire, a repeated one fires twice.

Intervals are elapsed time; clocks have no effect on them.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from models.schedules import CronSchedule, EventSchedule, IntervalSchedule, ScheduleConfig, interval_of, wall_times

ANCHOR: Final = datetime(1970, 1, 5, tzinfo=UTC)
"""The Monday that intervals are counted from."""

_SHORT: Final = timedelta(hours=26)
"""Longer than any clock was ever set back."""

_SECOND: Final = timedelta(seconds=1)


def fires_after(config: ScheduleConfig, moment: datetime) -> Iterator[datetime]:
    """The moments (aware, UTC) strictly after `moment` at which a schedule fires, in order, without its jitter.

    They are within `[starts_at, ends_at)`; there are none for a schedule that events start.
    """
    if config.starts_at is not None and config.starts_at > moment:
        moment = config.starts_at - timedelta(microseconds=1)
    for fire in _unbounded(config, moment.astimezone(UTC)):
        if config.ends_at is not None and fire >= config.ends_at:
            return
        yield fire


def next_fire(config: ScheduleConfig, moment: datetime) -> datetime | None:
    """The first moment after this one at which a schedule fires; None where there is no more."""
    return next(fires_after(config, moment), None)


def jitter(schedule: UUID, fire: datetime, config: ScheduleConfig) -> timedelta:
    """How much later than its moment a schedule starts; always the same for the same schedule and moment."""
    if not config.jitter_seconds:
        return timedelta()
    digest = hashlib.sha256(schedule.bytes + fire.astimezone(UTC).isoformat().encode()).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return timedelta(seconds=share * config.jitter_seconds)


def _unbounded(config: ScheduleConfig, moment: datetime) -> Iterator[datetime]:
    match config:
        case CronSchedule():
            zone = ZoneInfo(config.timezone)
            if _is_elapsed(config.expression):
                yield from _elapsed(config.expression, zone, moment)
            else:
                yield from _on_the_wall(config.expression, zone, moment)
        case IntervalSchedule():
            yield from _intervals(interval_of(config.expression), config.starts_at or ANCHOR, moment)
        case EventSchedule():
            return
        case _:
            assert_never(config)


def _intervals(every: timedelta, anchor: datetime, moment: datetime) -> Iterator[datetime]:
    fire = anchor + ((moment - anchor) // every + 1) * every
    while True:
        yield fire.astimezone(UTC)
        fire += every


def _is_elapsed(expression: str) -> bool:
    return any(mark in part for part in expression.split()[:2] for mark in "*/")


def _on_the_wall(expression: str, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    last = moment
    for wall in wall_times(expression, _wall(moment, zone)):
        fire = _instant(wall, zone, fold=0)
        if _wall(fire, zone) != wall:
            fire = _end_of_gap(wall, zone)
        if fire > last:
            yield fire
            last = fire


def _elapsed(expression: str, zone: ZoneInfo, moment: datetime) -> Iterator[datetime]:
    """The instants at which the wall shows a named time, found anew from each: walls may go back between two."""
    while True:
        wall = _wall(moment, zone)
        ahead = _shown_after(moment, wall_times(expression, wall), zone)
        again = None
        if _comes_again(moment, wall, zone):
            earlier = (one for one in wall_times(expression, wall - _SHORT) if one <= wall)
            again = _shown_after(moment, earlier, zone)
        found = [one for one in (ahead, again) if one is not None]
        if not found:
            return
        moment = min(found)
        yield moment


def _shown_after(moment: datetime, walls: Iterator[datetime], zone: ZoneInfo) -> datetime | None:
    """The first instant after a moment at which the wall shows one of these times, in rising order."""
    for wall in walls:
        instants = (_instant(wall, zone, fold) for fold in (0, 1))
        shown = [instant for instant in instants if instant > moment and _wall(instant, zone) == wall]
        if shown:
            return min(shown)
    return None


def _comes_again(moment: datetime, wall: datetime, zone: ZoneInfo) -> bool:
    """Whether the clock will be set back to before what it shows."""
    return moment < _instant(wall, zone, fold=1) and _wall(_instant(wall, zone, fold=1), zone) == wall


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _end_of_gap(wall: datetime, zone: ZoneInfo) -> datetime:
    """The instant at which the clock skips a time: between what the offsets after and before make of it."""
    low, high = _instant(wall, zone, fold=1), _instant(wall, zone, fold=0)
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
