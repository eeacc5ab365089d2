"""Keeps the events' daily partitions: the coming days' are made ahead, those past their retention are dropped."""

from sqlalchemy import text

from runtime.database import Session

DAYS_AHEAD = 3

_KEEP = text("SELECT wedsync.ensure_event_partitions(:ahead), wedsync.drop_event_partitions(:days)")


async def keep_partitions(session: Session, retention_days: int) -> None:
    """Make and drop partitions; harmless when done twice, or by two at once."""
    await session.execute(_KEEP, {"ahead": DAYS_AHEAD, "days": retention_days})
