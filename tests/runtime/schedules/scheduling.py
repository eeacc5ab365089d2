"""Scheduled pipelines for tests: saved as the API saves them, ticked by hand at a moment that the test says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from models.fields import Json, JsonObject
from models.pipelines import DataPipeline
from runtime.bus import Bus
from runtime.database import Database
from runtime.pipelines import store as pipelines
from runtime.schedules import store
from runtime.schedules.ticker import Ticker
from runtime.settings import Settings
from tests.kit.factories.pipelines import simple
from tests.kit.identities import ENGINEER


@dataclass
class Clock:
    """A clock that stands still until it is moved: the time of day, and seconds that only ever grow."""

    at: datetime
    seconds: float = field(default=0.0)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def move(self, by: timedelta) -> datetime:
        self.at += by
        self.seconds += by.total_seconds()
        return self.at


def ticker_of(settings: Settings, database: Database, clock: Clock) -> Ticker:
    return Ticker(settings, database, Bus(None), clock.now, clock.monotonic)


def hourly(**options: Json) -> JsonObject:
    """A schedule_config that fires with each hour."""
    return {"type": "cron", "expression": "0 * * * *", "timezone": "UTC", **options}


async def scheduled(
    database: Database, now: datetime, name: str = "nightly", schedule: JsonObject | None = None
) -> DataPipeline:
    """A pipeline over the factories' places, saved at that moment with its schedule."""
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.create(session, simple(name, schedule_config=schedule or hourly()), ENGINEER)
        await store.follow(session, row, now)
    return row


async def ticked(ticker: Ticker) -> None:
    """Step until nothing more is due."""
    while await ticker.step() == 0.0:
        pass


async def fires(owner: asyncpg.Connection, pipeline: UUID) -> list[tuple[datetime, str, str | None]]:
    rows: Sequence[Any] = await owner.fetch(
        """SELECT fire_time, outcome, reason FROM schedule_fires JOIN schedules ON schedules.id = schedule_id
           WHERE pipeline_id = $1 ORDER BY fire_time""",
        pipeline,
    )
    return [(row["fire_time"], row["outcome"], row["reason"]) for row in rows]


async def finish(owner: asyncpg.Connection, pipeline: UUID, state: str = "completed") -> None:
    """Let all executions of a pipeline that have not ended, end."""
    await owner.execute(
        """UPDATE pipeline_executions SET state = $2, status = $2, completed_at = now()
           WHERE pipeline_id = $1 AND status = 'running'""",
        pipeline,
        state,
    )
    await owner.execute(
        """UPDATE work_items SET state = 'done' WHERE state = 'queued' AND run_after <= now() AND subject IN (
           SELECT id FROM pipeline_executions WHERE pipeline_id = $1)""",
        pipeline,
    )
