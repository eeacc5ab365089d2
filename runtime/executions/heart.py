"""Keeps an execution ours: its lease is renewed from the loop that does its work, so that one that hangs loses it."""

import asyncio
from contextlib import suppress

from models.errors import Exhausted, Unavailable
from runtime.executions.journal import Journal

BEAT_SECONDS = 1.0
PATIENCE_SECONDS = 5.0


class Heart:
    """The beats of one supervisor; the first is due a while after the claim, whose lease is fresh."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._due: float | None = None

    def hurry(self) -> None:
        """Have the next beat at once."""
        self._due = 0.0

    async def beat(self) -> bool:
        """Renew the lease where that is due; True when the execution is to stop. Raises `Fenced`.

        While the database is away nobody else can take over, so that is waited for elsewhere.
        """
        now = asyncio.get_running_loop().time()
        if self._due is None:
            self._due = now + BEAT_SECONDS
        if now < self._due:
            return False
        self._due = now + BEAT_SECONDS
        with suppress(Unavailable, Exhausted, TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._journal.beat()
        return False
