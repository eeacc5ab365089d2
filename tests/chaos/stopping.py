"""Stops what works without killing it, until others have taken over, and lets it go on as a zombie."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime

import psutil

from tests.chaos.figures import Figure, spread
from tests.chaos.judge import History, require
from tests.chaos.killing import PUBLISHING, Size, meanwhile
from tests.chaos.load import Load, ended
from tests.chaos.world import World, now
from tests.kit.eventually import eventually
from tests.kit.gated_api import process_at

TAKE_OVER_SECONDS = 120.0


@asynccontextmanager
async def within(because: str) -> AsyncIterator[None]:
    """Wait no longer than a take-over may take; AssertionError says for what."""
    try:
        async with asyncio.timeout(TAKE_OVER_SECONDS):
            yield
    except TimeoutError:
        raise AssertionError(f"not within {TAKE_OVER_SECONDS:g} s: {because}") from None


def signalled(processes: Sequence[psutil.Process], how: signal.Signals) -> None:
    """Send a signal to each that is still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)


async def zombies(world: World, size: Size) -> list[Figure]:
    """A supervisor and its worker, stopped in mid-load past the lease; once another has taken over they go on."""
    fault, load = "SIGSTOP of supervisor and worker", await Load.made(world, "zombies")
    taken, ends = list[float](), list[float]()
    async with world.client() as client:
        for number in range(size.kills):
            caught = world.data.trap(*PUBLISHING, delivers=False)
            run = await load.submit(client, number)
            async with within("the load publishes"):
                link = await caught
            worker = psutil.Process(await asyncio.to_thread(process_at, link.port))
            stopped = [worker, *await asyncio.to_thread(lambda: world.supervisors(busy=True))]
            signalled(stopped, signal.SIGSTOP)
            began = now()
            try:
                taken.append((await taken_over(world, load, began) - began).total_seconds())
                async with within("the run ends"):
                    await ended(client, run)
                ends.append((now() - began).total_seconds())
            finally:
                link.release()
                signalled(stopped, signal.SIGCONT)
    await require(load)
    return [
        Figure(fault, "stopped in mid-load, none lost, none doubled:", str(size.kills)),
        Figure(fault, f"taken over, of it {world.lease_seconds:g} s of lease", spread(taken), "<= 20 s"),
        Figure(fault, "ended", spread(ends)),
    ]


async def taken_over(world: World, load: Load, since: datetime) -> datetime:
    """Wait until another supervisor has begun a run again; when that was."""

    async def look() -> datetime | None:
        history = await History.of(world, list(load.accepted.values()))
        return next((at for at in history.takeovers() if at >= since), None)

    return await eventually(look, within=TAKE_OVER_SECONDS, because="another supervisor takes over")


async def sleepers(world: World, size: Size) -> list[Figure]:
    """Supervisors alone, stopped while they work and let go on after a lease and a half; runs go on beside them."""
    fault, load = "SIGSTOP of supervisors, then SIGCONT", await Load.made(world, "sleepers")
    stops = list[datetime]()

    async def stop_now_and_then() -> None:
        never = asyncio.Event()
        while len(stops) < size.kills:
            found = await asyncio.to_thread(lambda: world.supervisors(busy=True))
            stops.extend(now() for _ in found[:1])
            signalled(found[:1], signal.SIGSTOP)
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.5 * world.lease_seconds if found else 0.2):
                        await never.wait()
            finally:
                signalled(found[:1], signal.SIGCONT)

    async with meanwhile(stop_now_and_then()):
        await load.run_until(lambda: len(stops) >= size.kills, size.runs, size.at_once)
    await require(load)
    history = await History.of(world, list(load.accepted.values()))
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "stops, taken over:", f"{len(stops)}, {len(history.takeovers())}"),
    ]
