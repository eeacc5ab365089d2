"""People of a simulated world who plan: they ask for backfills, which they pause and cancel, and pause schedules."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from models.errors import DomainError
from models.fields import JsonObject
from models.pipelines import DataPipeline, PipelineType
from runtime.access.principal import Principal
from runtime.backfills import control, requests
from runtime.schedules.store import set_paused
from runtime.statements import Statements
from tests.kit.simulation.backfilling import request_of
from tests.kit.simulation.clients import PIPELINES
from tests.kit.simulation.loop import Process
from tests.kit.simulation.store import Row, SimulatedDatabase

if TYPE_CHECKING:
    from tests.kit.simulation.world import World

Work: TypeAlias = Callable[[Statements], Awaitable[object]]

BACKFILL_WORLDS: Final = 0.05
PAUSED_SCHEDULES: Final = 0.4
MOST_CHUNKS: Final = 4
RUNTIME: Final = Principal.runtime()
FINAL: Final = ("already_ended", "not_found")


def scheduled(pipeline: UUID, config: JsonObject) -> DataPipeline:
    """A pipeline, as far as its schedule is concerned."""
    return DataPipeline(
        id=pipeline,
        pipeline_name="any",
        pipeline_type=PipelineType.ETL,
        source_config={},
        destination_config={},
        schedule_config=config,
    )


class Operators:
    """What they do is drawn apart from all else in the world; whoever is not answered asks again."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.chance = Random(f"operators {world.seed}")
        self.process = Process("operator")
        self.database = SimulatedDatabase(world.server, self.process)
        self.has_backfill = self.chance.random() < BACKFILL_WORLDS
        calendars = world.schedulers.calendars
        self.pauses = [one.pipeline for one in calendars if self.chance.random() < PAUSED_SCHEDULES]
        self.waiting = 0

    @property
    def are_done(self) -> bool:
        """Whether nobody wants anything any more, and every backfill has finished."""
        backfills = self.world.server.tables["backfills"].values()
        return self.waiting == 0 and all(row["finished_at"] is not None for row in backfills)

    def start(self) -> None:
        """Let them come."""
        plans = [self._backfill()] if self.has_backfill else []
        for plan in [*plans, *(self._pause(pipeline) for pipeline in self.pauses)]:
            self.waiting += 1
            self.world.loop.spawn(self.process, plan)

    async def _pause(self, pipeline: UUID) -> None:
        """Pause a schedule, and let it go on."""
        world, chance = self.world, self.chance
        rows = world.server.tables["schedules"].values()
        known = scheduled(pipeline, next(row["config"] for row in rows if row["pipeline_id"] == pipeline))
        try:
            for is_paused in (True, False):
                await world.loop.passes(chance.uniform(0.0, 6.0))
                world.note(f"the schedule of {str(pipeline)[-3:]} {'is paused' if is_paused else 'goes on'}")
                await self._done(
                    lambda session, to=is_paused: set_paused(session, known, world.server.now, is_paused=to)  # type: ignore[misc]
                )
        finally:
            self.waiting -= 1

    async def _backfill(self) -> None:
        world, chance = self.world, self.chance
        identity, most = UUID(int=chance.getrandbits(128)), chance.randint(1, 2)
        ids = [UUID(int=chance.getrandbits(128)) for _ in range(chance.randint(2, MOST_CHUNKS))]
        bounds = [f"2025-01-{day:02}" for day in range(1, len(ids) + 2)]
        given = request_of(identity, chance.choice(list(PIPELINES)), ids, bounds, most)
        try:
            await world.loop.passes(chance.uniform(0.0, 4.0))
            world.note(f"a backfill of {len(ids)} chunks is asked for, {most} at once")
            await self._done(lambda session: self._request(session, given))
            world.send("wedsync:work")
            for what in chance.choice(((), ("pause", "resume"), ("cancel",), ("pause", "cancel"))):
                await world.loop.passes(chance.uniform(0.0, 5.0))
                world.note(f"{what} the backfill")
                await self._done(lambda session, what=what: self._control(session, what, identity))  # type: ignore[misc]
                world.send("wedsync:work")
        finally:
            self.waiting -= 1

    async def _request(self, session: Statements, given: Row) -> None:
        """Ask for a backfill, unless that was done and the answer was lost."""
        if (await session.execute(control._STATE, {"id": given["id"]})).first() is None:
            await session.execute(requests._INSERT, {**given, "now": self.world.server.now})

    async def _control(self, session: Statements, what: str, identity: UUID) -> None:
        match what:
            case "pause":
                await control.pause(session, identity)
            case "resume":
                await control.resume(session, identity)
            case _:
                for execution in await control.cancel(session, identity):
                    self.world.send(f"wedsync:control:{execution}")

    async def _done(self, work: Work) -> None:
        """One transaction, tried until it is answered."""
        while True:
            try:
                async with self.database.statements(RUNTIME) as session:
                    await work(session)
                return
            except DomainError as error:
                if error.specific_code in FINAL:
                    return
            except RuntimeError as error:
                self.world.note(f"the operator is not answered: {error}")
            await self.world.loop.passes(1.0)
