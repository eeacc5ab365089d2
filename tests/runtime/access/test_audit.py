"""Deeds are recorded in the transaction that did them, in the name of whoever did."""

import json
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from runtime.access.audit import Deed, record
from runtime.access.principal import Principal
from runtime.database import Database
from tests.kit.identities import ADMIN, ANALYST, ENGINEER, RUNTIME


@pytest.mark.parametrize(
    ("by", "actor", "role"),
    [
        (ADMIN, ADMIN.user_id, "system_admin"),
        (ANALYST, ANALYST.user_id, "data_analyst"),
        (RUNTIME, None, "runtime"),
    ],
)
async def test_a_deed_names_its_actor_and_masks_its_detail(
    database: Database, owner: asyncpg.Connection, by: Principal, actor: UUID | None, role: str
) -> None:
    async with database.transaction(by) as session:
        await record(session, by, Deed("create", "source", UUID(int=5), {"password": "x", "email": "ann@example.org"}))
    row = await owner.fetchrow("SELECT actor, actor_role, action, entity_type, entity_id, detail FROM audit_log")
    assert row is not None
    assert (row["actor"], row["actor_role"], row["action"]) == (actor, role, "create")
    assert (row["entity_type"], row["entity_id"]) == ("source", str(UUID(int=5)))
    assert json.loads(row["detail"]) == {"password": "[hidden]", "email": "a***@e***.org"}


async def test_a_deed_that_was_rolled_back_was_not_done(database: Database, owner: asyncpg.Connection) -> None:
    async def fail() -> None:
        async with database.transaction(ENGINEER) as session:
            await record(session, ENGINEER, Deed("create", "source"))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await owner.fetchval("SELECT count(*) FROM audit_log") == 0


async def test_several_deeds_are_chained_in_their_order(database: Database, owner: asyncpg.Connection) -> None:
    async with database.transaction(ENGINEER) as session:
        await record(session, ENGINEER, *(Deed(f"step {number}", "source") for number in range(3)))
    rows = await owner.fetch("SELECT id, action FROM audit_log ORDER BY id")
    assert [(row["id"], row["action"]) for row in rows] == [(1, "step 0"), (2, "step 1"), (3, "step 2")]
    assert await owner.fetchval("SELECT wedsync.verify_audit()") is None


async def test_to_record_nothing_takes_no_lock(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        await record(session, ENGINEER)
        assert await session.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
