"""Kills what works: step workers at any moment and between effect and commit, and supervisors."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, Loss, paired, require
from tests.chaos.load import Load, pause
from tests.chaos.world import World, now, task_of
from tests.kit.gated_api import process_at

PUBLISHING: Final = (b"wedsync:", b"COMMIT")
"""What a load sends: the mark of its run with BEGIN, and the end of the transaction that holds rows and ledger."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a scenario is played."""

    runs: int
    at_once: int
    pauses: tuple[float, float]
    kills: int


Kill: TypeAlias = tuple[str, datetime]
"""The task of a process that was killed, and when."""

Scenario: TypeAlias = Callable[[World, Size], Awaitable[list[Figure]]]


@asynccontextmanager
async def meanwhile(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Have something go on until the block ends; what fails in it fails the block at once."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def kill_now_and_then(
    victims: Callable[[], list[psutil.Process]], size: Size, killed: list[Kill], *, idle: bool = False
) -> None:
    """Kill one of the victims there are, at random, until there have been enough; `idle` ones too, that run no task."""
    while len(killed) < size.kills:
        await pause(random.uniform(*size.pauses))
        found = await asyncio.to_thread(victims)
        if found:
            with suppress(psutil.NoSuchProcess):
                process = random.choice(found)
                # To look at all of them takes a while, in which this one may have begun another.
                task = task_of(" ".join(process.cmdline()))
                if task or idle:
                    killed.append((task, now()))
                    process.kill()


async def kill_at_commit(world: World, size: Size, killed: list[Kill]) -> None:
    """Kill a worker that has sent its load's COMMIT and not heard of it, until there have been enough."""
    while len(killed) < size.kills:
        link = await world.data.trap(*PUBLISHING)
        # Whoever kills at any moment may have been quicker.
        with suppress(psutil.NoSuchProcess, IndexError):
            process = psutil.Process(await asyncio.to_thread(process_at, link.port))
            killed.append((task_of(" ".join(process.cmdline())), now()))
            process.kill()
        link.reset()
        await pause(random.uniform(*size.pauses))


async def workers(world: World, size: Size) -> list[Figure]:
    """kill -9 of step workers, some between effect and commit."""
    fault, load = "kill -9 of workers", await Load.made(world, "workers")
    anywhere, at_commit = list[Kill](), list[Kill]()
    async with (
        meanwhile(kill_now_and_then(world.workers, size, anywhere)),
        meanwhile(kill_at_commit(world, size, at_commit)),
    ):
        enough = lambda: len(anywhere) + len(at_commit) >= size.kills  # noqa: E731
        await load.run_until(enough, size.runs, size.at_once)
    await require(load)
    history = await History.of(world, list(load.accepted.values()))
    lost, kills = history.lost_workers(), [*anywhere, *at_commit]
    told = list[tuple[datetime, Loss]]()
    for step in {loss.step for loss in lost}:
        causes, losses = [at for task, at in kills if task == step], [loss for loss in lost if loss.step == step]
        told += paired(causes, losses, lambda loss: (loss.begun, loss.noticed))
    noticed = [_seconds(loss.noticed, at) for at, loss in told]
    again = [_seconds(loss.again, at) for at, loss in told if loss.again is not None]
    running = [_seconds(loss.running, at) for at, loss in told if loss.running is not None]
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "kills, of them between effect and commit:", f"{len(kills)}, {len(at_commit)}"),
        Figure(fault, "noticed", spread(noticed), "<= 2 s at p95"),
        Figure(fault, "given out again", spread(again)),
        Figure(fault, "running again, where the next worker lived", spread(running), "<= 5 s at p95"),
    ]


async def supervisors(world: World, size: Size) -> list[Figure]:
    """kill -9 of supervisors that supervise."""
    fault, load = "kill -9 of supervisors", await Load.made(world, "supervisors")
    killed = list[Kill]()

    async with meanwhile(kill_now_and_then(lambda: world.supervisors(busy=True), size, killed, idle=True)):
        await load.run_until(lambda: len(killed) >= size.kills, size.runs, size.at_once)
    await require(load)
    history = await History.of(world, list(load.accepted.values()))
    told = paired([at for _, at in killed], history.silences(), lambda silence: silence)
    resumed = [_seconds(taken, at) for at, (_, taken) in told]
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "kills:", str(len(killed))),
        Figure(fault, "resumed", spread(resumed), "<= 5 s at p95"),
        Figure(fault, "finished steps run again:", str(history.steps_run_again()), "0"),
    ]


def _seconds(later: datetime, earlier: datetime) -> float:
    return (later - earlier).total_seconds()
