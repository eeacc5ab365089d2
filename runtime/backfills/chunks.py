"""Cuts a range of time into chunks: pure, in UTC, half open, the last one as short as the range leaves it."""

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final

from models.errors import Invalid
from models.executions import DateRange

MOST_CHUNKS: Final = 10_000
_WRITTEN: Final = re.compile(r"(\d{1,6})(mo|[mhdw])")
_UNITS: Final = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_COARSER: Final = ("1h", "6h", "1d", "1w", "1mo")
_WRITE: Final = "write a number and m (minutes), h, d, w or mo (months), such as 6h, 1d or 1mo"


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range `[start, end)` of moments in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """How long a chunk is: so many calendar months, or a fixed time."""

    months: int
    time: timedelta

    @property
    def is_of_days(self) -> bool:
        """Whether chunks that begin with a day end with one."""
        return self.time % timedelta(days=1) == timedelta(0)

    def after(self, start: datetime, count: int) -> datetime:
        """The moment `count` chunks after a start; a month from the 31st ends on the month's last day.

        Raises OverflowError past the year 9999.
        """
        if not self.months:
            return start + count * self.time
        year, month = divmod(start.year * 12 + start.month - 1 + count * self.months, 12)
        if year > datetime.max.year:
            raise OverflowError
        last = calendar.monthrange(year, month + 1)[1]
        return start.replace(year=year, month=month + 1, day=min(start.day, last))


def chunk_size(text: str, path: str = "chunk") -> ChunkSize:
    """The size that a text such as `6h`, `1d`, `1w` or `1mo` means; raises `Invalid`."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise Invalid(f"{text!r} is no length of a chunk", hint=_WRITE, path=path)
    count, unit = int(found[1]), found[2]
    if count == 0:
        raise Invalid("a chunk of no length would never reach the end", hint=_WRITE, path=path)
    if unit == "mo":
        return ChunkSize(count, timedelta(0))
    return ChunkSize(0, count * _UNITS[unit])


def moment(text: str, path: str) -> datetime:
    """A day (its first moment) or a moment in ISO 8601, in UTC unless it says otherwise; raises `Invalid`."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        hint = "write a day such as 2026-01-31, or a moment such as 2026-01-31T06:00:00Z"
        raise Invalid(f"{text!r} is neither a day nor a moment", hint=hint, path=path) from None


def span(start: str, end: str) -> Span:
    """The range between two days or moments; raises `Invalid`, also when it ends before it starts."""
    found = Span(moment(start, "range_start"), moment(end, "range_end"))
    if found.end <= found.start:
        hint = "the end is not part of the range: for one day give the next one as its end"
        raise Invalid(f"the range ends at {end}, not after its start at {start}", hint=hint, path="range_end")
    return found


def cut(whole: Span, chunk: str) -> list[DateRange]:
    """The chunks of a range, the earliest first: of days where all of them begin and end with one, else of moments.

    Raises `Invalid` for a chunk that is none, and for more than `MOST_CHUNKS` of them.
    """
    size = chunk_size(chunk)
    ends = [whole.start]
    for end in _ends(whole, size):
        if len(ends) > MOST_CHUNKS:
            raise _too_many(whole, chunk)
        ends.append(end)
    of_days = size.is_of_days and _is_day(whole.start) and _is_day(whole.end)
    bounds: list[date] = [end.date() for end in ends] if of_days else list(ends)
    return [DateRange(start=start, end=end) for start, end in pairwise(bounds)]


def _ends(whole: Span, size: ChunkSize) -> Iterator[datetime]:
    count, end = 0, whole.start
    while end < whole.end:
        count += 1
        try:
            end = min(size.after(whole.start, count), whole.end)
        except OverflowError:
            end = whole.end
        yield end


def _too_many(whole: Span, chunk: str) -> Invalid:
    fits = (other for other in _COARSER if _fits(whole, chunk_size(other)))
    coarser = next(fits, None)
    hint = f"cut it into chunks of {coarser}" if coarser else "take a part of the range"
    return Invalid(f"chunks of {chunk} would be more than {MOST_CHUNKS:,}", hint=hint, path="chunk")


def _fits(whole: Span, size: ChunkSize) -> bool:
    try:
        return size.after(whole.start, MOST_CHUNKS) >= whole.end
    except OverflowError:
        return True


def _is_day(one: datetime) -> bool:
    return (one.hour, one.minute, one.second, one.microsecond) == (0, 0, 0, 0)
