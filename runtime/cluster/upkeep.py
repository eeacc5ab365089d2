"""What a dispatcher keeps in order beside the queue: backfills go on and end, who is late or stands still is told."""

from typing import Final

from runtime.backfills import control
from runtime.bus import ALL_EVENTS, events_topic
from runtime.database import Session
from runtime.executions.deadlines import tell_late, tell_stalled
from runtime.settings import Settings

BACKFILLS_SECONDS: Final = 1.0
OPEN_BACKFILLS_SECONDS: Final = 0.05
"""While there are backfills, so that a chunk begins as soon as another has ended."""
DEADLINES_SECONDS: Final = 5.0


class Upkeep:
    """Looks now and then, a statement each; any number of dispatchers may, and each takes over from any other."""

    def __init__(self, settings: Settings, now: float) -> None:
        """Times are in seconds of the dispatcher's clock."""
        self._settings = settings
        self._next_backfills = now
        self._next_deadlines = now

    async def keep(self, session: Session, now: float) -> list[str]:
        """Do what is due; answers the topics to wake after the commit."""
        if now >= self._next_backfills:
            kept = await control.keep(session)
            self._next_backfills = now + (OPEN_BACKFILLS_SECONDS if kept.open else BACKFILLS_SECONDS)
        if now < self._next_deadlines:
            return []
        self._next_deadlines = now + DEADLINES_SECONDS
        told = [*await tell_late(session), *await tell_stalled(session, self._settings.stalled_minutes)]
        return [*map(events_topic, told), ALL_EVENTS] if told else []
