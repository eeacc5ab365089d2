"""Ranges are cut without gap or overlap, by the calendar where it says months, and never into too many."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import Invalid
from runtime.backfills.chunks import MOST_CHUNKS, cut, moment, span


@pytest.mark.parametrize(
    ("start", "end", "chunk", "expected"),
    [
        ("2026-01-01", "2026-01-04", "1d", ["2026-01-01/2026-01-02", "2026-01-02/2026-01-03", "2026-01-03/2026-01-04"]),
        ("2026-01-01", "2026-01-04", "2d", ["2026-01-01/2026-01-03", "2026-01-03/2026-01-04"]),
        (
            "2026-01-31",
            "2026-04-01",
            "1mo",
            ["2026-01-31/2026-02-28", "2026-02-28/2026-03-31", "2026-03-31/2026-04-01"],
        ),
        ("2025-12-01", "2026-02-01", "1mo", ["2025-12-01/2026-01-01", "2026-01-01/2026-02-01"]),
        ("2026-01-01", "2026-01-10", "1w", ["2026-01-01/2026-01-08", "2026-01-08/2026-01-10"]),
        ("9999-12-30", "9999-12-31", "1mo", ["9999-12-30/9999-12-31"]),
    ],
)
def test_chunks_of_days_are_days(start: str, end: str, chunk: str, expected: list[str]) -> None:
    assert [f"{one.start}/{one.end}" for one in cut(span(start, end), chunk)] == expected


def test_chunks_of_hours_are_moments_in_utc() -> None:
    found = cut(span("2026-01-01", "2026-01-01T13:00:00+01:00"), "6h")
    assert [one.model_dump(mode="json") for one in found] == [
        {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T06:00:00Z"},
        {"start": "2026-01-01T06:00:00Z", "end": "2026-01-01T12:00:00Z"},
    ]


def test_a_day_that_begins_at_noon_is_a_range_of_moments() -> None:
    (found,) = cut(span("2026-01-01T12:00", "2026-01-02T12:00"), "1d")
    assert found.start == datetime(2026, 1, 1, 12, tzinfo=UTC)


@given(
    start=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    length=st.timedeltas(timedelta(minutes=1), timedelta(days=400)),
    chunk=st.sampled_from(["1h", "7h", "1d", "3d", "2w", "1mo", "5mo"]),
)
def test_chunks_cover_the_range_without_gap_or_overlap(start: datetime, length: timedelta, chunk: str) -> None:
    whole = span(start.isoformat(), (start + length).isoformat())
    found = cut(whole, chunk)
    assert (_moment(found[0].start), _moment(found[-1].end)) == (whole.start, whole.end)
    assert all(one.end == other.start for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("start", "end", "chunk", "path", "told"),
    [
        ("2016-01-01", "2026-01-01", "1m", "chunk", "cut it into chunks of 1d"),
        ("2026-01-02", "2026-01-02", "1d", "range_end", "give the next one as its end"),
        ("2026-01-02", "2026-01-01", "1d", "range_end", "give the next one as its end"),
        ("2026-01-01", "2026-01-02", "0d", "chunk", "such as 6h, 1d or 1mo"),
        ("2026-01-01", "2026-01-02", "1y", "chunk", "such as 6h, 1d or 1mo"),
        ("2026-01-01", "2026-01-02", "-1d", "chunk", "such as 6h, 1d or 1mo"),
        ("2026-01-01", "2026-01-02", "", "chunk", "such as 6h, 1d or 1mo"),
        ("yesterday", "2026-01-02", "1d", "range_start", "write a day such as"),
        ("2026-02-30", "2026-03-02", "1d", "range_start", "write a day such as"),
        ("2026-01-01", "2026-13-01", "1d", "range_end", "write a day such as"),
    ],
)
def test_what_cannot_be_cut_says_what_to_write(start: str, end: str, chunk: str, path: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        cut(span(start, end), chunk)
    assert (caught.value.path, told in (caught.value.hint or "")) == (path, True)


def test_the_most_chunks_there_may_be_are_cut() -> None:
    start = moment("2000-01-01", "range_start")
    whole = span("2000-01-01", (start + timedelta(days=MOST_CHUNKS)).isoformat())
    assert len(cut(whole, "1d")) == MOST_CHUNKS
    with pytest.raises(Invalid, match="more than 10,000"):
        cut(span("2000-01-01", (start + timedelta(days=MOST_CHUNKS + 1)).isoformat()), "1d")


def _moment(bound: date) -> datetime:
    return bound if isinstance(bound, datetime) else datetime(bound.year, bound.month, bound.day, tzinfo=UTC)
