"""Fills disks: a destination's beside runs that should not notice, then that on which everything lies."""

import asyncio
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from api.client import Client
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind
from tests.chaos.disks import SHELF, mounted
from tests.chaos.figures import Figure, spread
from tests.chaos.greed import beside, ending
from tests.chaos.judge import landed, refuse, require, unended
from tests.chaos.killing import Size, meanwhile
from tests.chaos.load import Load, ended, load, pause, step
from tests.chaos.world import World
from tests.kit.eventually import eventually

WIDE: Final = "SELECT n AS id, repeat('x', 1000) AS text FROM generate_series(1, 40000) AS n"
"""Forty MB, which the shelf has no room for until it is made larger."""
PIECE: Final = b"\0" * 65_536
MENDED_MB: Final = 512
NOTICED_SECONDS: Final = 120.0


def wide(name: str, place: str) -> JsonObject:
    """A read of more than the shelf holds, and its load to it."""
    read = step("read", "extract", {"source_id": f"{place}-in", "query": WIDE})
    return {
        "pipeline_name": name,
        "pipeline_type": "etl",
        "steps": [read, load("keep", f"{name}-shelf", "wide", "read")],
    }


async def disk(world: World, size: Size) -> list[Figure]:
    """Both, one after the other."""
    return [*await _shelf(world, size), *await _all(world, size)]


async def _shelf(world: World, size: Size) -> list[Figure]:
    """The same runs twice, alone and beside loads that fill their destination's disk; then it is made larger."""
    fault, others = "a destination's disk that is full", await Load.made(world, "shelf")
    name = f"{others.name}_wide"
    async with world.client() as client:
        shelf: JsonObject = {"root": str(world.folder / SHELF)}
        place: JsonObject = {"destination_name": f"{name}-shelf", "kind": "csv", "connection_config": shelf}
        await client.save(Entry(EntryKind.DESTINATION, place))
        await client.save(Entry(EntryKind.PIPELINE, wide(name, others.name)))
        share, failed = await beside(others, size, name, "disk_full")
        await asyncio.to_thread(mounted, world.folder / SHELF, MENDED_MB, again=True)
        again = await client.retries.retry(failed[-1])
        await ended(client, again.id)
        mended = await client.execution(again.id)
    refuse([f"after there was room it ended as {ending(mended)}"] * (mended.state is not ExecutionState.COMPLETED))
    await require(others)
    return [
        Figure(fault, "failures, each typed `disk_full`:", str(len(failed))),
        Figure(fault, "throughput of others:", f"{share:.0%}", ">= 90 %"),
        Figure(fault, "rows of the retry, once there was room:", f"{mended.records_inserted:,}", "40,000"),
    ]


async def _all(world: World, size: Size) -> list[Figure]:
    """Under load the disk of the home, of PostgreSQL and of the logs is filled to the last byte, and freed."""
    fault, runs = "the disk of everything, full", await Load.made(world, "disk")
    freed = list[float]()
    typed = Counter[str]()

    async def fill_until_noticed(ballast: Path) -> None:
        """What PostgreSQL frees meanwhile is filled, too. Its log lies on the disk and tells nothing then."""

        async def is_noticed() -> bool:
            await asyncio.to_thread(_fill, ballast)
            try:
                await world.rows("CREATE TEMP TABLE more AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
            except asyncpg.DiskFullError:
                return True
            return False

        await eventually(is_noticed, within=NOTICED_SECONDS, because="PostgreSQL has no room for what it is to write")

    async def fill_now_and_then() -> None:
        while len(freed) < size.kills:
            await pause(random.uniform(*size.pauses))
            ballast = world.folder / "ballast"
            await fill_until_noticed(ballast)
            await pause(random.uniform(*size.pauses))
            await asyncio.to_thread(ballast.unlink)
            began = time.monotonic()
            await world.start_postgres()
            done = await _completed(runs)
            while await _completed(runs) <= done and await runs.unfinished():
                await pause(0.1)
            freed.append(time.monotonic() - began)

    async with meanwhile(fill_now_and_then()), world.client() as client:
        await runs.run_until(lambda: len(freed) >= size.kills, size.runs, size.at_once)
        for run in set(runs.accepted.values()):
            typed[await _in_the_end(client, run)] += 1
    refuse([f"{count} ended as {one}" for one, count in typed.items() if one not in ("completed", "disk_full")])
    refuse([*await unended(runs), *await landed(runs)])
    return [
        Figure(fault, "runs, each landed once:", f"{typed.total()}, {typed['disk_full']} of them by a retry"),
        Figure(fault, "times that PostgreSQL had no room for a write:", str(len(freed))),
        Figure(fault, "a run completed after there was room", spread(freed)),
    ]


async def _in_the_end(client: Client, run: UUID) -> str:
    """How a run ended; one that did not complete is retried until it has."""
    first = ending(await client.execution(run))
    execution = await client.execution(run)
    while execution.state is not ExecutionState.COMPLETED:
        execution = await client.retries.retry(execution.id)
        await ended(client, execution.id)
        execution = await client.execution(execution.id)
    return first


async def _completed(runs: Load) -> int:
    (row,) = await runs.world.rows(
        "SELECT count(*) AS done FROM pipeline_executions WHERE id = ANY($1) AND state = 'completed'",
        list(runs.accepted.values()),
    )
    return int(row["done"])


def _fill(ballast: Path) -> None:
    """Write until there is no room for another byte."""
    piece = PIECE
    with ballast.open("ab", buffering=0) as out:
        while piece:
            try:
                out.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
    os.sync()
