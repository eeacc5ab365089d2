"""Follows how far a backfill is, until it has finished."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from time import monotonic
from typing import Final

from models.backfills import Backfill
from runtime.backfills import store
from runtime.backfills.store import BackfillProgress
from runtime.bus import ALL_EVENTS, Bus
from runtime.database import Database, Identity

POLL_SECONDS: Final = 1.0
APART_SECONDS: Final = 0.25
"""However much happens, it is read no more often than this."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A backfill as it was read, and how far it was."""

    backfill: Backfill
    progress: BackfillProgress


async def follow(database: Database, bus: Bus, identity: Identity, reference: str) -> AsyncGenerator[Standing, None]:
    """How a backfill stands, at once and whenever that has changed, to its end; raises `NotFound`.

    What is missed is no gap: each says all there is to say.
    """
    told: object = None
    next_look = 0.0
    async for _ in bus.wakeups(ALL_EVENTS, every=POLL_SECONDS):
        if monotonic() < next_look:
            continue
        next_look = monotonic() + APART_SECONDS
        async with database.transaction(identity) as session:
            found = await store.find(session, reference)
            (progress,) = await store.progress(session, [found.id])
        if (found.updated_at, progress) != told:
            told = found.updated_at, progress
            yield Standing(found, progress)
        if found.finished_at is not None:
            return
