"""Kills parts of Ray and the runtime's own process; whoever started the runtime starts it again."""

from collections.abc import Callable

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, verdict
from tests.chaos.killing import Size, meanwhile
from tests.chaos.load import Load, pause
from tests.chaos.world import World, now
from tests.kit.eventually import eventually


async def _killed(world: World, size: Size, name: str, victim: Callable[[], psutil.Process]) -> list[Figure]:
    fault, load = f"kill -9 of {name}", await Load.made(world, "ray")
    took = list[float]()

    async def kill_once() -> None:
        await pause(size.pauses[1])
        began, before = now(), len(await _takeovers(load))
        victim().kill()

        async def is_back() -> bool:
            return len(await _takeovers(load)) > before

        await eventually(is_back, within=180, because="runs are begun again")
        took.append((now() - began).total_seconds())

    async with meanwhile(kill_once()):
        await load.run(size.runs, size.at_once)
    assert await verdict(load) == []
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "runs begun again", spread(took), "<= 60 s"),
    ]


async def _takeovers(load: Load) -> list[object]:
    history = await History.of(load.world, list(load.accepted.values()))
    return list(history.takeovers())


async def runtime(world: World, size: Size) -> list[Figure]:
    """kill -9 of the process that starts Ray, and all of Ray with it."""
    return await _killed(world, size, "the runtime", world.runtime)


async def raylet(world: World, size: Size) -> list[Figure]:
    """kill -9 of the node's raylet."""
    return await _killed(world, size, "Ray's node", lambda: world.part("raylet"))


async def head(world: World, size: Size) -> list[Figure]:
    """kill -9 of the head's store of the cluster's state."""
    return await _killed(world, size, "Ray's head", lambda: world.part("gcs_server"))


async def dispatcher(world: World, size: Size) -> list[Figure]:
    """kill -9 of the dispatcher."""
    return await _killed(world, size, "the dispatcher", world.dispatcher)
