"""Kills what works: step workers at any moment and between effect and commit, and supervisors."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, delays, verdict
from tests.chaos.load import Load, pause
from tests.chaos.world import World, now
from tests.kit.gated_api import process_at

PUBLISHING: Final = (b"'published'", b"COMMIT")
"""What a load sends last: its ledger's row, and the end of the transaction that holds its rows."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a scenario is played."""

    runs: int
    at_once: int
    pauses: tuple[float, float]
    kills: int


@asynccontextmanager
async def meanwhile(work: Awaitable[None]) -> AsyncIterator[None]:
    """Have something go on until the block ends; what fails in it fails the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def kill_now_and_then(victims: Callable[[], list[psutil.Process]], size: Size, killed: list[datetime]) -> None:
    """Kill one of the victims there are, at random, until there have been enough."""
    while len(killed) < size.kills:
        await pause(random.uniform(*size.pauses))
        found = await asyncio.to_thread(victims)
        if found:
            with suppress(psutil.NoSuchProcess):
                random.choice(found).kill()
                killed.append(now())


async def kill_at_commit(world: World, killed: list[datetime], pauses: tuple[float, float]) -> None:
    """Kill a worker that has sent its load's COMMIT and not heard of it, again and again."""
    while True:
        link = await world.data.trap(*PUBLISHING)
        worker = await asyncio.to_thread(process_at, link.port)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(worker).send_signal(signal.SIGKILL)
            killed.append(now())
        link.reset()
        await pause(random.uniform(*pauses))


async def workers(world: World, size: Size) -> list[Figure]:
    """kill -9 of step workers, some between effect and commit."""
    fault, load = "kill -9 of workers", await Load.made(world, "workers")
    anywhere, at_commit = list[datetime](), list[datetime]()

    def victims() -> list[psutil.Process]:
        return [process for process, _ in world.workers()]

    async with (
        meanwhile(kill_now_and_then(victims, size, anywhere)),
        meanwhile(kill_at_commit(world, at_commit, size.pauses)),
    ):
        await load.run(size.runs, size.at_once)
    assert await verdict(load) == []
    history = await History.of(world, list(load.accepted.values()))
    lost, kills = history.lost_workers(), [*anywhere, *at_commit]
    noticed = delays(kills, [at for at, _ in lost], timedelta(seconds=60))
    again = [(after - at).total_seconds() for at, after in lost if after is not None]
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "kills, of them between effect and commit:", f"{len(kills)}, {len(at_commit)}"),
        Figure(fault, "noticed", spread(noticed), "<= 2 s at p95"),
        Figure(fault, "running again after it was noticed", spread(again), "<= 5 s at p95 after the kill"),
    ]


async def supervisors(world: World, size: Size) -> list[Figure]:
    """kill -9 of supervisors that supervise."""
    fault, load = "kill -9 of supervisors", await Load.made(world, "supervisors")
    killed = list[datetime]()

    def victims() -> list[psutil.Process]:
        return world.supervisors(busy=True)

    async with meanwhile(kill_now_and_then(victims, size, killed)):
        await load.run(size.runs, size.at_once)
    assert await verdict(load) == []
    history = await History.of(world, list(load.accepted.values()))
    resumed = delays(killed, history.takeovers(), timedelta(seconds=60))
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "kills:", str(len(killed))),
        Figure(fault, "resumed", spread(resumed), "<= 5 s at p95"),
        Figure(fault, "finished steps run again:", str(history.steps_run_again()), "0"),
    ]
