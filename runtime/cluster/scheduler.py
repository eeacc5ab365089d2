"""The scheduler's actor: a thin shell that gives a ticker a process of its own beside the dispatcher."""

import ray

from runtime import collector
from runtime.bus import Bus
from runtime.cluster.worker import process_settings
from runtime.database import Database
from runtime.schedules.ticker import Ticker


class SchedulerProcess:
    """A ticker with a process of its own; any number may run, one of them leads."""

    def __init__(self) -> None:
        settings = process_settings()
        database = Database(settings.require_database_url(), pool_size=2, name="wedsync-scheduler")
        self._ticker = Ticker(settings, database, Bus(settings.redis_url))

    async def run(self) -> None:
        """Fire schedules until stopped."""
        collector.settle()
        await self._ticker.run()

    async def stop(self) -> None:
        """Decide nothing more, and give the lease up."""
        self._ticker.close()
        await self._ticker.ended()


SchedulerActor = ray.remote(num_cpus=0, max_restarts=-1)(SchedulerProcess)
