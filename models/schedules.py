"""When something runs: by a cron expression, every so often, or when an event arrives."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator
from pydantic import Field as Limited
from sqlalchemy import Index, Text, UniqueConstraint, Uuid, text
from sqlmodel import Field

from models.base import ChangingEntity, Table
from models.fields import Choice, Document, JsonObject, Moment, StrictModel, one_of, server

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
    return expression


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
        raise ValueError("should be a number and s, m, h, d or w, such as 15m, 4h or 1d")
    return expression


Zone: TypeAlias = Annotated[str, AfterValidator(_zone)]


class CronSchedule(StrictModel):
    """Runs when a cron expression says so, in a time zone."""

    type: Literal["cron"]
    expression: Annotated[str, AfterValidator(_cron)] = Limited(max_length=200)
    timezone: Zone = "UTC"


class IntervalSchedule(StrictModel):
    """Runs every so often; `expression` is a duration such as `15m`, `4h` or `1d`."""

    type: Literal["interval"]
    expression: Annotated[str, AfterValidator(_interval)] = Limited(max_length=20)
    timezone: Zone = "UTC"


class EventSchedule(StrictModel):
    """Runs when an event of that name arrives."""

    type: Literal["event"]
    expression: str = Limited(min_length=1, max_length=200)
    timezone: Zone | None = None


ScheduleConfig: TypeAlias = Annotated[CronSchedule | IntervalSchedule | EventSchedule, Limited(discriminator="type")]
"""When something runs, tagged by `type`."""


class FireOutcome(StrEnum):
    """What became of a moment at which a schedule was due."""

    SUBMITTED = "submitted"
    SKIPPED = "skipped"
    MISSED = "missed"


class Schedule(ChangingEntity, table=True):
    """How far a pipeline's schedule has come; `config` is that of its newest version.

    `next_fire_at` is the next moment that was not decided upon; None for one that events start, and for one that has
    ended. `event_cursor` is how far an event schedule has seen what it watches.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        UniqueConstraint("pipeline_id"),
        Index("idx_schedules_due", "next_fire_at", postgresql_where=text("next_fire_at IS NOT NULL AND NOT is_paused")),
    )

    pipeline_id: UUID = Field(foreign_key="data_pipelines.id", ondelete="CASCADE", sa_type=Uuid)
    config: JsonObject = Field(sa_type=Document(JsonObject))
    is_paused: bool = Field(default=False, sa_column_kwargs=server("false"))
    next_fire_at: datetime | None = Field(default=None, sa_type=Moment)
    last_fire_at: datetime | None = Field(default=None, sa_type=Moment)
    event_cursor: JsonObject = Field(
        default_factory=dict, sa_type=Document(JsonObject), sa_column_kwargs=server("'{}'")
    )


class ScheduleFire(Table, table=True):
    """What was decided about one moment of a schedule, once."""

    __tablename__ = "schedule_fires"
    __table_args__ = (one_of("outcome", FireOutcome), Index("idx_schedule_fires_execution", "execution_id"))

    schedule_id: UUID = Field(primary_key=True, foreign_key="schedules.id", ondelete="CASCADE", sa_type=Uuid)
    fire_time: datetime = Field(primary_key=True, sa_type=Moment)
    outcome: FireOutcome = Field(sa_type=Choice(FireOutcome))
    reason: str | None = Field(default=None, sa_type=Text)
    execution_id: UUID | None = Field(
        default=None, foreign_key="pipeline_executions.id", ondelete="SET NULL", sa_type=Uuid
    )
    decided_at: datetime = Field(default=None, nullable=False, sa_type=Moment, sa_column_kwargs=server("now()"))
