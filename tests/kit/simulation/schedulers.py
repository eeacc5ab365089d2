"""The schedulers of a simulated world, the schedules that they fire, and the limits of what runs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from models.fields import JsonObject
from models.schedules import CatchUp, Overlap
from runtime.schedules.due import fires_after, jitter
from runtime.schedules.store import config_read
from tests.kit.simulation.bus import SimulatedBus
from tests.kit.simulation.clients import PIPELINES
from tests.kit.simulation.history import Calendar
from tests.kit.simulation.loop import Process
from tests.kit.simulation.store import BEGINNING, Row

if TYPE_CHECKING:
    from tests.kit.simulation.world import World

SCHEDULING_WORLDS: Final = 0.25
LIMITED_WORLDS: Final = 0.2
MOST_MOMENTS: Final = 5
LONGEST_FIRST_SECONDS: Final = 6.0
POOL: Final = "default"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many executions may run: of each pipeline, and in the pool; None is as many as want to."""

    slots: int | None = None
    max_active: int | None = None

    @property
    def claimers(self) -> int:
        """How many dispatchers there are at least: where there are limits, two count against them."""
        return 1 if self.max_active is None else 2

    @classmethod
    def drawn(cls, chance: Random) -> "Limits":
        """The limits of one world; most have none."""
        if chance.random() >= LIMITED_WORLDS:
            return cls()
        return cls(chance.choice((None, 1, 2, 3)), chance.choice((1, 1, 2)))


class Schedulers:
    """Tickers in processes of their own; what they have to do is drawn apart from all else in the world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.chance = chance = Random(f"schedules {world.seed}")
        self.limits = Limits.drawn(chance)
        self.calendars: list[Calendar] = []
        self.count = chance.choice((1, 2, 2, 3)) if chance.random() < SCHEDULING_WORLDS else 0
        tables = world.server.tables
        for pipeline in PIPELINES:
            tables["data_pipelines"][pipeline] = _pipeline(self.limits.max_active)
        if self.limits.slots is not None:
            tables["concurrency_pools"][POOL] = {"slots": self.limits.slots}
        if self.count:
            world.faults.deaths["scheduler"] = chance.choice((0.0, 0.4, 0.8))
            world.faults.stops["scheduler"] = chance.choice((0.0, 0.6, 1.0))
            for pipeline in chance.sample(list(PIPELINES), chance.randint(1, 2)):
                self._schedule(pipeline)

    @property
    def are_done(self) -> bool:
        """Whether every moment of every schedule was decided."""
        return all(row["next_fire_at"] is None for row in self.world.server.tables["schedules"].values())

    def start(self) -> None:
        """Let them run."""
        for _ in range(self.count):
            self._start()

    def _start(self) -> None:
        world = self.world
        process = world.process("scheduler")
        process.on_death.append(lambda: world.later(0.5 + world.delay(), self._start))
        world.note(f"{process.name} starts")
        world.loop.spawn(process, self._tick(process))

    async def _tick(self, process: Process) -> None:
        """What the actor of a scheduler does."""
        world = self.world
        database, bus = world.parts.database(world.server, process), SimulatedBus(world)
        clock: Callable[[], float] = world.loop.time
        ticker = world.parts.ticker(world.settings, database, bus, lambda: world.server.now, clock)
        ticker.name, ticker.mint = process.name, self._mint
        await world.keep(process, ticker.run)

    def _mint(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128))

    def _schedule(self, pipeline: UUID) -> None:
        """A schedule with a few moments: every few seconds from now on, or by the minute until now."""
        chance, identity = self.chance, self._mint()
        overlap, catch_up = chance.choice(list(Overlap)), chance.choice(list(CatchUp))
        if chance.random() < 0.2:
            kind, every, first = "cron", timedelta(minutes=1), BEGINNING - timedelta(minutes=chance.randint(1, 4))
            expression, ends_at = "* * * * *", BEGINNING + timedelta(seconds=1)
        else:
            kind, every = "interval", timedelta(seconds=chance.randint(1, 3))
            first = BEGINNING + timedelta(seconds=chance.uniform(0.0, LONGEST_FIRST_SECONDS))
            expression = f"{every.seconds}s"
            ends_at = first + every * chance.randint(2, MOST_MOMENTS)
        late = chance.choice((0, 0, 1)) if every.seconds > 1 else 0
        stored: JsonObject = {
            "type": kind,
            "expression": expression,
            "ends_at": ends_at.isoformat(),
            "jitter_seconds": late,
        }
        config = config_read({**stored, "overlap": overlap.value, "catch_up": catch_up.value})
        moments = tuple(takewhile(lambda at: at < ends_at, fires_after(config, first - timedelta(microseconds=1))))
        self.calendars.append(Calendar(identity, pipeline, moments))
        row = _row(identity, pipeline, moments[0], moments[0] + jitter(identity, moments[0], config))
        stored["starts_at"] = moments[0].isoformat()
        row["config"] = {**stored, "overlap": overlap.value, "catch_up": catch_up.value}
        self.world.server.tables["schedules"][identity] = row
        self.world.note(f"{str(pipeline)[-3:]} is scheduled: {expression}, {overlap}, {catch_up}")


def _pipeline(max_active: int | None) -> Row:
    known: Row = {"archived_at": None, "is_active": True, "is_paused": False, "max_active": max_active}
    return known


def _row(identity: UUID, pipeline: UUID, first: datetime, due_at: datetime) -> dict[str, Any]:
    moments = {"next_fire_at": first, "due_at": due_at, "last_fire_at": None, "updated_at": BEGINNING}
    return {"id": identity, "pipeline_id": pipeline, "is_paused": False, "watches": None, **moments}
