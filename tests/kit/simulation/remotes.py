"""A supervisor in a process of its own, as a dispatcher's pool holds it: calls go by messages, and may be lost."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from runtime.cluster.actors import SupervisorHost
from runtime.cluster.dispatcher import SupervisorHandle, SupervisorLost
from runtime.queue.store import Claim
from tests.kit.simulation.bus import SimulatedBus
from tests.kit.simulation.executor import SimulatedExecutor, SimulatedShelf
from tests.kit.simulation.loop import Process

if TYPE_CHECKING:
    from tests.kit.simulation.world import World

Work: TypeAlias = Callable[[], Coroutine[None, None, None]]


class Remote(SupervisorHandle):
    """One supervisor. It dies a moment after the dispatcher that made it."""

    def __init__(self, world: "World", owner: Process) -> None:
        self.world = world
        self.process = process = world.process("supervisor")
        self.host: SupervisorHost = world.parts.host(
            world.settings,
            world.parts.database(world.server, process),
            SimulatedBus(world),
            SimulatedExecutor(world, process),
            world.plans,
            lambda: world.server.now,
        )
        self.host.shelves = partial(SimulatedShelf, world)
        owner.on_death.append(lambda: world.later(world.delay(), self._die))

    @classmethod
    async def made(cls, world: "World", owner: Process) -> SupervisorHandle:
        """A new supervisor, ready."""
        await world.loop.passes(0.1 + world.delay())
        remote = cls(world, owner)
        await remote._called(remote.host.ready)
        return remote

    async def run(self, claim: Claim) -> None:
        """Supervise one execution; raises `SupervisorLost` when it died, or, now and then, when it only seems so."""
        world = self.world
        world.note(f"{self.process.name} is given {str(claim.subject)[:8]} as generation {claim.generation}")
        await self._called(lambda: self.host.run(claim))

    async def lives(self) -> None:
        """Wait until it has died, and that is heard of."""
        died: asyncio.Future[None] = self.world.loop.create_future()

        def tell() -> None:
            self.world.later(self.world.delay(), lambda: None if died.done() else died.set_result(None))

        if self.process.is_dead:
            tell()
        else:
            self.process.on_death.append(tell)
        await died

    def end(self) -> None:
        """Have it killed; one that is cut off does not hear of it, and goes on."""
        if self.world.chance.random() < 0.5:
            self.world.later(self.world.delay(), self._die)

    def _die(self) -> None:
        self.world.end(self.process)

    async def _called(self, work: Work) -> None:
        world = self.world
        answer: asyncio.Future[None] = world.loop.create_future()
        if self.process.is_dead:
            world.later(world.delay(), lambda: _lost(answer))
        self.process.on_death.append(lambda: world.later(world.delay(), lambda: _lost(answer)))
        if world.is_troubled and world.chance.random() < world.faults.loss_reports:
            world.later(world.chance.uniform(0.0, 3.0), lambda: _lost(answer))
        world.later(world.delay(), lambda: self._deliver(work, answer))
        await answer

    def _deliver(self, work: Work, answer: "asyncio.Future[None]") -> None:
        if not self.process.is_dead:
            self.world.loop.spawn(self.process, self._answered(work, answer))

    async def _answered(self, work: Work, answer: "asyncio.Future[None]") -> None:
        try:
            await work()
        except Exception as error:
            self.world.note(f"{self.process.name} broke: {error}")
            await self.world.loop.passes(self.world.delay())
            if not answer.done():
                answer.set_exception(error)
            return
        await self.world.loop.passes(self.world.delay())
        if not answer.done():
            answer.set_result(None)


def _lost(answer: "asyncio.Future[None]") -> None:
    if not answer.done():
        answer.set_exception(SupervisorLost("the supervisor died"))
