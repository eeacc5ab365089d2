"""The rows of schedules: they follow what is saved of pipelines."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from models.errors import NotFound
from models.fields import JsonObject
from models.pipelines import DataPipeline
from runtime.database import Database
from runtime.pipelines import store as pipelines
from runtime.pipelines.store import Edit
from runtime.schedules import store
from tests.kit.factories.pipelines import places
from tests.kit.identities import ENGINEER
from tests.runtime.schedules.scheduling import hourly, scheduled

NOW = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=3)


async def edited(database: Database, pipeline: DataPipeline, edit: Edit, now: datetime = LATER) -> None:
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.update(session, pipeline.id, edit, ENGINEER)
        await store.follow(session, row, now)


async def the_row(owner: asyncpg.Connection) -> Any:
    return await owner.fetchrow("SELECT * FROM schedules")


async def test_a_schedule_is_kept_with_its_next_moment(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    await scheduled(database, NOW)
    row = await the_row(owner)
    assert row["next_fire_at"] == row["due_at"] == datetime(2026, 3, 1, 11, tzinfo=UTC)


async def test_a_save_that_leaves_the_schedule_leaves_its_row(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    before = await the_row(owner)
    await edited(database, pipeline, Edit(changes={"description": "another"}))
    assert await the_row(owner) == before


async def test_a_changed_schedule_counts_from_its_save(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    before = await the_row(owner)
    changes: JsonObject = {"schedule_config": hourly(expression="15 * * * *")}
    await edited(database, pipeline, Edit(changes=changes))
    row = await the_row(owner)
    assert (row["id"], row["next_fire_at"]) == (before["id"], datetime(2026, 3, 1, 14, 15, tzinfo=UTC))


async def test_an_inactive_pipelines_schedule_stands_still(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    await edited(database, pipeline, Edit(is_active=False))
    row = await the_row(owner)
    assert (row["next_fire_at"], row["due_at"]) == (None, None)
    await edited(database, pipeline, Edit(is_active=True))
    assert (await the_row(owner))["next_fire_at"] == datetime(2026, 3, 1, 14, tzinfo=UTC)


async def test_without_a_schedule_there_is_no_row(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    await edited(database, pipeline, Edit(changes={"schedule_config": None}))
    assert await the_row(owner) is None
    await edited(database, pipeline, Edit(changes={"schedule_config": hourly()}))
    async with database.transaction(ENGINEER) as session:
        await store.follow(session, await pipelines.archive(session, pipeline.id), LATER)
    assert await the_row(owner) is None


async def test_a_resumed_schedule_goes_on_from_now(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    async with database.transaction(ENGINEER) as session:
        await store.set_paused(session, pipeline, NOW, is_paused=True)
    assert (await the_row(owner))["is_paused"]
    async with database.transaction(ENGINEER) as session:
        await store.set_paused(session, pipeline, LATER, is_paused=False)
    row = await the_row(owner)
    assert (row["is_paused"], row["next_fire_at"]) == (False, datetime(2026, 3, 1, 14, tzinfo=UTC))


async def test_to_resume_what_is_not_paused_passes_over_nothing(database: Database, owner: asyncpg.Connection) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    async with database.transaction(ENGINEER) as session:
        await store.set_paused(session, pipeline, LATER, is_paused=False)
    assert (await the_row(owner))["next_fire_at"] == datetime(2026, 3, 1, 11, tzinfo=UTC)


async def test_one_that_is_resumed_after_its_last_moment_has_no_next(
    database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    changes: JsonObject = {"schedule_config": hourly(ends_at=(NOW + timedelta(hours=2)).isoformat())}
    await edited(database, pipeline, Edit(changes=changes), NOW)
    assert (await the_row(owner))["next_fire_at"] == datetime(2026, 3, 1, 11, tzinfo=UTC)
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.find(session, pipeline.id)
        await store.set_paused(session, row, NOW, is_paused=True)
        await store.set_paused(session, row, LATER, is_paused=False)
    ended = await the_row(owner)
    assert (ended["is_paused"], ended["next_fire_at"], ended["due_at"]) == (False, None, None)


async def test_what_has_no_schedule_cannot_be_paused(database: Database) -> None:
    await places(database)
    pipeline = await scheduled(database, NOW)
    await edited(database, pipeline, Edit(changes={"schedule_config": None}))
    async with database.transaction(ENGINEER) as session:
        row = await pipelines.find(session, pipeline.id)
        with pytest.raises(NotFound, match="has no schedule"):
            await store.set_paused(session, row, NOW, is_paused=True)
