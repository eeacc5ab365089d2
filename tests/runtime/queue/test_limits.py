"""Limits of pipelines and pools: never exceeded, never leaked, in nobody's way, and cheap however much waits."""

import asyncio
import json
from typing import cast

import pytest

from runtime.database import Database
from runtime.queue import store
from runtime.queue.kinds import WorkKind
from tests.kit.identities import ENGINEER, RUNTIME
from tests.kit.lanes import LEASE, Lanes

CLAIMERS = 12
ROUNDS = 15
MOST_BUFFERS = 2_500
"""What one claim reads at most, in pages of 8 KB: less than a hundredth of the queue that the tests fill."""


async def test_a_pipeline_runs_no_more_at_once_than_it_allows(lanes: Lanes) -> None:
    orders = await lanes.pipeline("orders", max_active=2)
    await lanes.submit(orders, 5)
    first = await lanes.claim(4)
    assert len(first) == 2
    assert await lanes.claim(4) == []
    async with lanes.database.statements(RUNTIME) as session:
        await store.settle(session, first[0])
    assert len(await lanes.claim(4)) == 1


async def test_pipelines_share_the_slots_of_their_pool(lanes: Lanes) -> None:
    await lanes.slots("warehouse", 3)
    for name in ("orders", "guests"):
        await lanes.submit(await lanes.pipeline(name), 4, pool="warehouse")
    assert len(await lanes.claim(8)) == 3
    assert await lanes.claim(8) == []


async def test_a_pool_without_a_size_limits_nothing(lanes: Lanes) -> None:
    await lanes.submit(await lanes.pipeline("orders"), 6, pool="boundless")
    assert len(await lanes.claim(8)) == 6


async def test_what_is_at_its_limit_holds_up_nobody_behind_it(lanes: Lanes) -> None:
    await lanes.slots("warehouse", 1)
    await lanes.submit(await lanes.pipeline("limited", max_active=1), 300, priority=9)
    await lanes.submit(await lanes.pipeline("pooled"), 300, pool="warehouse", priority=9)
    await lanes.submit(await lanes.pipeline("free"), 2)
    await lanes.claim(2)
    assert await lanes.running() == {"limited": 1, "pooled": 1}
    await lanes.claim(8)
    assert await lanes.running() == {"limited": 1, "pooled": 1, "free": 2}


async def test_a_full_pool_of_many_pipelines_holds_up_nobody_behind_it(lanes: Lanes) -> None:
    await lanes.slots("default", 1)
    await lanes.many(500)
    await lanes.claim(1)
    await lanes.submit(await lanes.pipeline("free"), 1, pool="other")
    await lanes.claim(8)
    assert await lanes.running() == {"": 1, "free": 1}


async def test_a_slot_comes_back_when_its_holder_falls_silent(lanes: Lanes) -> None:
    await lanes.submit(await lanes.pipeline("orders", max_active=1), 2)
    (lost,) = await lanes.claim(1, lease=-1.0)
    async with lanes.database.statements(RUNTIME) as session:
        await store.release_lapsed(session)
    (again,) = await lanes.claim(2)
    assert (again.id, again.generation) == (lost.id, lost.generation + 1)


async def test_a_new_limit_holds_for_what_waits_already(lanes: Lanes) -> None:
    orders = await lanes.pipeline("orders")
    await lanes.submit(orders, 5)
    await lanes.owner.execute("UPDATE data_pipelines SET max_active = 1 WHERE id = $1", orders)
    assert len(await lanes.claim(4)) == 1


async def test_no_two_who_claim_at_once_exceed_a_limit(lanes: Lanes) -> None:
    await lanes.slots("warehouse", 3)
    await lanes.submit(await lanes.pipeline("limited", max_active=2), 200)
    for name in ("left", "right"):
        await lanes.submit(await lanes.pipeline(name), 200, pool="warehouse")
    most = {"limited": 2, "warehouse": 3}
    seen = {"limited": 0, "warehouse": 0}
    for _ in range(ROUNDS):
        claimed = [one for some in await asyncio.gather(*(lanes.claim(3) for _ in range(CLAIMERS))) for one in some]
        running = await lanes.running()
        seen["limited"] = max(seen["limited"], running.get("limited", 0))
        seen["warehouse"] = max(seen["warehouse"], running.get("left", 0) + running.get("right", 0))
        async with lanes.database.statements(RUNTIME) as session:
            for claim in claimed[::2]:
                await store.settle(session, claim)
    assert seen == most


async def test_who_claims_waits_for_nobody_that_was_stopped_in_the_midst_of_it(
    lanes: Lanes, database: Database
) -> None:
    await lanes.submit(await lanes.pipeline("limited", max_active=5), 5)
    await lanes.submit(await lanes.pipeline("free"), 2)
    async with database.statements(RUNTIME) as stopped:
        await store.claim(stopped, "stopped", executions=1, lease_seconds=LEASE)
        async with asyncio.timeout(5.0):
            claimed = await lanes.claim(4)
    assert {await lanes.name_of(claim) for claim in claimed} <= {"limited", "free"}
    assert claimed


async def _buffers(lanes: Lanes, statement: str) -> int:
    """The pages that a statement reads, in memory or not, the second time: the first one reads the catalogue, too."""
    await _read(lanes, statement)
    return await _read(lanes, statement)


async def _read(lanes: Lanes, statement: str) -> int:
    transaction = lanes.owner.transaction()
    await transaction.start()
    try:
        (row,) = await lanes.owner.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
    finally:
        await transaction.rollback()
    plan = json.loads(cast(str, row[0]))[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


CLAIM = "SELECT * FROM wedsync.claim_work('me', 4, 4, 15)"
WAITING = "SELECT * FROM wedsync.waiting_executions(16)"


@pytest.mark.parametrize("statement", [CLAIM, WAITING])
async def test_a_claim_costs_the_same_whether_ten_or_a_hundred_thousand_wait(lanes: Lanes, statement: str) -> None:
    greedy, modest = await lanes.pipeline("greedy", max_active=1), await lanes.pipeline("modest")
    await lanes.submit(greedy, 5)
    await lanes.submit(modest, 5)
    few = [await _buffers(lanes, statement) for _ in range(8)][-1]
    # The plans are those of a queue that was empty, as a dispatcher's are; nothing tells the planner of the flood.
    await lanes.submit(greedy, 100_000)
    many = await _buffers(lanes, statement)
    await lanes.owner.execute("ANALYZE work_items")
    analysed = await _buffers(lanes, statement)
    assert max(many, analysed) < few + 100


@pytest.mark.parametrize("statement", [CLAIM, WAITING])
async def test_a_claim_passes_by_what_waits_for_an_earlier_run(lanes: Lanes, statement: str) -> None:
    held = await lanes.pipeline("held")
    await lanes.submit(held, 20_000)
    await lanes.owner.execute("UPDATE work_items SET run_after = 'infinity'")
    await lanes.submit(held, 5)
    # What the update left behind is swept up, as PostgreSQL does by itself in time.
    await lanes.owner.execute("VACUUM work_items")
    assert await _buffers(lanes, statement) < 200
    assert len(await lanes.claim(8)) == 5


@pytest.mark.parametrize("statement", [CLAIM, WAITING])
async def test_a_claim_looks_at_a_bounded_part_of_ten_thousand_waiting_pipelines(lanes: Lanes, statement: str) -> None:
    await lanes.many(10_000, 10)
    costs = [await _buffers(lanes, statement) for _ in range(8)]
    await lanes.owner.execute("ANALYZE work_items")
    costs += [await _buffers(lanes, statement) for _ in range(8)]
    assert max(costs) < MOST_BUFFERS


async def test_other_work_is_found_at_once_behind_any_number_of_executions(lanes: Lanes) -> None:
    await lanes.submit(await lanes.pipeline("greedy", max_active=1), 20_000, priority=9)
    async with lanes.database.transaction(ENGINEER) as session:
        await store.enqueue(session, WorkKind.CHECK, by=ENGINEER.user_id)
    async with lanes.database.statements(RUNTIME) as session:
        claims = await store.claim(session, "me", others=4, lease_seconds=LEASE)
    assert [claim.kind for claim in claims] == [WorkKind.CHECK]
    assert await _buffers(lanes, "SELECT * FROM wedsync.claim_work('me', 0, 4, 15)") < 100
