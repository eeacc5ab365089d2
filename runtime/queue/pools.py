"""Pools that limit how many executions run at once, and what a queued execution waits for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from models.errors import Invalid, NotFound
from models.pipelines import MOST_POOL_NAME, POOL_NAME

MOST_SLOTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class PoolUse:
    """A pool: how many executions may run in it at once (None: any number), and how many do."""

    name: str
    slots: int | None
    running: int


class WaitReason(StrEnum):
    """What a queued execution waits for."""

    EARLIER_RUN = "earlier_run"
    PIPELINE_LIMIT = "pipeline_limit"
    POOL = "pool"
    REST = "rest"
    SUPERVISOR = "supervisor"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an execution is not begun: what is full (the pool's or the pipeline's name), its limit, and how many run."""

    reason: WaitReason
    name: str | None = None
    limit: int | None = None
    running: int | None = None


_POOLS: Final = text("""
    SELECT known.name, known.slots, coalesce(taken.items, 0) AS running
    FROM (
        SELECT name, slots FROM concurrency_pools
        UNION ALL
        SELECT DISTINCT pool, CAST(NULL AS integer) FROM data_pipelines
        WHERE archived_at IS NULL AND pool NOT IN (SELECT name FROM concurrency_pools)
    ) AS known
    LEFT JOIN (SELECT pool, sum(items) AS items FROM wedsync.taken_slots() GROUP BY pool) AS taken
        ON taken.pool = known.name
    ORDER BY known.name
""")


async def pools(session: AsyncSession) -> list[PoolUse]:
    """The pools that have a size, and those that pipelines name without one, by name."""
    rows = (await session.execute(_POOLS)).all()
    return [PoolUse(row.name, row.slots, int(row.running)) for row in rows]


_SET: Final = text("""
    INSERT INTO concurrency_pools (name, slots) VALUES (:name, :slots)
    ON CONFLICT (name) DO UPDATE SET slots = excluded.slots
""")


async def set_pool(session: AsyncSession, name: str, slots: int) -> PoolUse:
    """Give a pool its size; what runs beyond it goes on to its end. Publish `runtime.bus.WORK` after the commit.

    Raises `Invalid` for what cannot be a name or a size.
    """
    if len(name) > MOST_POOL_NAME or not re.fullmatch(POOL_NAME, name):
        hint = f"a letter, then letters, digits, `_`, `-` and `.`, at most {MOST_POOL_NAME}"
        raise Invalid(f"{name!r} cannot be a pool's name", hint=hint, path="name")
    if not 1 <= slots <= MOST_SLOTS:
        hint = f"say 1 to {MOST_SLOTS}; to let nothing run, pause the pipelines"
        raise Invalid(f"a pool cannot have {slots} slots", hint=hint, path="slots")
    await session.execute(_SET, {"name": name, "slots": slots})
    return next(pool for pool in await pools(session) if pool.name == name)


_REMOVE: Final = text("DELETE FROM concurrency_pools WHERE name = :name RETURNING slots")


async def remove_pool(session: AsyncSession, name: str) -> PoolUse:
    """Let any number run in a pool; answers what it was. Raises `NotFound` for one that has no size.

    Publish `runtime.bus.WORK` after the commit.
    """
    before = next((pool for pool in await pools(session) if pool.name == name), None)
    if before is None or (await session.execute(_REMOVE, {"name": name})).first() is None:
        raise NotFound(f"there is no pool {name!r} with a size", hint="see the pools there are", path="name")
    return before


_WAITS: Final = text("""
    WITH taken AS MATERIALIZED (SELECT pool, pipeline_id, items FROM wedsync.taken_slots())
    SELECT item.subject, item.pool, item.state = 'held' OR item.run_after = 'infinity' AS is_held,
        item.run_after > now() AS rests,
        limited.slots, pipeline.max_active, pipeline.pipeline_name,
        (SELECT coalesce(sum(items), 0) FROM taken WHERE taken.pool = item.pool) AS in_pool,
        (SELECT coalesce(sum(items), 0) FROM taken WHERE taken.pipeline_id = item.pipeline_id) AS in_pipeline
    FROM work_items AS item
    LEFT JOIN concurrency_pools AS limited ON limited.name = item.pool
    LEFT JOIN data_pipelines AS pipeline ON pipeline.id = item.pipeline_id
    WHERE item.subject = ANY(:ids) AND item.kind = 'execution' AND item.state IN ('held', 'queued')
""")


async def waits(session: AsyncSession, executions: Sequence[UUID]) -> list[Wait | None]:
    """What each execution waits for; None for one that does not wait to be begun, and for one that is not seen."""
    rows = (await session.execute(_WAITS, {"ids": list(executions)})).all()
    found: dict[UUID, Wait] = {}
    for row in rows:
        if row.is_held:
            wait = Wait(WaitReason.EARLIER_RUN, row.pipeline_name)
        elif row.rests:
            wait = Wait(WaitReason.REST)
        elif row.max_active is not None and row.in_pipeline >= row.max_active:
            wait = Wait(WaitReason.PIPELINE_LIMIT, row.pipeline_name, row.max_active, int(row.in_pipeline))
        elif row.slots is not None and row.in_pool >= row.slots:
            wait = Wait(WaitReason.POOL, row.pool, row.slots, int(row.in_pool))
        else:
            wait = Wait(WaitReason.SUPERVISOR)
        found[row.subject] = wait
    return [found.get(execution) for execution in executions]
