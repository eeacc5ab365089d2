"""A whole runtime in one thread: the real dispatchers, supervisors and schedulers over a simulated database."""

import gc
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final

from runtime.cluster.actors import SupervisorHost
from runtime.cluster.dispatcher import Dispatcher, SupervisorHandle
from runtime.cluster.pool import Pool
from runtime.executions.assignments import Plans
from runtime.executions.checkpoints import Place
from runtime.queue.store import Claim
from runtime.schedules.ticker import Ticker
from runtime.settings import Settings
from tests.kit.simulation.bus import Exchange, SimulatedBus
from tests.kit.simulation.clients import Clients
from tests.kit.simulation.destination import SimulatedDestination
from tests.kit.simulation.faults import Faults
from tests.kit.simulation.history import Ran
from tests.kit.simulation.loop import Process, SimulatedLoop
from tests.kit.simulation.operators import Operators
from tests.kit.simulation.remotes import Remote
from tests.kit.simulation.schedulers import Schedulers
from tests.kit.simulation.statements import counterparts
from tests.kit.simulation.store import Answering, Server, SimulatedDatabase, Weather

LEASE_SECONDS: Final = 4.0
AFTERWARDS_SECONDS: Final = 6.0
"""Longer than it takes to find out that one is superseded, and to clear what one has staged."""
LOOKS_SECONDS: Final = 0.5
HORIZON_SECONDS: Final = 400.0
NOWHERE: Final = Path("/dev/null/artifacts")
"""No log can be written here, which costs nothing."""

SETTINGS: Final = Settings(home=NOWHERE, lease_seconds=LEASE_SECONDS, supervisors_min=2, supervisors_max=4)


@dataclass(frozen=True)
class Parts:
    """What a world is made of; a seeded bug takes the place of one of them."""

    statements: Mapping[str, Answering] = field(default_factory=dict)
    dispatcher: type[Dispatcher] = Dispatcher
    host: type[SupervisorHost] = SupervisorHost
    ticker: type[Ticker] = Ticker
    destination: type[SimulatedDestination] = SimulatedDestination
    database: type[SimulatedDatabase] = SimulatedDatabase


class OtherWork:
    """No other work comes up here."""

    async def run(self, claim: Claim) -> None:
        """Nothing to do."""


class World:
    """One seed's world. `notes` tell what happened, if they are kept."""

    def __init__(self, seed: int, parts: Parts | None = None, *, telling: bool = False) -> None:
        self.seed = seed
        self.notes: list[tuple[float, str]] | None = [] if telling else None
        self.parts = parts or Parts()
        self.settings = SETTINGS
        self.chance = Random(seed)
        self.loop = SimulatedLoop(self.chance)
        self.loop.died = lambda process: self.note(f"{process.name} is killed")
        self.loop.stopped = lambda process: self.note(f"{process.name} is stopped for {process.stops_for:g} s")
        self.faults = Faults.drawn(self.chance)
        weather = Weather(
            self.chance,
            serialization=self.faults.serialization,
            unknown=self.faults.unknown,
            stalls=self.faults.stalls,
        )
        self.server = Server(self.loop, weather, counterparts(**self.parts.statements))
        self.destination = self.parts.destination()
        self.artifacts: dict[str, Place] = {}
        self.exchange = Exchange()
        self.clients = Clients(self)
        self.schedulers = Schedulers(self)
        self.operators = Operators(self)
        self.ran: list[Ran] = []
        self.pools: dict[Process, Pool[SupervisorHandle]] = {}
        self.processes: list[Process] = []
        self.plans = Plans()
        self._looks_at = 0.0
        self._quiet_since: float | None = None

    @property
    def is_troubled(self) -> bool:
        """Whether faults still happen."""
        return self.loop.time() < self.faults.healed

    def note(self, text: str) -> None:
        """Tell what happened, for whoever reads it."""
        if self.notes is not None:
            self.notes.append((self.loop.time(), text))

    def process(self, kind: str) -> Process:
        """A new process, with its fate."""
        process = Process(f"{kind}-{len(self.processes) + 1}")
        self.processes.append(process)
        if self.is_troubled:
            self.faults.befall(process, kind, self.chance)
        return process

    def delay(self) -> float:
        """How long a message takes."""
        if self.is_troubled and self.chance.random() < self.faults.slow:
            return self.chance.uniform(0.0, 2.0)
        return self.chance.uniform(0.0, 0.02)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Have something happen by itself."""
        self.loop.call_later(seconds, work, context=Context())

    def end(self, process: Process) -> None:
        """Kill a process on purpose."""
        self.loop.kill(process)

    def send(self, topic: str) -> None:
        """Send a wake-up; it may be lost, repeated, and come late."""
        if self.is_troubled and self.chance.random() < self.faults.lost:
            return
        self.later(self.delay(), lambda: self.exchange.tell(topic))
        if self.is_troubled and self.chance.random() < self.faults.repeated:
            self.later(self.delay(), lambda: self.exchange.tell(topic))

    def run(self) -> None:
        """Run to the end: until everything that was accepted has ended, or the horizon."""
        for _ in range(max(self.chance.choice((1, 1, 2)), self.schedulers.limits.claimers)):
            self._start_dispatcher()
        self.clients.start()
        self.schedulers.start()
        self.operators.start()
        for _ in range(self.faults.crashes):
            seconds = self.chance.uniform(0.1, 4.0)
            self.later(self.chance.uniform(0.5, self.faults.healed), lambda away=seconds: self._crash(away))  # type: ignore[misc]
        self.later(self.faults.healed, self._heal)
        self.loop.run(self._is_over, HORIZON_SECONDS)

    def _start_dispatcher(self) -> None:
        process = self.process("dispatcher")
        process.on_death.append(lambda: self.later(0.5 + self.delay(), self._start_dispatcher))
        process.on_death.append(lambda: self._forget(process))
        self.note(f"{process.name} starts")
        self.loop.spawn(process, self._dispatch(process))

    def _forget(self, process: Process) -> None:
        """Its slots went with it."""
        self.pools.pop(process, None)

    async def _dispatch(self, process: Process) -> None:
        """What the actor of a dispatcher does."""

        async def make() -> SupervisorHandle:
            return await Remote.made(self, process)

        least, most, clock = self.settings.supervisors_min, self.settings.supervisors_max, self.loop.time
        pool: Pool[SupervisorHandle] = Pool(make, least=least, most=most, clock=clock)
        self.pools[process] = pool
        database, bus = self.parts.database(self.server, process), SimulatedBus(self)
        dispatcher = self.parts.dispatcher(self.settings, database, bus, pool, OtherWork(), clock=clock)
        dispatcher.name = process.name
        if self.is_troubled and self.chance.random() < self.faults.leaves:
            self.loop.spawn(process, self._leave(process, dispatcher))
        await self.keep(process, dispatcher.run)

    async def keep(self, process: Process, run: Callable[[], Awaitable[None]]) -> None:
        """Have something run, and again a second after it has ended or broken, as the runtime's process does."""
        while True:
            try:
                await run()
            except Exception as error:
                self.note(f"{process.name} broke: {error}")
            await self.loop.passes(1.0)

    async def _leave(self, process: Process, dispatcher: Dispatcher) -> None:
        """Stop in good order, as at the end of the runtime's process; another takes its place."""
        await self.loop.passes(self.chance.uniform(0.5, self.faults.healed))
        self.note(f"{process.name} leaves")
        dispatcher.close()
        await dispatcher.ended()
        self.pools[process].close()
        self.end(process)

    def _crash(self, seconds: float) -> None:
        self.note(f"the database dies, for {seconds:.1f} s")
        self.server.crash(seconds)

    def _heal(self) -> None:
        """No fault from here on; what waits to be killed or stopped lives."""
        self.note("nothing fails any more")
        weather = self.server.weather
        weather.serialization = weather.unknown = weather.stalls = 0.0
        for process in self.processes:
            process.dies_at = process.stops_at = None

    def _is_over(self) -> bool:
        """Whether all that was accepted has ended, and everybody had time to put things away."""
        if self.is_troubled or self.loop.time() < self._looks_at:
            return False
        self._looks_at = self.loop.time() + LOOKS_SECONDS
        executions = self.server.tables["pipeline_executions"].values()
        is_quiet = (
            self.clients.are_done
            and self.schedulers.are_done
            and self.operators.are_done
            and not any(process.is_stopped and not process.is_dead for process in self.processes)
            and all(row["state"] in ("completed", "failed", "cancelled") for row in executions)
        )
        if not is_quiet:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = self.loop.time()
        return self._quiet_since is not None and self.loop.time() >= self._quiet_since + AFTERWARDS_SECONDS


class Quiet:
    """While this lasts nothing is logged, and no garbage is collected: both would only take time."""

    def __enter__(self) -> None:
        self._was_collecting = gc.isenabled()
        self._before = logging.root.manager.disable
        gc.disable()
        logging.disable()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.disable(self._before)
        if self._was_collecting:
            gc.enable()
