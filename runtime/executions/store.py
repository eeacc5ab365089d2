"""Reads executions, their steps and quality checks; row-level security hides those of others from analysts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import QueryableAttribute, defer
from sqlmodel import col

from models.executions import ExecutionStatus, ExecutionType, PipelineExecution, StepExecution
from models.fields import Json
from models.parsing import as_uuid
from models.pipelines import PipelineStep, StepType
from models.quality import DataQualityCheck, DataQualityRule
from runtime.executions.events import no_execution
from runtime.paging import Order, Page, Window, count, fetch, fetch_each
from runtime.pipelines.listing import rate

NEWEST_FIRST = Order((col(PipelineExecution.started_at), col(PipelineExecution.id)), descending=True)


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions are wanted; None asks for all."""

    pipeline_id: UUID | None = None
    status: ExecutionStatus | None = None
    execution_type: ExecutionType | None = None
    started_after: datetime | None = None
    backfill_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """All executions of a pipeline, dry runs aside: how many, the share that completed of those that completed or
    failed (0-100), the mean duration of the completed ones in minutes, and the records of all.
    """

    total: int
    success_rate: float
    average_minutes: float
    records: int


class FirstPage(NamedTuple):
    """The first page of a pipeline's executions, wanted for many pipelines at once."""

    pipeline_id: UUID
    first: int
    status: ExecutionStatus | None = None
    execution_type: ExecutionType | None = None


class Samples(NamedTuple):
    """Rows that went into a step and came out of it, masked when they were written."""

    into: Json
    out: Json


class Checked(NamedTuple):
    """A quality check and the rule that it checked."""

    check: DataQualityCheck
    rule: DataQualityRule


async def find(session: AsyncSession, reference: str | UUID) -> PipelineExecution:
    """The execution of an id or of an `execution_id`; raises `NotFound`, also for what is hidden."""
    identity = as_uuid(reference)
    wanted = col(PipelineExecution.execution_id) == str(reference)
    if identity is not None:
        wanted = (col(PipelineExecution.id) == identity) | wanted
    found = await session.scalar(select(PipelineExecution).where(wanted))
    if found is None:
        raise no_execution(reference)
    return found


async def by_ids(session: AsyncSession, ids: Sequence[UUID]) -> list[PipelineExecution | None]:
    """The executions of ids, in their order; None where there is none to be seen."""
    rows = (await session.scalars(select(PipelineExecution).where(col(PipelineExecution.id).in_(ids)))).all()
    known = {row.id: row for row in rows}
    return [known.get(identity) for identity in ids]


async def page(session: AsyncSession, wanted: ExecutionFilter, window: Window) -> Page[PipelineExecution]:
    """One page of executions, those accepted last first."""
    return await fetch(session, _filtered(wanted), NEWEST_FIRST, window)


async def total(session: AsyncSession, wanted: ExecutionFilter) -> int:
    """How many executions a filter finds."""
    return await count(session, _filtered(wanted))


async def first_pages(session: AsyncSession, keys: list[FirstPage]) -> list[Page[PipelineExecution]]:
    """The first pages of many pipelines, in the order of the keys: one statement for all that ask for the same."""
    owner = col(PipelineExecution.pipeline_id)
    found: dict[FirstPage, Page[PipelineExecution]] = {}
    for alike in {key[1:]: key for key in keys}.values():
        same = [key for key in keys if key[1:] == alike[1:]]
        statement = _filtered(ExecutionFilter(status=alike.status, execution_type=alike.execution_type))
        owners = [key.pipeline_id for key in same]
        pages = await fetch_each(session, statement, owner, owners, NEWEST_FIRST, alike.first)
        found.update(zip(same, pages, strict=True))
    return [found[key] for key in keys]


async def steps(session: AsyncSession, ids: list[UUID]) -> list[list[StepExecution]]:
    """The steps of each execution without their samples, in the order they started."""
    heavy = [
        defer(cast("QueryableAttribute[object]", column), raiseload=True)
        for column in (StepExecution.input_data_sample, StepExecution.output_data_sample)
    ]
    order = col(PipelineStep.step_order).nulls_last(), col(StepExecution.started_at), col(StepExecution.step_name)
    wanted = select(StepExecution).outerjoin(PipelineStep, col(PipelineStep.id) == col(StepExecution.step_id))
    mine = wanted.where(col(StepExecution.pipeline_execution_id).in_(ids)).order_by(*order).options(*heavy)
    groups: dict[UUID, list[StepExecution]] = {identity: [] for identity in ids}
    for row in await session.scalars(mine):
        groups[row.pipeline_execution_id].append(row)
    return [groups[identity] for identity in ids]


async def step_types(session: AsyncSession, ids: list[UUID]) -> list[StepType | None]:
    """The types of steps, by the ids of their rows in `pipeline_steps`."""
    wanted = select(col(PipelineStep.id), col(PipelineStep.step_type)).where(col(PipelineStep.id).in_(ids))
    known = dict((await session.execute(wanted)).all())
    return [known.get(identity) for identity in ids]


async def samples(session: AsyncSession, ids: list[UUID]) -> list[Samples]:
    """The samples of step executions, in the order of their ids."""
    columns = col(StepExecution.id), col(StepExecution.input_data_sample), col(StepExecution.output_data_sample)
    rows = await session.execute(select(*columns).where(col(StepExecution.id).in_(ids)))
    known = {identity: Samples(into, out) for identity, into, out in rows}
    return [known.get(identity, Samples(None, None)) for identity in ids]


async def checks(session: AsyncSession, ids: list[UUID]) -> list[list[Checked]]:
    """The quality checks of each execution with their rules, in the order they were made."""
    joined = select(DataQualityCheck, DataQualityRule).join(
        DataQualityRule, col(DataQualityRule.id) == col(DataQualityCheck.rule_id)
    )
    mine = joined.where(col(DataQualityCheck.pipeline_execution_id).in_(ids))
    ordered = mine.order_by(col(DataQualityCheck.check_timestamp), col(DataQualityRule.rule_name))
    groups: dict[UUID | None, list[Checked]] = {identity: [] for identity in ids}
    for check, rule in await session.execute(ordered):
        groups[check.pipeline_execution_id].append(Checked(check, rule))
    return [groups[identity] for identity in ids]


_STATS = text("""
    SELECT done.total, done.completed, done.failed, done.minutes, done.records
    FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS wanted (id, place)
    CROSS JOIN LATERAL (
        SELECT count(*) AS total, count(*) FILTER (WHERE status = 'completed') AS completed,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            extract(epoch FROM avg(completed_at - started_at) FILTER (WHERE status = 'completed')) / 60 AS minutes,
            coalesce(sum(records_processed), 0) AS records
        FROM pipeline_executions WHERE pipeline_id = wanted.id AND NOT dry_run
    ) AS done
    ORDER BY wanted.place
""")


async def stats(session: AsyncSession, ids: list[UUID]) -> list[Stats]:
    """The figures of all executions of pipelines, in the order of the pipelines' ids."""
    rows = (await session.execute(_STATS, {"ids": ids})).all()
    return [
        Stats(row.total, rate(row.completed, row.failed), round(float(row.minutes or 0), 4), int(row.records))
        for row in rows
    ]


def _filtered(wanted: ExecutionFilter) -> Select[PipelineExecution]:
    found = select(PipelineExecution)
    if wanted.pipeline_id is not None:
        found = found.where(col(PipelineExecution.pipeline_id) == wanted.pipeline_id)
    if wanted.status is not None:
        found = found.where(col(PipelineExecution.status) == wanted.status)
    if wanted.execution_type is not None:
        found = found.where(col(PipelineExecution.execution_type) == wanted.execution_type)
    if wanted.backfill_id is not None:
        found = found.where(col(PipelineExecution.backfill_id) == wanted.backfill_id)
    if wanted.started_after is not None:
        found = found.where(col(PipelineExecution.started_at) > wanted.started_after)
    return found
