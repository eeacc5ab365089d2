"""Takes the servers away: PostgreSQL stopped in three ways, Valkey emptied or gone, the API killed."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from itertools import cycle
from time import monotonic
from typing import Final
from uuid import UUID

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.errors import DomainError
from tests.chaos.figures import Figure, spread
from tests.chaos.judge import refuse, require
from tests.chaos.killing import Size, meanwhile
from tests.chaos.load import Load, pause
from tests.chaos.world import World, now

WAYS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
FOLLOW_SECONDS: Final = 180.0
READY_SECONDS: Final = 60.0

_FIRST: Final = """
    SELECT min(recorded_at) AS at FROM execution_events WHERE recorded_at >= $1
"""


async def postgres(world: World, size: Size) -> list[Figure]:
    """PostgreSQL stopped fast, immediately and by kill -9, in turn, under load; it holds the destination, too."""
    fault, load = "PostgreSQL stopped", await Load.made(world, "postgres")
    back = list[datetime]()

    async def stop_now_and_then() -> None:
        for how in cycle(WAYS):
            if len(back) == size.kills:
                return
            await pause(random.uniform(*size.pauses))
            await world.stop_postgres(how)
            await pause(random.uniform(0.0, 1.0))
            back.append(await world.start_postgres())

    async with meanwhile(stop_now_and_then()):
        await load.run_until(lambda: len(back) >= size.kills, size.runs, size.at_once)
    await world.start_postgres()
    await require(load)
    firsts = [row["at"] for at in back for row in await world.rows(_FIRST, at)]
    waits = [(first - at).total_seconds() for at, first in zip(back, firsts, strict=True) if first is not None]
    return [
        Figure(fault, "runs, all acknowledged ones completed once:", str(len(load.accepted))),
        Figure(fault, "stops:", str(len(back))),
        Figure(fault, "first event after it was back", spread(waits), "<= 3 s"),
    ]


async def valkey(world: World, size: Size) -> list[Figure]:
    """Valkey emptied again and again, and away for a while, under load and subscribers."""
    fault, load = "Valkey emptied, and away", await Load.made(world, "valkey")

    away = list[float]()

    async def trouble() -> None:
        while True:
            await pause(random.uniform(*size.pauses))
            await _emptied(world)
            await world.wakeups.away()
            seconds = 2 * random.uniform(*size.pauses)
            await pause(seconds)
            await world.wakeups.start()
            away.append(seconds)

    subscribers = 0
    try:
        async with meanwhile(trouble()):
            while not subscribers or len(away) < size.kills:
                await _followed(load, size)
                subscribers += size.runs * size.at_once
    finally:
        await world.wakeups.away()
        await world.wakeups.start()
    await require(load)
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "subscribers, no event missed or repeated:", str(subscribers)),
        Figure(fault, "times emptied and away:", f"{len(away)}, {max(away, default=0):.0f} s at most"),
    ]


async def _emptied(world: World) -> None:
    cache = Redis.from_url(world.valkey.url)
    with suppress(RedisError, OSError):
        await cache.flushall()
        await cache.aclose()


async def _followed(load: Load, size: Size) -> None:
    """Submit runs and follow each from several subscribers to its end; AssertionError for missed or repeated events."""
    async with load.world.client() as client:
        first = len(load.accepted)
        runs = [await load.submit(client, first + number) for number in range(size.runs)]
        heard = await asyncio.gather(*(follow(load.world, run) for run in runs for _ in range(size.at_once)))
    last = {row["id"]: row["last_event_seq"] for row in await load.world.rows(_LAST, runs)}
    followers = [run for run in runs for _ in range(size.at_once)]
    told = [(run, faults_of(seqs, last[run])) for run, seqs in zip(followers, heard, strict=True)]
    refuse([f"a subscriber to {run} missed or heard again {faults} events" for run, faults in told if faults])


_LAST: Final = "SELECT id, last_event_seq FROM pipeline_executions WHERE id = ANY($1)"


def faults_of(heard: Sequence[int], last: int) -> int:
    """How many events of 1 to `last` are missing, and how many came twice or out of order."""
    counts = Counter(heard)
    return sum(abs(counts[seq] - 1) for seq in range(1, last + 1)) + (list(heard) != sorted(heard))


async def follow(world: World, run: UUID) -> list[int]:
    """The `seq` of every event of a run, from the first to its end; the client reconnects from its cursor by itself."""
    heard, cursor = list[int](), None
    async with asyncio.timeout(FOLLOW_SECONDS), world.client() as client:
        while True:
            try:
                async for event in client.events(run, after=cursor):
                    heard.append(event.seq)
                    cursor = event.cursor
                return heard
            except DomainError:
                await pause(0.2)


async def api(world: World, size: Size) -> list[Figure]:
    """kill -9 of the API under subscribers, while the same keys are submitted again and again."""
    fault, load = "kill -9 of the API", await Load.made(world, "api")
    ready = list[float]()

    async def kill_now_and_then() -> None:
        while len(ready) < size.kills:
            await pause(random.uniform(*size.pauses))
            world.api().kill()
            ready.append(await _readiness(world))

    async with meanwhile(kill_now_and_then()):
        while len(ready) < size.kills:
            await _followed(load, size)
        accepted = dict(load.accepted)
        async with world.client() as client:
            again = {number: await load.submit(client, number) for number in accepted}
    assert again == accepted, "a key that was given again made another run"
    await require(load)
    return [
        Figure(fault, "subscribers, no event missed or repeated:", str(size.runs * size.at_once)),
        Figure(fault, "ready again", spread(ready), "<= 3 s"),
        Figure(fault, "mutations repeated with the same key made runs:", "1 each", "1 each"),
    ]


async def _readiness(world: World) -> float:
    """Seconds from now until the API answers that it is ready."""
    began = monotonic()
    async with httpx.AsyncClient(base_url=world.stack.addresses.api_url, timeout=2.0, trust_env=False) as http:
        while monotonic() - began < READY_SECONDS:
            with suppress(httpx.HTTPError):
                if (await http.get("/readyz")).status_code == httpx.codes.OK:
                    break
            await pause(0.05)
    return monotonic() - began


async def half_open(world: World, size: Size) -> list[Figure]:
    """The links to the metadata database take bytes and say nothing for longer than a lease; then they are reset."""
    fault, load = "half-open links to PostgreSQL", await Load.made(world, "half_open")
    healed = list[datetime]()

    async def trouble() -> None:
        while len(healed) < size.kills:
            await pause(random.uniform(*size.pauses))
            world.metadata.half_open()
            await pause(1.5 * world.lease_seconds)
            world.metadata.reset()
            world.metadata.heal()
            healed.append(now())

    try:
        async with meanwhile(trouble()):
            await load.run_until(lambda: len(healed) >= size.kills, size.runs, size.at_once)
    finally:
        world.metadata.heal()
    await require(load)
    return [
        Figure(fault, "runs, none lost, none doubled:", str(len(load.accepted))),
        Figure(fault, "times:", str(len(healed))),
    ]
