"""Drops what is past its retention: daily partitions of events, and checkpoints with their files."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from runtime.access.principal import Principal
from runtime.database import Session, Transactions
from runtime.executions.checkpoints import clear_shelves, old_shelves

RUNTIME = Principal.runtime()
DAYS_AHEAD = 3
PRUNED_CHECKPOINTS = 1_000

_KEEP = text("SELECT wedsync.ensure_event_partitions(:ahead), wedsync.drop_event_partitions(:days)")

_PRUNE = text("""
    DELETE FROM checkpoints WHERE (execution_id, task_name) IN (
        SELECT kept.execution_id, kept.task_name
        FROM checkpoints AS kept JOIN pipeline_executions AS execution ON execution.id = kept.execution_id
        WHERE kept.created_at < now() - make_interval(days => :days)
            AND execution.completed_at < now() - make_interval(days => :days)
        LIMIT :most
    )
    RETURNING execution_id
""")

_NEEDED = text("""
    SELECT id FROM pipeline_executions
    WHERE id = ANY(:ids) AND (completed_at IS NULL OR completed_at >= now() - make_interval(days => :days))
""")


async def keep_partitions(session: Session, retention_days: int) -> None:
    """Make the coming days' partitions, and drop old ones; harmless when done twice, or by two at once."""
    await session.execute(_KEEP, {"ahead": DAYS_AHEAD, "days": retention_days})


async def prune_checkpoints(database: Transactions, artifacts: Path, days: int) -> None:
    """Remove the checkpoints of executions that ended more than `days` ago, and files that nobody knows any more.

    Some at a time; raises OSError, and `Unavailable` when the database is away.
    """
    pruned, most = PRUNED_CHECKPOINTS, PRUNED_CHECKPOINTS
    while pruned == most:
        async with database.statements(RUNTIME) as session:
            pruned = len((await session.execute(_PRUNE, {"days": days, "most": most})).all())
    old = await asyncio.to_thread(old_shelves, artifacts, days, most, datetime.now(UTC))
    async with database.statements(RUNTIME) as session:
        needed = set((await session.scalars(_NEEDED, {"ids": old, "days": days})).all())
    await asyncio.to_thread(clear_shelves, artifacts, [one for one in old if one not in needed])
