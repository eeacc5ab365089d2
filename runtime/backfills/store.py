"""Reads backfills and how far they are; row-level security hides them from those they are not for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.backfills import Backfill
from models.executions import ExecutionState
from models.parsing import as_uuid
from runtime.backfills.control import no_backfill
from runtime.database import Session
from runtime.paging import Order, Page, Window, count, fetch, fetch_each

NEWEST_FIRST: Final = Order((col(Backfill.created_at), col(Backfill.id)), descending=True)


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How many of a backfill's executions stand where: they wait, run, have completed, failed, or were cancelled."""

    waiting: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def ended(self) -> int:
        """How many have ended."""
        return self.completed + self.failed + self.cancelled

    @property
    def total(self) -> int:
        """How many there are."""
        return self.waiting + self.running + self.ended


async def find(session: AsyncSession, reference: str | UUID) -> Backfill:
    """The backfill of an id; raises `NotFound`, also for what is hidden."""
    identity = as_uuid(reference)
    found = None if identity is None else await session.get(Backfill, identity, populate_existing=True)
    if found is None:
        raise no_backfill(reference)
    return found


async def by_ids(session: AsyncSession, ids: Sequence[UUID]) -> list[Backfill | None]:
    """The backfills of ids, in their order; None where there is none to be seen."""
    rows = (await session.scalars(select(Backfill).where(col(Backfill.id).in_(ids)))).all()
    known = {row.id: row for row in rows}
    return [known.get(identity) for identity in ids]


async def page(session: AsyncSession, pipeline_id: UUID, window: Window) -> Page[Backfill]:
    """One page of a pipeline's backfills, those requested last first."""
    return await fetch(session, _of(pipeline_id), NEWEST_FIRST, window)


class FirstPage(NamedTuple):
    """The first page of a pipeline's backfills, wanted for many pipelines at once."""

    pipeline_id: UUID
    first: int


async def first_pages(session: AsyncSession, keys: list[FirstPage]) -> list[Page[Backfill]]:
    """The first pages of many pipelines, in the order of the keys: one statement for all that ask for as many."""
    found: dict[FirstPage, Page[Backfill]] = {}
    for first in {key.first for key in keys}:
        same = [key for key in keys if key.first == first]
        owners = [key.pipeline_id for key in same]
        pages = await fetch_each(session, select(Backfill), col(Backfill.pipeline_id), owners, NEWEST_FIRST, first)
        found.update(zip(same, pages, strict=True))
    return [found[key] for key in keys]


async def total(session: AsyncSession, pipeline_id: UUID) -> int:
    """How many backfills a pipeline has."""
    return await count(session, _of(pipeline_id))


_PROGRESS: Final = text("""
    SELECT backfill_id, state, count(*) AS executions FROM pipeline_executions
    WHERE backfill_id = ANY(CAST(:ids AS uuid[])) GROUP BY backfill_id, state
""")


async def progress(session: Session, ids: Sequence[UUID]) -> list[BackfillProgress]:
    """How far backfills are, in the order of their ids: one statement over an index for all of them."""
    counts: dict[UUID, dict[str, int]] = {identity: {} for identity in ids}
    for row in (await session.execute(_PROGRESS, {"ids": list(ids)})).all():
        place = _place(ExecutionState(row.state))
        counts[row.backfill_id][place] = counts[row.backfill_id].get(place, 0) + row.executions
    return [BackfillProgress(**counts[identity]) for identity in ids]


def _place(state: ExecutionState) -> str:
    if state is ExecutionState.QUEUED:
        return "waiting"
    return state.value if state.is_terminal else "running"


def _of(pipeline_id: UUID) -> Select[Backfill]:
    return select(Backfill).where(col(Backfill.pipeline_id) == pipeline_id)
