"""When something runs: by a cron expression, every so often, or when an event arrives."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, AwareDatetime, model_validator
from pydantic import Field as Limited
from sqlalchemy import BigInteger, Index, Text, UniqueConstraint, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity, Table
from models.fields import Choice, Document, Envelope, JsonObject, Moment, Sealed, StrictModel, one_of, server

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PARTS: Final = (
    ("minute", 0, 59, (), ""),
    ("hour", 0, 23, (), ""),
    ("day of the month", 1, 31, (), "l|lw"),
    ("month", 1, 12, _MONTHS, ""),
    ("day of the week", 0, 7, _DAYS, r"\w+#[1-5]|\w+l"),
)
"""The five parts of a cron expression: name, least, greatest, names of the values, and what else it may be."""

_SAMPLE: Final = 1_000
_LAST_DAY: Final = re.compile(rf"\b({'|'.join(_DAYS)})l\b")
_ITEM: Final = re.compile(r"(?:\*|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?")


def _cron(expression: str) -> str:
    """The expression; raises ValueError that names the part which is wrong."""
    parts = expression.lower().split()
    if len(parts) != len(_PARTS):
        raise ValueError(f"should have 5 parts (minute, hour, day, month, day of the week), not {len(parts)}")
    for part, (name, least, most, names, others) in zip(parts, _PARTS, strict=True):
        for item in part.split(","):
            if not (re.fullmatch(others, item) if others else None) and not _is_item(item, least, most, names):
                raise ValueError(
                    f"{item!r} is no {name}: write *, {least} to {most}, a range 1-5, a list, or a step */5"
                )
    if next(wall_times(expression, datetime(2000, 1, 1)), None) is None:
        raise ValueError("never comes: no month that it names has such a day; name a day that one of them has")
    return expression


def wall_times(expression: str, after: datetime) -> Iterator[datetime]:
    """The times on a clock without a zone that a cron expression names after one; ends where none comes in 50 years.

    A day of the month and a day of the week are both meant where one of them begins with `*`, else either.
    """
    try:
        yield from CronSim(_LAST_DAY.sub(_numbered, expression.lower()), after)
    except CronSimError:
        return


def shortest_gap(expression: str) -> timedelta | None:
    """The least time between two of the next thousand times that a cron expression names; None where one comes."""
    times = list(islice(wall_times(expression, datetime(2000, 1, 1)), _SAMPLE))
    return min((later - earlier for earlier, later in pairwise(times)), default=None)


def _numbered(last: re.Match[str]) -> str:
    return f"{_DAYS.index(last[1])}l"


def _is_item(item: str, least: int, most: int, names: tuple[str, ...]) -> bool:
    found = _ITEM.fullmatch(item)
    if found is None or found["step"] == "0":
        return False
    words = [word for word in (found["low"], found["high"]) if word is not None]
    numbers = [number for word in words if (number := _number(word, least, names)) is not None]
    return len(numbers) == len(words) and numbers == sorted(numbers) and all(least <= n <= most for n in numbers)


def _number(word: str, least: int, names: tuple[str, ...]) -> int | None:
    if word in names:
        return names.index(word) + least
    return int(word) if word.isascii() and word.isdigit() else None


def _zone(name: str) -> str:
    """The name; raises ValueError for one that this machine's time zones do not have."""
    if name != "UTC" and not _is_zone(name) and _is_zone("Europe/London"):
        raise ValueError("is not a time zone: write one as the IANA names it, such as Europe/London")
    return name


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _interval(expression: str) -> str:
    """The expression; raises ValueError for one that is no duration."""
    if not re.fullmatch(r"[1-9][0-9]*[smhdw]", expression):
        raise ValueError("should be a number from 1 and s, m, h, d or w, such as 15m, 4h or 1d")
    if interval_of(expression) > LONGEST_INTERVAL:
        raise ValueError(f"is longer than {LONGEST_INTERVAL.days} days: write a cron expression for what is so rare")
    return expression


def interval_of(expression: str) -> timedelta:
    """The duration that `15m`, `4h` or `1d` names."""
    return timedelta(seconds=int(expression[:-1]) * _SECONDS[expression[-1]])


def _event(expression: str) -> str:
    """The expression; raises ValueError for one that names no event."""
    kind, colon, subject = expression.partition(":")
    if kind not in tuple(EventKind) or not colon or not subject.strip():
        forms = ", ".join(_FORMS.values())
        raise ValueError(f"names no event: write {forms}")
    if kind in _WITH_PARTS and not all(part.strip() for part in subject.partition("/")):
        raise ValueError(f"should be {_FORMS[EventKind(kind)]}")
    if kind == EventKind.WEBHOOK and not re.fullmatch(r"[a-z0-9][a-z0-9_\-]{0,99}", subject):
        raise ValueError("a webhook's name has small letters, digits, - and _ only, as it is part of an address")
    return expression


class EventKind(StrEnum):
    """What a schedule can wait for."""

    PIPELINE = "pipeline"
    DATASET = "dataset"
    FILE = "file"
    WEBHOOK = "webhook"
    STREAM = "stream"


_FORMS: Final = {
    EventKind.PIPELINE: "pipeline:NAME",
    EventKind.DATASET: "dataset:DESTINATION/TABLE",
    EventKind.FILE: "file:SOURCE/GLOB",
    EventKind.STREAM: "stream:SOURCE/STREAM",
    EventKind.WEBHOOK: "webhook:NAME",
}
_WITH_PARTS: Final = (EventKind.DATASET, EventKind.FILE, EventKind.STREAM)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
LONGEST_INTERVAL: Final = timedelta(days=3660)
LONGEST_JITTER: Final = 86_400

Zone: TypeAlias = Annotated[str, AfterValidator(_zone)]


class CatchUp(StrEnum):
    """Which of the moments that passed while nothing could be started are made up for."""

    ALL = "all"
    LATEST = "latest"
    NONE = "none"


class Overlap(StrEnum):
    """What a moment does when the run before has not ended: go by, wait for its end, or have it cancelled."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"


class ScheduleOptions(StrictModel):
    """What all schedules share. Moments count from `starts_at` on and before `ends_at`.

    `jitter_seconds` spreads the starts of schedules that share a moment: each is that late at most, always equally
    for the same schedule and moment.
    """

    starts_at: AwareDatetime | None = None
    ends_at: AwareDatetime | None = None
    catch_up: CatchUp = CatchUp.LATEST
    overlap: Overlap = Overlap.SKIP
    jitter_seconds: int = Limited(default=0, ge=0, le=LONGEST_JITTER)

    @model_validator(mode="after")
    def _goes_forward(self) -> "ScheduleOptions":
        if self.starts_at is not None and self.ends_at is not None and self.ends_at <= self.starts_at:
            raise ValueError("never comes: ends_at should be after starts_at")
        return self


class CronSchedule(ScheduleOptions):
    """Runs when a cron expression says so, in a time zone; `runtime.schedules.due` says what clock changes do."""

    type: Literal["cron"]
    expression: Annotated[str, AfterValidator(_cron)] = Limited(max_length=200)
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _jitter_is_shorter(self) -> "CronSchedule":
        apart = shortest_gap(self.expression) if self.jitter_seconds else None
        if apart is not None and timedelta(seconds=self.jitter_seconds) >= apart:
            raise ValueError(
                f"jitter_seconds should be less than {apart.total_seconds():.0f}: two of its moments are so near"
            )
        return self


class IntervalSchedule(ScheduleOptions):
    """Runs every so often by elapsed time, counted from `starts_at`, or else from a Monday at 00:00 UTC.

    `expression` is a duration such as `15m`, `4h` or `1d`; the time zone has no effect.
    """

    type: Literal["interval"]
    expression: Annotated[str, AfterValidator(_interval)] = Limited(max_length=20)
    timezone: Zone = "UTC"

    @model_validator(mode="after")
    def _jitter_is_shorter(self) -> "IntervalSchedule":
        if self.jitter_seconds and timedelta(seconds=self.jitter_seconds) >= interval_of(self.expression):
            raise ValueError("jitter_seconds should be less than the interval")
        return self


class EventSchedule(ScheduleOptions):
    """Runs when what `expression` names happens.

    `pipeline:NAME` (it completed), `dataset:DESTINATION/TABLE` (an execution that completed loaded it),
    `file:SOURCE/GLOB` (a file is new or changed), `stream:SOURCE/STREAM` (a message came), `webhook:NAME` (a signed
    request arrived).
    """

    type: Literal["event"]
    expression: Annotated[str, AfterValidator(_event)] = Limited(min_length=1, max_length=400)
    timezone: Zone | None = None

    @property
    def kind(self) -> EventKind:
        """What it waits for."""
        return EventKind(self.expression.partition(":")[0])

    @property
    def subject(self) -> str:
        """Whose event it waits for: what stands behind the colon."""
        return self.expression.partition(":")[2]


ScheduleConfig: TypeAlias = Annotated[CronSchedule | IntervalSchedule | EventSchedule, Limited(discriminator="type")]
"""When something runs, tagged by `type`."""


class FireOutcome(StrEnum):
    """What became of a moment at which a schedule was due."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    MISSED = "missed"


class Schedule(ChangingEntity, table=True):
    """How far a pipeline's schedule has come; `config` is that of its newest version.

    `next_fire_at` is the next moment that was not decided upon, `due_at` the same with its jitter; None for one that
    events start, for one that has ended, and while its pipeline is not active. `watches` is what an event schedule
    waits for, by ids; `event_cursor` how far it has seen that. `webhook_secret` is what requests are signed with.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("pipeline_id"),
        Index("idx_schedules_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("idx_schedules_watches", "watches", postgresql_where=text("watches IS NOT NULL")),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    config: JsonObject = Field(sa_type=Document(JsonObject))
    is_paused: bool = Field(default=False, sa_column_kwargs=server("false"))
    next_fire_at: datetime | None = Field(default=None, sa_type=Moment)
    due_at: datetime | None = Field(default=None, sa_type=Moment)
    last_fire_at: datetime | None = Field(default=None, sa_type=Moment)
    watches: str | None = Field(default=None, sa_type=Text)
    event_cursor: JsonObject = Field(
        default_factory=dict, sa_type=Document(JsonObject), sa_column_kwargs=server("'{}'")
    )
    webhook_secret: Envelope | None = Field(
        default=None, sa_type=Sealed, nullable=False, repr=False, sa_column_kwargs=server("'{}'")
    )


class ScheduleArrival(Table, table=True):
    """Something that an event schedule waits for has happened; `cause` names it once, so that a repeat is none.

    `decided_at` is when the schedule was fired by it, or not; `parameters` are for the execution that it starts.
    """

    __tablename__ = "schedule_arrivals"
    __table_args__ = (
        Index("idx_schedule_arrivals_open", "schedule_id", "happened_at", postgresql_where=text("decided_at IS NULL")),
    )

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedules.id", ondelete="CASCADE", sa_type=Uuid)
    cause: str = Field(primary_key=True, sa_type=Text)
    happened_at: datetime = Field(
        default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("clock_timestamp()")
    )
    decided_at: datetime | None = Field(default=None, sa_type=Moment)
    parameters: JsonObject = Field(default_factory=dict, sa_type=Document(JsonObject), sa_column_kwargs=server("'{}'"))


class ScheduleFire(Table, table=True):
    """What was decided about one moment of a schedule, once; `position` orders the moments of all schedules."""

    __tablename__ = "schedule_fires"
    __table_args__ = (
        one_of("outcome", FireOutcome),
        Index("idx_schedule_fires_execution", "execution_id"),
        Index("idx_schedule_fires_position", "position"),
    )

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedules.id", ondelete="CASCADE", sa_type=Uuid)
    fire_time: datetime = Field(primary_key=True, sa_type=Moment)
    outcome: FireOutcome = Field(sa_type=Choice(FireOutcome))
    reason: str | None = Field(default=None, sa_type=Text)
    execution_id: UUID | None = Field(
        default=None, foreign_key="pipeline_executions.id", ondelete="SET NULL", sa_type=Uuid
    )
    decided_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))
    position: int = Field(
        default=None,
        nullable=False,
        sa_type=BigInteger,
        sa_column_kwargs=server("nextval('wedsync.schedule_fire_position')"),
    )
