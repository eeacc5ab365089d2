"""Lets a step outgrow its memory again and again, beside runs that should not notice."""

import time
from collections import Counter
from contextlib import suppress
from typing import Final

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
    name, told = f"{others.name}_greedy", Counter[str]()

    async def outgrow() -> None:
        async with world.client() as client:
            while True:
                with suppress(DomainError):
                    run = await client.execute(name, {})
                    await ended(client, run.id)
                    told[ending(await client.execution(run.id))] += 1
                await pause(size.pauses[0])

    async with world.client() as client:
        await client.save(Entry(EntryKind.PIPELINE, greedy(name, others.name)))
    await others.run(size.at_once, size.at_once)
    alone = await took(others, size)
    async with meanwhile(outgrow()):
        beside = await took(others, size)
    await require(others)
    refuse([f"{count} ended as {ending}" for ending, count in told.items() if ending != "memory_limit"])
    refuse(["nothing outgrew its memory"] * (not told))
    return [
        Figure(fault, "failures, each typed `memory_limit`:", str(told.total())),
        Figure(fault, "throughput of others:", f"{alone / beside:.0%}", ">= 90 %"),
    ]


def ending(run: Execution) -> str:
    """How a run ended: the type of its error, or its state."""
    if run.state is ExecutionState.FAILED and run.error_details is not None:
        return str(run.error_details.error_type)
    return run.state.value


async def took(others: Load, size: Size) -> float:
    """Seconds for so many runs."""
    began = time.monotonic()
    await others.run(size.runs, size.at_once)
    return time.monotonic() - began
