"""Follows what becomes of the moments of schedules, as it is decided, without gap or repeat."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text

from models.schedules import FireOutcome
from runtime.access.principal import Principal
from runtime.bus import FIRES, Bus
from runtime.database import Database, Identity
from runtime.positions import Positions, settled
from runtime.schedules.listing import DECIDED, Decided

READER: Final = Principal.runtime()
POSITIONS: Final = Positions("schedule_fires", "schedule_fire_position")
POLL_SECONDS: Final = 1.0
MOST: Final = 500

_BETWEEN: Final = text(f"""
    SELECT {DECIDED} FROM schedule_fires AS fire
    WHERE fire.position > :after AND fire.position <= :until AND fire.outcome = ANY(CAST(:outcomes AS text[]))
        AND (CAST(:pipeline AS uuid) IS NULL
            OR fire.schedule_id = (SELECT id FROM schedules WHERE pipeline_id = CAST(:pipeline AS uuid)))
    ORDER BY fire.position LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which moments are followed: of one pipeline's schedule or of all, with these outcomes."""

    pipeline: UUID | None = None
    outcomes: Sequence[FireOutcome] = tuple(FireOutcome)


async def follow(
    database: Database, bus: Bus, identity: Identity, after: int | None, wanted: Wanted
) -> AsyncGenerator[Decided, None]:
    """The moments that `identity` may see with `position > after`, or that are decided from now on; never ends."""
    position = after
    async for _ in bus.wakeups(FIRES, every=POLL_SECONDS):
        async with database.statements(READER) as session:
            last = await settled(session, POSITIONS, position or 0)
        if position is None:
            position = last
        while position < last:
            page = await _between(database, identity, wanted, position, last)
            for decided in page:
                yield decided
            position = page[-1].position if len(page) == MOST else last


async def _between(database: Database, identity: Identity, wanted: Wanted, after: int, until: int) -> list[Decided]:
    parameters = {
        "after": after,
        "until": until,
        "outcomes": [outcome.value for outcome in wanted.outcomes],
        "pipeline": wanted.pipeline,
        "most": MOST,
    }
    async with database.transaction(identity) as session:
        return [Decided.of(row) for row in (await session.execute(_BETWEEN, parameters)).all()]
