"""Reads schedules as people see them: how far they have come, and what became of their moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.fields import JsonObject
from models.pipelines import DataPipeline
from models.schedules import FireOutcome, Schedule
from runtime.database import Session
from runtime.paging import Page, Window, count, fetch
from runtime.pipelines.listing import BY_NAME
from runtime.schedules.watching import PROBLEM


class Listed(NamedTuple):
    """A schedule, with the name of its pipeline."""

    id: UUID
    pipeline_id: UUID
    pipeline_name: str
    config: JsonObject
    is_paused: bool
    next_fire_at: datetime | None
    last_fire_at: datetime | None
    updated_at: datetime
    problem: str | None


class Decided(NamedTuple):
    """What became of a moment; `position` is its number among those of all schedules."""

    schedule_id: UUID
    fire_time: datetime
    outcome: FireOutcome
    reason: str | None
    execution_id: UUID | None
    decided_at: datetime
    position: int

    @classmethod
    def of(cls, row: Any) -> "Decided":
        """As it was read by `DECIDED`."""
        return cls._make(row)._replace(outcome=FireOutcome(row.outcome))


DECIDED: Final = """
    fire.schedule_id, fire.fire_time, fire.outcome, fire.reason, fire.execution_id, fire.decided_at, fire.position
"""
"""The columns of `schedule_fires` as `fire` that make a `Decided`."""

_SHOWN: Final = f"""
    SELECT schedule.id, schedule.pipeline_id, pipeline.pipeline_name, schedule.config, schedule.is_paused,
        schedule.next_fire_at, schedule.last_fire_at, schedule.updated_at,
        schedule.event_cursor ->> '{PROBLEM}' AS problem
    FROM schedules AS schedule JOIN data_pipelines AS pipeline ON pipeline.id = schedule.pipeline_id
"""
_OF_PIPELINES: Final = text(f"{_SHOWN} WHERE schedule.pipeline_id = ANY(CAST(:ids AS uuid[]))")
_BY_IDS: Final = text(f"{_SHOWN} WHERE schedule.id = ANY(CAST(:ids AS uuid[]))")


async def of_pipelines(session: Session, ids: list[UUID]) -> list[Listed | None]:
    """The schedule of each pipeline, in their order; None where there is none."""
    rows = (await session.execute(_OF_PIPELINES, {"ids": ids})).all()
    known = {row.pipeline_id: Listed._make(row) for row in rows}
    return [known.get(identity) for identity in ids]


async def by_ids(session: Session, ids: list[UUID]) -> list[Listed | None]:
    """The schedules of these ids, in their order; None for what is gone or hidden."""
    known = {row.id: Listed._make(row) for row in (await session.execute(_BY_IDS, {"ids": ids})).all()}
    return [known.get(identity) for identity in ids]


@dataclass(frozen=True, slots=True)
class Latest:
    """The moments of a schedule that were decided, at most `first` of them, the latest first."""

    schedule: UUID
    first: int


_FIRES: Final = text(f"""
    SELECT {DECIDED}
    FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT * FROM schedule_fires WHERE schedule_id = wanted.id ORDER BY fire_time DESC LIMIT :most
    ) AS fire
""")


async def fires(session: Session, wanted: list[Latest]) -> list[Sequence[Decided]]:
    """What was asked for of each schedule, in their order, in one statement."""
    most = max(one.first for one in wanted)
    rows = (await session.execute(_FIRES, {"ids": [one.schedule for one in wanted], "most": most})).all()
    found: dict[UUID, list[Decided]] = {one.schedule: [] for one in wanted}
    for row in rows:
        found[row.schedule_id].append(Decided.of(row))
    return [found[one.schedule][: one.first] for one in wanted]


async def page(session: AsyncSession, window: Window) -> Page[DataPipeline]:
    """One page of the pipelines that have a schedule, in the order of their names."""
    return await fetch(session, _scheduled(), BY_NAME, window)


async def total(session: AsyncSession) -> int:
    """How many pipelines have a schedule."""
    return await count(session, _scheduled())


def _scheduled() -> Select[DataPipeline]:
    return select(DataPipeline).join(Schedule, col(Schedule.pipeline_id) == col(DataPipeline.id))
