"""Kills parts of Ray and the runtime's own process; whoever started the runtime starts it again."""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, require
from tests.chaos.killing import Size, meanwhile
from tests.chaos.load import Load, pause
from tests.chaos.world import SUPERVISOR, World, now, task_of
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


async def node(world: World, size: Size) -> list[Figure]:
    """kill -9 of a node of a cluster, with all that runs there; another joins in its place."""
    fault, load = "kill -9 of a Ray node of three", await Load.made(world, "node")
    kills = list[datetime]()
    lost = 0

    async def fullest() -> psutil.Process | None:
        """The node besides the head where most supervisors supervise now, or where a step runs at least."""
        busy = {one: await asyncio.to_thread(_busy, one) for one in world.cluster.nodes[1:]}
        found = max(busy, key=lambda one: busy[one])
        return found if any(busy[found]) else None

    async def kill_now_and_then() -> None:
        nonlocal lost
        while len(kills) < size.kills:
            await pause(random.uniform(*size.pauses))
            victim = await eventually(fullest, within=AGAIN_SECONDS, because="a node works")
            supervisors, _ = await asyncio.to_thread(_busy, victim)
            lost += supervisors
            kills.append(now())
            await asyncio.to_thread(world.cluster.kill, victim)
            await world.cluster.add()

    async with meanwhile(kill_now_and_then()):
        await load.run_until(lambda: len(kills) >= size.kills, size.runs, size.at_once)
    await require(load)
    history = await _history(load)

    def since(moments: Iterable[datetime]) -> str:
        return spread([(at - max(k for k in kills if k <= at)).total_seconds() for at in moments if at > kills[0]])

    again = [loss.again for loss in history.lost_workers() if loss.again is not None]
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "kills, of supervisors at work:", f"{len(kills)}, {lost}"),
        Figure(fault, "runs taken over", since(history.takeovers()), "<= 30 s"),
        Figure(fault, "steps begun again by their supervisors elsewhere", since(again), "<= 30 s"),
        Figure(fault, "finished steps run again:", str(history.steps_run_again())),
    ]


def _busy(node: psutil.Process) -> tuple[int, int]:
    """How many supervisors supervise on a node now, and how many steps run there."""
    titles = list[str]()
    for process in node.children(recursive=True):
        with suppress(psutil.Error):
            titles.append(" ".join(process.cmdline()))
    return sum(f"{SUPERVISOR}.run" in title for title in titles), sum(bool(task_of(title)) for title in titles)


async def dispatcher(world: World, size: Size) -> list[Figure]:
    """kill -9 of the dispatcher."""
    return await _killed(world, size, "the dispatcher", world.dispatcher)
