"""Kills parts of Ray and the runtime's own process; whoever started the runtime starts it again."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, require
from tests.chaos.killing import Size
from tests.chaos.load import Load
from tests.chaos.world import World, now
from tests.kit.eventually import eventually

AGAIN_SECONDS = 180.0
SETTLING = timedelta(seconds=1)
"""What begins within this of a kill was handed out before it."""


async def _killed(world: World, size: Size, name: str, victim: Callable[[], psutil.Process]) -> list[Figure]:
    fault, load = f"kill -9 of {name}", await Load.made(world, "ray")
    took = list[float]()

    async def kill_once() -> None:
        async def work() -> bool:
            return len((await _history(load)).begun()) >= size.at_once

        await eventually(work, within=AGAIN_SECONDS, because="runs have begun")
        killed = now()
        victim().kill()

        async def again() -> datetime | None:
            return next((at for at in (await _history(load)).begun() if at > killed + SETTLING), None)

        took.append((await eventually(again, within=AGAIN_SECONDS, because="runs begin") - killed).total_seconds())

    await asyncio.gather(kill_once(), load.run(size.runs, size.at_once))
    await require(load)
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "runs begin again", spread(took), "<= 60 s"),
    ]


async def _history(load: Load) -> History:
    return await History.of(load.world, list(load.accepted.values()))


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
