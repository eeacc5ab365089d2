"""What becomes of the moments at which a schedule is due: pure, no clock, no database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import UUID

from models.schedules import CatchUp, FireOutcome, Overlap, ScheduleConfig
from runtime.schedules.due import fires_after, jitter

GRACE: Final = timedelta(seconds=60)
"""A moment that is decided later than this was not decided in time."""

MOST_FIRES: Final = 100
"""Moments of one schedule that are decided at once; there may be more, which are left for the next time."""

PAUSED, OUTSIDE = "it was paused", "it is before starts_at, or not before ends_at"
LATER, LATE = "a later moment was due as well", "nothing could start it in time"
BUSY, REPLACED = "the run before had not ended", "a later run takes its place"


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment to decide upon; of an event, `cause` names the arrival."""

    at: datetime
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule that is due: by the clock since `next_fire_at`, or by `arrivals`, in their order.

    `is_busy` says that a run which it started has not ended; `seen` is when its row was last changed.
    """

    id: UUID
    pipeline_id: UUID
    config: ScheduleConfig
    next_fire_at: datetime | None = None
    arrivals: tuple[Moment, ...] = ()
    is_paused: bool = False
    is_busy: bool = False
    seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fire:
    """What becomes of a moment; one that is `held` is submitted, and starts when the run before has ended."""

    at: datetime
    outcome: FireOutcome
    reason: str | None = None
    held: bool = False
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write down of a schedule; `cancels` its runs that have not ended, before it submits another."""

    due: Due
    fires: tuple[Fire, ...]
    next_fire_at: datetime | None
    due_at: datetime | None
    cancels: bool = False


def decide(due: Due, now: datetime) -> Decision:
    """Decide upon the moments that are due by now, `MOST_FIRES` at most."""
    moments, following = (_by_event if due.next_fire_at is None else _by_clock)(due, now)
    is_whole = following is None or following + jitter(due.id, following, due.config) > now
    fires = tuple(_decided(due, moments, now, is_whole=is_whole))
    next_fire_at = None if due.next_fire_at is None else following
    return Decision(
        due,
        fires,
        next_fire_at,
        None if next_fire_at is None else next_fire_at + jitter(due.id, next_fire_at, due.config),
        cancels=due.config.overlap is Overlap.CANCEL and any(fire.held for fire in fires),
    )


def _by_clock(due: Due, now: datetime) -> tuple[list[Moment], datetime | None]:
    """The moments that are due, and the one after them."""
    assert due.next_fire_at is not None
    moments: list[Moment] = []
    at: datetime | None = due.next_fire_at
    later = fires_after(due.config, due.next_fire_at)
    while at is not None and len(moments) < MOST_FIRES and at + jitter(due.id, at, due.config) <= now:
        moments.append(Moment(at))
        at = next(later, None)
    return moments, at


def _by_event(due: Due, now: datetime) -> tuple[list[Moment], datetime | None]:
    """The arrivals that are due; no two at the same microsecond, as a moment is decided once."""
    ready = [one for one in due.arrivals if one.at + jitter(due.id, one.at, due.config) <= now][:MOST_FIRES]
    apart = ready[:1]
    for _, one in pairwise(ready):
        apart.append(Moment(max(one.at, apart[-1].at + timedelta(microseconds=1)), one.cause))
    return apart, None


def _decided(due: Due, moments: Sequence[Moment], now: datetime, *, is_whole: bool) -> Iterator[Fire]:
    is_busy = due.is_busy
    for index, moment in enumerate(moments):
        is_last = is_whole and index == len(moments) - 1
        is_late = now - moment.at - jitter(due.id, moment.at, due.config) > GRACE
        refusal = _refusal(due, moment, is_last=is_last, is_late=is_late)
        if refusal is None and is_busy and due.config.overlap is Overlap.SKIP and not _makes_up(due, is_late=is_late):
            refusal = FireOutcome.SKIPPED, BUSY
        if refusal is None:
            yield Fire(moment.at, FireOutcome.SUBMITTED, held=is_busy, cause=moment.cause)
            is_busy = True
        else:
            yield Fire(moment.at, *refusal, cause=moment.cause)


def _refusal(due: Due, moment: Moment, *, is_last: bool, is_late: bool) -> tuple[FireOutcome, str] | None:
    """Why a moment starts nothing, whatever runs."""
    config = due.config
    if due.is_paused:
        return FireOutcome.SKIPPED, PAUSED
    if _is_outside(config, moment.at):
        return FireOutcome.SKIPPED, OUTSIDE
    if config.catch_up is CatchUp.NONE and is_late:
        return FireOutcome.MISSED, LATE
    if config.catch_up is CatchUp.LATEST and not is_last:
        return FireOutcome.MISSED, LATER
    if config.overlap is Overlap.CANCEL and not is_last:
        return FireOutcome.SKIPPED, REPLACED
    return None


def _is_outside(config: ScheduleConfig, at: datetime) -> bool:
    early = config.starts_at is not None and at < config.starts_at
    return early or (config.ends_at is not None and at >= config.ends_at)


def _makes_up(due: Due, *, is_late: bool) -> bool:
    """Whether a moment waits for the run before although moments are to go by: with `all`, missed ones do run."""
    return is_late and due.config.catch_up is CatchUp.ALL
