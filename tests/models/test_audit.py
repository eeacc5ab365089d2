"""The audit log: append-only, chained without gaps, and its breaks are found."""

import asyncio

import asyncpg
import pytest
from sqlmodel import insert

from models.audit import AuditEntry
from runtime.database import Database
from tests.kit.identities import ANALYST
from tests.models.conftest import Migrated
from tests.models.people import ADMIN, ENGINEER, RUNTIME

ENTRY = """
    INSERT INTO audit_log (actor, actor_role, action, entity_type, entity_id, detail)
    VALUES ($1, $2, $3, 'pipeline', '1', $4)
"""


async def record(database: Migrated, action: str) -> None:
    async with database.acting(ENGINEER) as connection:
        await connection.execute(ENTRY, ENGINEER.user_id, ENGINEER.role, action, '{"a": 1.50, "ü": null}')


async def first_break(database: Migrated) -> int | None:
    async with database.acting(ADMIN) as connection:
        found: int | None = await connection.fetchval("SELECT wedsync.verify_audit()")
        return found


@pytest.mark.parametrize("change", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"])
async def test_not_even_the_owner_changes_what_is_recorded(migrated: Migrated, change: str) -> None:
    await record(migrated, "create")
    async with migrated.as_owner() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await connection.execute(change)


async def test_entries_written_at_once_form_one_chain(migrated: Migrated) -> None:
    await asyncio.gather(*(record(migrated, f"action {number}") for number in range(12)))
    async with migrated.as_owner() as connection:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM audit_log ORDER BY id")]
    assert ids == list(range(1, 13))
    assert await first_break(migrated) is None


async def test_the_chain_does_not_depend_on_the_sessions_time_zone(migrated: Migrated) -> None:
    await record(migrated, "create")
    async with migrated.acting(ADMIN) as connection:
        await connection.execute("SET LOCAL timezone = 'Asia/Kathmandu'")
        assert await connection.fetchval("SELECT wedsync.verify_audit()") is None


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE audit_log SET detail = '{}' WHERE id = 2", 2),
        ("UPDATE audit_log SET actor = NULL WHERE id = 3", 3),
        ("DELETE FROM audit_log WHERE id = 1", 2),
        ("DELETE FROM audit_log WHERE id = 3", 4),
        ("UPDATE audit_log SET action = 'x', hash = wedsync.audit_hash(audit_log) WHERE id = 2", 2),
    ],
)
async def test_tampering_is_found_at_the_first_broken_entry(migrated: Migrated, tampering: str, found: int) -> None:
    for number in range(4):
        await record(migrated, f"action {number}")
    async with migrated.as_owner() as connection:
        await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        await connection.execute(tampering)
    assert await first_break(migrated) == found


async def test_a_writer_cannot_choose_number_moment_or_hash(migrated: Migrated) -> None:
    async with migrated.acting(RUNTIME) as connection:
        await connection.execute(
            """
            INSERT INTO audit_log (id, recorded_at, previous_hash, hash, actor_role, action, entity_type)
            VALUES (77, '2001-01-01', 'a', 'b', 'runtime', 'run', 'execution')
            """
        )
    async with migrated.acting(ADMIN) as connection:
        entry = await connection.fetchrow("SELECT id, recorded_at > now() - interval '1 hour' AS is_now FROM audit_log")
    assert entry is not None
    assert (entry["id"], entry["is_now"]) == (1, True)
    assert await first_break(migrated) is None


async def test_only_administrators_verify_the_log(migrated: Migrated) -> None:
    async with migrated.acting(ENGINEER) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="system_admin"):
            await connection.fetchval("SELECT wedsync.verify_audit()")


async def test_the_table_class_inserts_without_reading(migrated: Migrated, database: Database) -> None:
    async with database.transaction(ANALYST) as session:
        entry = {"actor": ANALYST.user_id, "actor_role": "data_analyst", "action": "read", "entity_type": "report"}
        await session.execute(insert(AuditEntry).inline().values(entry))
    assert await first_break(migrated) is None
