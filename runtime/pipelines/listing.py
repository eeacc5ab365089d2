"""Lists pipelines, versions and steps, with the figures that lists show, each for many pipelines in one statement."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar, cast
from uuid import UUID

from sqlalchemy import Select, TextClause, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, QueryableAttribute, defer
from sqlmodel import col

from models.executions import ExecutionState, ExecutionStatus, ExecutionType
from models.fields import Json, JsonObject, jsonb_text
from models.pipelines import DataPipeline, PipelineStep, PipelineType, PipelineVersion
from runtime.database import Session
from runtime.paging import Order, Page, Window, count, fetch, page_of
from runtime.statements import Statements

D = TypeVar("D")

BY_NAME = Order((col(DataPipeline.pipeline_name),))
NEWEST_FIRST = Order((col(PipelineVersion.version),), descending=True)

_SPECIAL: Final = re.compile(r"[\\%_]")
_ESCAPED: Final = r"\\\g<0>"
"""What has a meaning in a pattern of LIKE, and how it stands for itself there."""


class Listed(NamedTuple):
    """What a list shows of a pipeline. The columns that project its document are None unless they were asked for."""

    id: UUID
    pipeline_name: str
    description: str | None
    tags: list[str]
    is_active: bool
    is_paused: bool
    version: int
    archived_at: datetime | None
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    pipeline_type: PipelineType
    source_config: Json = None
    destination_config: Json = None
    transformation_config: Json = None
    schedule_config: Json = None
    retry_policy: Json = None
    quality_checks: Json = None
    alert_config: Json = None


DOCUMENTS: Final = tuple(Listed._field_defaults)
"""The columns of a pipeline that project its document."""


class Latest(NamedTuple):
    """What a list shows of a pipeline's last execution: all of it but the documents."""

    id: UUID
    pipeline_id: UUID
    execution_id: str
    started_at: datetime
    completed_at: datetime | None
    records_processed: int
    records_inserted: int
    records_updated: int
    records_deleted: int
    records_failed: int
    data_quality_score: Decimal | None
    version: int | None
    dry_run: bool
    logs_location: str | None
    triggered_by: UUID | None
    cancel_requested_at: datetime | None
    execution_type: ExecutionType
    status: ExecutionStatus
    state: ExecutionState


@dataclass(frozen=True, slots=True)
class PipelineFilter:
    """Which pipelines are wanted; None asks for all. `tags` must all be there; `search` looks into name and text."""

    search: str | None = None
    tags: Sequence[str] = ()
    pipeline_type: PipelineType | None = None
    is_active: bool | None = None
    is_paused: bool | None = None
    last_status: ExecutionStatus | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """How a pipeline did in the last 7 days, dry runs aside: the share of finished executions that completed (0-100,
    0 without any), and the mean duration of the completed ones in minutes. `next_run` is when it starts by itself next;
    None without a schedule, and while it is paused.
    """

    success_rate: float
    average_minutes: float
    next_run: datetime | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How many pipelines there are, may run, run now, and had a failure in the last 24 hours, dry runs aside."""

    total: int
    active: int
    running: int
    failed_24h: int


_CONDITIONS: Final = {
    "search": "(pipeline_name ILIKE :search OR description ILIKE :search)",
    "tags": "tags @> CAST(:tags AS jsonb)",
    "pipeline_type": "pipeline_type = :pipeline_type",
    "is_active": "is_active = :is_active",
    "is_paused": "is_paused = :is_paused",
    "last_status": """(SELECT status FROM pipeline_executions
        WHERE pipeline_id = data_pipelines.id AND NOT dry_run
        ORDER BY started_at DESC, id DESC LIMIT 1) = :last_status""",
    "after": "pipeline_name > :after",
}
"""The conditions of a filter and of a page, by the parameter that each takes."""


async def page(session: Statements, wanted: PipelineFilter, window: Window, *, documents: bool = False) -> Page[Listed]:
    """One page of the pipelines that are not archived, in the order of their names; `documents` with those, too."""
    given = {**_given(wanted), **({} if window.after is None else {"after": BY_NAME.values(window.after)[0]})}
    shown = Listed._fields if documents else Listed._fields[: -len(DOCUMENTS)]
    statement = _select(", ".join(shown), tuple(given), "ORDER BY pipeline_name LIMIT :wanted")
    found = (await session.execute(statement, {**given, "wanted": window.first + 1})).all()
    return page_of([_listed(row) for row in found], BY_NAME, window)


async def total(session: Statements, wanted: PipelineFilter) -> int:
    """How many pipelines a filter finds."""
    given = _given(wanted)
    return int((await session.execute(_select("count(*)", tuple(given)), given)).scalar_one())


def _listed(row: Sequence[Any]) -> Listed:
    values = *row[:11], PipelineType(row[11]), *row[12:]
    return Listed(*values)


def _given(wanted: PipelineFilter) -> dict[str, object]:
    """What a filter asks for, as parameters."""
    parameters = {
        "search": _holding(wanted.search) if wanted.search else None,
        "tags": jsonb_text(list(wanted.tags)) if wanted.tags else None,
        "pipeline_type": wanted.pipeline_type,
        "is_active": wanted.is_active,
        "is_paused": wanted.is_paused,
        "last_status": wanted.last_status,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _holding(words: str) -> str:
    """The pattern of texts that hold these words."""
    return f"%{_SPECIAL.sub(_ESCAPED, words)}%"


@cache
def _select(shown: str, given: tuple[str, ...], end: str = "") -> TextClause:
    """The statement over pipelines that are not archived under the conditions of these parameters."""
    conditions = " AND ".join(["archived_at IS NULL", *(_CONDITIONS[name] for name in given)])
    return text(f"SELECT {shown} FROM data_pipelines WHERE {conditions} {end}")


_FIGURES = text("""
    SELECT recent.completed, recent.failed, recent.minutes, schedule.next_fire_at
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS wanted (id, place)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            extract(epoch FROM avg(completed_at - started_at) FILTER (WHERE status = 'completed')) / 60 AS minutes
        FROM pipeline_executions
        WHERE pipeline_id = wanted.id AND started_at >= now() - interval '7 days' AND NOT dry_run
    ) AS recent
    LEFT JOIN data_pipelines AS pipeline ON pipeline.id = wanted.id AND NOT pipeline.is_paused
    LEFT JOIN schedules AS schedule ON schedule.pipeline_id = pipeline.id AND NOT schedule.is_paused
    ORDER BY wanted.place
""")


async def figures(session: Session, ids: list[UUID]) -> list[Figures]:
    """The figures of pipelines, in the order of their ids."""
    rows = (await session.execute(_FIGURES, {"ids": ids})).all()
    return [
        Figures(rate(row.completed, row.failed), round(float(row.minutes or 0), 4), row.next_fire_at) for row in rows
    ]


_SUMMARY = text("""
    SELECT count(*) AS total, count(*) FILTER (WHERE is_active) AS active,
        count(*) FILTER (WHERE id IN (
            SELECT pipeline_id FROM pipeline_executions WHERE status = 'running' AND NOT dry_run)) AS running,
        count(*) FILTER (WHERE id IN (
            SELECT pipeline_id FROM pipeline_executions
            WHERE status = 'failed' AND completed_at >= now() - interval '24 hours' AND NOT dry_run)) AS failed_24h
    FROM data_pipelines WHERE archived_at IS NULL
""")


async def summary(session: Session) -> Summary:
    """The summary of all pipelines that are not archived."""
    row = (await session.execute(_SUMMARY)).one()
    return Summary(row.total, row.active, row.running, row.failed_24h)


_LAST: Final = text(f"""
    SELECT {", ".join(f"last.{name}" for name in Latest._fields)}
    FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
    CROSS JOIN LATERAL (
        SELECT * FROM pipeline_executions
        WHERE pipeline_id = wanted.id AND NOT dry_run
        ORDER BY started_at DESC, id DESC LIMIT 1
    ) AS last
""")


async def last_executions(session: Session, ids: list[UUID]) -> list[Latest | None]:
    """The execution of each pipeline that was accepted last, dry runs aside, in the order of the ids."""
    found = [_latest(row) for row in (await session.execute(_LAST, {"ids": ids})).all()]
    known = {one.pipeline_id: one for one in found}
    return [known.get(identity) for identity in ids]


def _latest(row: Sequence[Any]) -> Latest:
    return Latest._make((*row[:16], ExecutionType(row[16]), ExecutionStatus(row[17]), ExecutionState(row[18])))


async def steps(session: AsyncSession, ids: list[UUID]) -> list[list[PipelineStep]]:
    """The steps of each pipeline, in the plan's order; those that its newest version has not any more come last."""
    ordered = col(PipelineStep.is_enabled).desc(), col(PipelineStep.step_order), col(PipelineStep.step_name)
    rows = await session.scalars(select(PipelineStep).where(col(PipelineStep.pipeline_id).in_(ids)).order_by(*ordered))
    groups: dict[UUID, list[PipelineStep]] = {identity: [] for identity in ids}
    for row in rows:
        groups[row.pipeline_id].append(row)
    return [groups[identity] for identity in ids]


async def versions(session: AsyncSession, pipeline_id: UUID, window: Window) -> Page[PipelineVersion]:
    """One page of a pipeline's versions, the newest first, without their plans."""
    return await fetch(session, _versions(pipeline_id), NEWEST_FIRST, window)


async def total_versions(session: AsyncSession, pipeline_id: UUID) -> int:
    """How many versions a pipeline has."""
    return await count(session, _versions(pipeline_id))


async def documents(session: AsyncSession, ids: list[UUID]) -> list[JsonObject]:
    """The newest document of each pipeline, in the order of the ids."""
    found = await _newest(session, col(PipelineVersion.document), ids)
    return [found.get(identity) or {} for identity in ids]


async def newest_plans(session: AsyncSession, ids: list[UUID]) -> list[JsonObject | None]:
    """The newest plan of each pipeline, in the order of the ids."""
    found = await _newest(session, col(PipelineVersion.plan), ids)
    return [found.get(identity) for identity in ids]


async def plans(session: AsyncSession, ids: list[UUID]) -> list[JsonObject | None]:
    """The plans of versions, in the order of the versions' ids."""
    wanted = select(col(PipelineVersion.id), col(PipelineVersion.plan)).where(col(PipelineVersion.id).in_(ids))
    found = dict((await session.execute(wanted)).all())
    return [found.get(identity) for identity in ids]


def rate(completed: int, failed: int) -> float:
    """The share of what completed among what completed or failed, 0-100; 0 where nothing did."""
    ended = completed + failed
    return round(100 * completed / ended, 2) if ended else 0.0


async def _newest(session: AsyncSession, column: Mapped[D], ids: Sequence[UUID]) -> dict[UUID, D]:
    joined = (col(DataPipeline.id) == col(PipelineVersion.pipeline_id)) & (
        col(DataPipeline.version) == col(PipelineVersion.version)
    )
    wanted = select(col(DataPipeline.id), column).join(PipelineVersion, joined)
    return dict((await session.execute(wanted.where(col(DataPipeline.id).in_(ids)))).all())


def _versions(pipeline_id: UUID) -> Select[PipelineVersion]:
    plan = defer(cast("QueryableAttribute[object]", PipelineVersion.plan), raiseload=True)
    return select(PipelineVersion).where(col(PipelineVersion.pipeline_id) == pipeline_id).options(plan)
