"""Lets a step outgrow its memory again and again, beside runs that should not notice."""

import time
from contextlib import suppress
from typing import Final
from uuid import UUID

from api.client.values import Execution
from models.errors import DomainError
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind
from tests.chaos.figures import Figure
from tests.chaos.judge import refuse, require
from tests.chaos.killing import Size, meanwhile
from tests.chaos.load import Load, ended, load, pause, step
from tests.chaos.world import World

LIMIT_MB: Final = 256
WIDE: Final = "SELECT n AS id, repeat('x', 100000) AS text FROM generate_series(1, 20000) AS n"
"""Two GB, of which the first eighth is too much."""


def greedy(name: str, place: str) -> JsonObject:
    """A read that takes more memory than its step may have, and a load that never gets to see it."""
    read = step("read", "extract", {"source_id": f"{place}-in", "query": WIDE})
    steps = [read | {"resources": {"memory_mb": LIMIT_MB}}, load("keep", f"{place}-out", name, "read")]
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": list(steps)}


async def memory(world: World, size: Size) -> list[Figure]:
    """The same runs twice, alone and beside executions that outgrow their memory one after the other."""
    fault, others = "a step that outgrows its memory", await Load.made(world, "memory")
    name = f"{others.name}_greedy"
    async with world.client() as client:
        await client.save(Entry(EntryKind.PIPELINE, greedy(name, others.name)))
    share, endings = await beside(others, size, name, "memory_limit")
    await require(others)
    return [
        Figure(fault, "failures, each typed `memory_limit`:", str(len(endings))),
        Figure(fault, "throughput of others:", f"{share:.0%}", ">= 90 %"),
    ]


async def beside(others: Load, size: Size, troublesome: str, wanted: str) -> tuple[float, list[UUID]]:
    """The throughput of runs beside executions of another pipeline, as a share of that alone; and what those were.

    AssertionError unless there were some, and each ended as wanted.
    """
    endings = dict[UUID, str]()

    async def trouble() -> None:
        async with others.world.client() as client:
            while True:
                with suppress(DomainError):
                    run = await client.execute(troublesome, {})
                    await ended(client, run.id)
                    endings[run.id] = ending(await client.execution(run.id))
                await pause(size.pauses[0])

    await others.run(size.at_once, size.at_once)
    alone = await _took(others, size)
    async with meanwhile(trouble()):
        with_them = await _took(others, size)
    refuse([f"{run} ended as {how}" for run, how in endings.items() if how != wanted])
    refuse([f"nothing ended as {wanted}"] * (not endings))
    return alone / with_them, [*endings]


def ending(run: Execution) -> str:
    """How a run ended: the type of its error, or its state."""
    if run.state is ExecutionState.FAILED and run.error_details is not None:
        return str(run.error_details.error_type)
    return run.state.value


async def _took(others: Load, size: Size) -> float:
    """Seconds for so many runs."""
    began = time.monotonic()
    await others.run(size.runs, size.at_once)
    return time.monotonic() - began
