"""Kills the scheduler's leader again and again, while schedules are due each second."""

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import psutil

from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind
from runtime.schedules.ticker import LEASE
from tests.chaos.figures import Figure, spread
from tests.chaos.judge import refuse
from tests.chaos.killing import Size
from tests.chaos.load import load, pause, step
from tests.chaos.world import DATA, World, now
from tests.kit.eventually import eventually

SLOTS: Final = 2
"""What the schedules start shares a pool of so many: the moments are the load, not the runs."""

WITHIN_SECONDS: Final = 120.0
SAVING: Final = timedelta(seconds=5)
SAVING_EACH: Final = timedelta(seconds=0.1)
AT_ONCE: Final = 8

_LEADER: Final = "SELECT holder FROM leases WHERE name = $1 AND expires_at > now()"
_DECIDED: Final = """
    SELECT count(*) AS moments, min(decided_at) FILTER (WHERE decided_at > $2) AS first
    FROM schedule_fires JOIN schedules ON schedules.id = schedule_id WHERE pipeline_id = ANY($1)
"""
_GAPS: Final = """
    SELECT schedule.id, schedule.next_fire_at, count(fire.fire_time) AS moments, min(fire.fire_time) AS first,
        max(fire.fire_time) AS last
    FROM schedules AS schedule LEFT JOIN schedule_fires AS fire ON fire.schedule_id = schedule.id
    WHERE schedule.pipeline_id = ANY($1)
    GROUP BY schedule.id
    HAVING count(*) FILTER (WHERE fire.outcome = 'missed') > 0
        OR count(fire.fire_time) <> extract(epoch FROM max(fire.fire_time) - min(fire.fire_time)) + 1
        OR min(fire.fire_time) <> $2
        OR schedule.next_fire_at <> max(fire.fire_time) + interval '1 second'
"""
_STARTED: Final = """
    SELECT count(*) FILTER (WHERE fire.outcome = 'submitted') AS submitted,
        count(DISTINCT fire.execution_id) AS started,
        (SELECT count(*) FROM pipeline_executions WHERE pipeline_id = ANY($1)) AS runs,
        (SELECT count(*) FROM pipeline_executions WHERE pipeline_id = ANY($1) AND state = 'completed') AS completed
    FROM schedule_fires AS fire JOIN schedules AS schedule ON schedule.id = fire.schedule_id
    WHERE schedule.pipeline_id = ANY($1)
"""
_ENDED: Final = (
    "SELECT count(*) = 0 AS ended FROM pipeline_executions WHERE pipeline_id = ANY($1) AND status = 'running'"
)
_END: Final = """
    WITH gone AS (DELETE FROM schedules WHERE pipeline_id = ANY($1) RETURNING pipeline_id)
    UPDATE data_pipelines SET archived_at = now(), is_active = false WHERE id = ANY(SELECT pipeline_id FROM gone)
"""


@dataclass(frozen=True)
class Crowd:
    """Pipelines that a schedule starts each second, unless they run."""

    world: World
    name: str
    begins: datetime
    pipelines: list[UUID]

    @classmethod
    async def made(cls, world: World, count: int) -> "Crowd":
        """Save so many, each of which appends a row to one table, and wait until the first of them is due."""
        mark = f"crowd_{uuid4().hex[:6]}"
        begins = now().replace(microsecond=0) + SAVING + count * SAVING_EACH
        gate = asyncio.Semaphore(AT_ONCE)
        socket: JsonObject = {"host": str(world.postgres.folder), "database": DATA, "user": "postgres"}
        async with world.client() as client:
            await client.pools.set(mark, SLOTS)
            source: JsonObject = {"source_name": mark, "kind": "postgres", "connection_config": socket}
            await client.save(Entry(EntryKind.SOURCE, source))
            destination: JsonObject = {"destination_name": mark, "kind": "postgres", "connection_config": socket}
            await client.save(Entry(EntryKind.DESTINATION, destination))

            async def one(number: int) -> None:
                async with gate:
                    await client.save(Entry(EntryKind.PIPELINE, _each_second(mark, number, begins)))

            await asyncio.gather(*(one(number) for number in range(count)))
        assert now() < begins, "the machine is too busy to save the schedules before the first of them is due"
        await pause((begins - now()).total_seconds())
        rows = await world.rows("SELECT id FROM data_pipelines WHERE pool = $1", mark)
        return cls(world, mark, begins, [row["id"] for row in rows])

    async def decided(self, since: datetime) -> tuple[int, datetime | None]:
        """How many moments were decided, and when the first was since a moment."""
        (row,) = await self.world.rows(_DECIDED, self.pipelines, since)
        return row["moments"], row["first"]

    async def stop(self) -> None:
        """Let no more moments start anything, and what runs end."""
        await self.world.rows("UPDATE schedules SET is_paused = true WHERE pipeline_id = ANY($1)", self.pipelines)

        async def ended() -> bool:
            (row,) = await self.world.rows(_ENDED, self.pipelines)
            return bool(row["ended"])

        await eventually(ended, within=WITHIN_SECONDS, because="what the schedules started ends")


def _each_second(mark: str, number: int, begins: datetime) -> JsonObject:
    steps = [
        step("read", "extract", {"source_id": mark, "query": f"SELECT {number} AS n"}),
        load("keep", mark, mark, "read"),
    ]
    return {
        "pipeline_name": f"{mark}-{number}",
        "pipeline_type": "etl",
        "steps": list(steps),
        "concurrency": {"pool": mark},
        "schedule_config": {"type": "interval", "expression": "1s", "catch_up": "all", "starts_at": begins.isoformat()},
    }


async def scheduler(world: World, size: Size) -> list[Figure]:
    """kill -9 of the leader while `at_once` schedules are due each second, until `runs` moments were decided."""
    fault, crowd = "kill -9 of the scheduler's leader", await Crowd.made(world, size.at_once)
    took = list[float]()
    try:
        while len(took) < size.kills or (await crowd.decided(now()))[0] < size.runs:
            await pause(random.uniform(*size.pauses))
            if len(took) < size.kills:
                took.append(await _failed_over(world, crowd))
        await crowd.stop()
        gaps = [dict(row) for row in await world.rows(_GAPS, crowd.pipelines, crowd.begins)]
        (told,) = await world.rows(_STARTED, crowd.pipelines)
        (landed,) = await world.rows(f"SELECT count(*) AS rows FROM {crowd.name}", database=DATA)
        moments, _ = await crowd.decided(now())
    finally:
        await world.rows(_END, crowd.pipelines)
    refuse(gaps)
    assert told["submitted"] == told["started"] == told["runs"] == told["completed"] == landed["rows"], dict(told)
    return [
        Figure(fault, "moments, each decided once, of which started a run:", f"{moments:,}, {told['runs']:,}"),
        Figure(fault, "kills:", str(len(took))),
        Figure(fault, "the next moment was decided after", spread(took), "<= 5 s"),
    ]


async def _failed_over(world: World, crowd: Crowd) -> float:
    """Kill the leader, and wait until another has decided upon a moment; the seconds between."""

    async def led() -> str | None:
        rows = await world.rows(_LEADER, LEASE)
        return rows[0]["holder"] if rows else None

    holder = await eventually(led, within=WITHIN_SECONDS, because="a scheduler leads")
    killed = now()
    psutil.Process(int(holder.partition(":")[2].partition("-")[0])).kill()

    async def again() -> datetime | None:
        return (await crowd.decided(killed))[1]

    first = await eventually(again, within=WITHIN_SECONDS, because="another scheduler leads")
    return (first - killed).total_seconds()
