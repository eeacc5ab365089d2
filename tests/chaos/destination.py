"""Takes the destination away in mid-load: gone, slow, reset, or silent after its COMMIT was sent."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle

from tests.chaos.figures import Figure
from tests.chaos.judge import require
from tests.chaos.killing import PUBLISHING, Size, meanwhile
from tests.chaos.load import Load, pause
from tests.chaos.world import World
from tests.kit.faults import Weather


async def gone(world: World) -> None:
    """Refuse connections for a moment."""
    await world.data.away()
    await pause(random.uniform(0.5, 2.0))
    await world.data.start()


async def slow(world: World) -> None:
    """Be slow for a moment."""
    world.data.weather = Weather(latency=0.05, jitter=0.1, sent_per_second=20_000, received_per_second=20_000)
    await pause(2.0)
    world.data.heal()


async def reset(world: World) -> None:
    """Reset every link."""
    world.data.reset()


async def commit_unknown(world: World) -> None:
    """Commit, and reset the link before the client hears of it."""
    (await world.data.trap(*PUBLISHING)).reset()


async def commit_refused(world: World) -> None:
    """Reset the link before the commit gets through."""
    (await world.data.trap(*PUBLISHING, delivers=False)).reset()


TROUBLES: tuple[Callable[[World], Awaitable[None]], ...] = (commit_unknown, reset, gone, commit_refused, slow)


async def destination(world: World, size: Size) -> list[Figure]:
    """Every trouble in turn, under load."""
    fault, load, had = "destination in trouble", await Load.made(world, "destination"), Counter[str]()

    async def trouble() -> None:
        for one in cycle(TROUBLES):
            await pause(random.uniform(*size.pauses) / 2)
            await one(world)
            had[one.__name__] += 1

    try:
        async with meanwhile(trouble()):
            await load.run_until(lambda: had.total() >= size.kills, size.runs, size.at_once)
    finally:
        world.data.heal()
        await world.data.away()
        await world.data.start()
    await asyncio.sleep(0)
    await require(load)
    return [
        Figure(fault, "runs, each retried until it landed once:", str(len(load.accepted))),
        Figure(fault, "troubles:", ", ".join(f"{count} x {name}" for name, count in had.items())),
    ]
