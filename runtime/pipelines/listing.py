"""Lists pipelines, versions and steps, with the figures that lists show, each for many pipelines in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast
from uuid import UUID

from sqlalchemy import ScalarSelect, Select, select, text, type_coerce
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, QueryableAttribute, defer
from sqlmodel import col

from models.executions import ExecutionStatus, PipelineExecution
from models.fields import JsonObject
from models.pipelines import DataPipeline, PipelineStep, PipelineType, PipelineVersion
from runtime.paging import Order, Page, Window, count, fetch, first_of_each

D = TypeVar("D")

BY_NAME = Order((col(DataPipeline.pipeline_name),))
NEWEST_FIRST = Order((col(PipelineVersion.version),), descending=True)


DOCUMENTS = (
    "source_config",
    "destination_config",
    "transformation_config",
    "schedule_config",
    "retry_policy",
    "quality_checks",
    "alert_config",
)
"""The columns of a pipeline that project its document."""

_BARE = [defer(getattr(DataPipeline, name), raiseload=True) for name in DOCUMENTS]


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
    0 without any), and the mean duration of the completed ones in minutes.
    """

    success_rate: float
    average_minutes: float


@dataclass(frozen=True, slots=True)
class Summary:
    """How many pipelines there are, may run, run now, and had a failure in the last 24 hours, dry runs aside."""

    total: int
    active: int
    running: int
    failed_24h: int


async def page(
    session: AsyncSession, wanted: PipelineFilter, window: Window, *, bare: bool = False
) -> Page[DataPipeline]:
    """One page of the pipelines that are not archived, in the order of their names; `bare` without their documents."""
    return await fetch(session, _filtered(wanted).options(*(_BARE if bare else ())), BY_NAME, window)


async def total(session: AsyncSession, wanted: PipelineFilter) -> int:
    """How many pipelines a filter finds."""
    return await count(session, _filtered(wanted))


_FIGURES = text("""
    SELECT recent.completed, recent.failed, recent.minutes
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS wanted (id, place)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            extract(epoch FROM avg(completed_at - started_at) FILTER (WHERE status = 'completed')) / 60 AS minutes
        FROM pipeline_executions
        WHERE pipeline_id = wanted.id AND started_at >= now() - interval '7 days' AND NOT dry_run
    ) AS recent
    ORDER BY wanted.place
""")


async def figures(session: AsyncSession, ids: list[UUID]) -> list[Figures]:
    """The figures of pipelines, in the order of their ids."""
    rows = (await session.execute(_FIGURES, {"ids": ids})).all()
    return [Figures(rate(row.completed, row.failed), round(float(row.minutes or 0), 4)) for row in rows]


_SUMMARY = text("""
    SELECT count(*) AS total, count(*) FILTER (WHERE is_active) AS active,
        count(*) FILTER (WHERE id IN (
            SELECT pipeline_id FROM pipeline_executions WHERE status = 'running' AND NOT dry_run)) AS running,
        count(*) FILTER (WHERE id IN (
            SELECT pipeline_id FROM pipeline_executions
            WHERE status = 'failed' AND completed_at >= now() - interval '24 hours' AND NOT dry_run)) AS failed_24h
    FROM data_pipelines WHERE archived_at IS NULL
""")


async def summary(session: AsyncSession) -> Summary:
    """The summary of all pipelines that are not archived."""
    row = (await session.execute(_SUMMARY)).one()
    return Summary(row.total, row.active, row.running, row.failed_24h)


async def last_executions(session: AsyncSession, ids: list[UUID]) -> list[PipelineExecution | None]:
    """The execution of each pipeline that was accepted last, dry runs aside, in the order of the ids."""
    order = Order((col(PipelineExecution.started_at), col(PipelineExecution.id)), descending=True)
    owner, real = col(PipelineExecution.pipeline_id), select(PipelineExecution).where(~col(PipelineExecution.dry_run))
    return await first_of_each(session, real, owner, ids, order)


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


def _filtered(wanted: PipelineFilter) -> Select[DataPipeline]:
    found = select(DataPipeline).where(col(DataPipeline.archived_at).is_(None))
    if wanted.search:
        name, description = col(DataPipeline.pipeline_name), col(DataPipeline.description)
        found = found.where(
            name.icontains(wanted.search, autoescape=True) | description.icontains(wanted.search, autoescape=True)
        )
    if wanted.tags:
        found = found.where(type_coerce(col(DataPipeline.tags), JSONB).contains(list(wanted.tags)))
    if wanted.pipeline_type is not None:
        found = found.where(col(DataPipeline.pipeline_type) == wanted.pipeline_type)
    if wanted.is_active is not None:
        found = found.where(col(DataPipeline.is_active) == wanted.is_active)
    if wanted.is_paused is not None:
        found = found.where(col(DataPipeline.is_paused) == wanted.is_paused)
    if wanted.last_status is not None:
        found = found.where(_last_status() == wanted.last_status)
    return found


def _last_status() -> ScalarSelect[ExecutionStatus]:
    execution = PipelineExecution
    mine = select(col(execution.status)).where(
        col(execution.pipeline_id) == col(DataPipeline.id), ~col(execution.dry_run)
    )
    return mine.order_by(col(execution.started_at).desc()).limit(1).correlate(DataPipeline).scalar_subquery()


def _versions(pipeline_id: UUID) -> Select[PipelineVersion]:
    plan = defer(cast("QueryableAttribute[object]", PipelineVersion.plan), raiseload=True)
    return select(PipelineVersion).where(col(PipelineVersion.pipeline_id) == pipeline_id).options(plan)
