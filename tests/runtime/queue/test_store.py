"""The queue's promises: each item to one holder, lapsed leases come back, typed errors survive the way."""

import asyncio
from collections import Counter
from uuid import uuid4

import asyncpg
import pytest

from models.errors import Invalid, Unavailable
from models.work import WorkItem
from runtime.bus import Bus, outcome_topic
from runtime.database import Database
from runtime.queue import store
from runtime.queue.kinds import WorkKind
from runtime.queue.store import Claim
from tests.kit.identities import ENGINEER, RUNTIME

LEASE = 15.0


async def enqueue(database: Database, *priorities: int) -> None:
    async with database.transaction(ENGINEER) as session:
        for priority in priorities:
            await store.enqueue(session, WorkKind.CHECK, by=ENGINEER.user_id, subject=uuid4(), priority=priority)


async def claim(database: Database, limit: int, lease: float = LEASE) -> list[Claim]:
    async with database.transaction(RUNTIME) as session:
        return await store.claim(session, "me", others=limit, lease_seconds=lease)


async def test_each_item_goes_to_one_of_many_who_claim_at_once(database: Database) -> None:
    await enqueue(database, *[0] * 20)
    shares = await asyncio.gather(*(claim(database, 7) for _ in range(4)))
    taken = [item.id for share in shares for item in share]
    assert len(taken) == len(set(taken)) == 20


async def test_the_most_urgent_goes_first_and_then_the_oldest(database: Database) -> None:
    for priority in (0, 5, 0, 9):
        await enqueue(database, priority)
    async with database.transaction(RUNTIME) as session:
        claimed = await store.claim(session, "me", others=2, lease_seconds=LEASE)
    assert len(claimed) == 2
    rest = await claim(database, 10)
    assert len(rest) == 2


async def test_one_claim_takes_of_some_kinds_and_of_the_others_as_many_as_it_wants_of_each(database: Database) -> None:
    await enqueue(database, *[0] * 3)
    async with database.transaction(ENGINEER) as session:
        for _ in range(3):
            session.add(WorkItem(kind=WorkKind.EXECUTION, pipeline_id=uuid4(), requested_by=ENGINEER.user_id))
    async with database.transaction(RUNTIME) as session:
        claimed = await store.claim(session, "me", executions=2, others=1, lease_seconds=LEASE)
    assert Counter(item.kind for item in claimed) == {WorkKind.EXECUTION: 2, WorkKind.CHECK: 1}


async def test_an_item_whose_holder_went_silent_is_claimed_again_with_a_higher_generation(database: Database) -> None:
    await enqueue(database, 0)
    (first,) = await claim(database, 1, lease=-1.0)
    async with database.transaction(RUNTIME) as session:
        assert await store.release_lapsed(session) == 1
    (second,) = await claim(database, 1)
    assert (second.id, second.generation) == (first.id, first.generation + 1)
    async with database.transaction(RUNTIME) as session:
        assert not await store.renew(session, first.id, first.generation, LEASE)
        assert not await store.settle(session, first, {"late": True})
        assert await store.settle(session, second, {"late": False})


async def test_an_item_that_is_given_back_is_claimed_at_once_and_its_old_holder_is_fenced_off(
    database: Database,
) -> None:
    await enqueue(database, 0)
    (first,) = await claim(database, 1)
    async with database.transaction(RUNTIME) as session:
        assert await store.release(session, first, "me")
        assert not await store.release(session, first, "me")
    (second,) = await claim(database, 1)
    assert (second.id, second.generation, second.attempts) == (first.id, first.generation + 1, first.attempts + 1)
    async with database.transaction(RUNTIME) as session:
        assert not await store.release(session, first, "me"), (
            "a late word of the old holder takes nothing from the new one"
        )
        assert not await store.settle(session, first, {"late": True})
        assert await store.settle(session, second, {"late": False})


async def test_only_its_holder_gives_an_item_back(database: Database) -> None:
    await enqueue(database, 0)
    (mine,) = await claim(database, 1)
    async with database.transaction(RUNTIME) as session:
        assert not await store.release(session, mine, "one whose claim of the same generation a crash undid")
        assert await store.settle(session, mine)


async def test_who_waits_gets_the_result(database: Database, bus: Bus) -> None:
    await enqueue(database, 0)
    (item,) = await claim(database, 1)
    waiting = asyncio.create_task(store.outcome(database, bus, ENGINEER, item.id, 5.0))
    async with database.transaction(RUNTIME) as session:
        await store.settle(session, item, {"rows": 3, "city": "a\0b"})
    await bus.publish(outcome_topic(item.id))
    assert await waiting == {"rows": 3, "city": "a\N{REPLACEMENT CHARACTER}b"}


async def test_who_waits_gets_the_typed_error(database: Database, bus: Bus) -> None:
    await enqueue(database, 0)
    (item,) = await claim(database, 1)
    async with database.transaction(RUNTIME) as session:
        await store.settle(session, item, error=Invalid("no such table", hint="create it", path="dataset"))
    with pytest.raises(Invalid, match="no such table") as raised:
        await store.outcome(database, bus, ENGINEER, item.id, 5.0)
    assert (raised.value.path, raised.value.hint) == ("dataset", "create it")


async def test_who_waits_in_vain_is_told_where_to_look(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        item = await store.enqueue(session, WorkKind.CHECK, by=ENGINEER.user_id)
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        await store.outcome(database, Bus(None), ENGINEER, item, 0.2)


async def test_a_withdrawn_item_is_not_claimed(database: Database) -> None:
    subject = uuid4()
    async with database.transaction(ENGINEER) as session:
        await store.enqueue(session, WorkKind.CHECK, by=ENGINEER.user_id, subject=subject)
        assert await store.withdraw(session, subject)
        assert not await store.withdraw(session, subject)
    assert await claim(database, 1) == []


async def test_work_that_ended_long_ago_is_removed_some_at_a_time(
    database: Database, owner: asyncpg.Connection
) -> None:
    await enqueue(database, *[0] * 6)
    for item in await claim(database, 5):
        async with database.transaction(RUNTIME) as session:
            await store.settle(session, item, {"rows": 1})
    await owner.execute(
        "UPDATE work_items SET finished_at = now() - interval '8 days', created_at = now() - interval '9 days'"
        " WHERE id IN (SELECT id FROM work_items WHERE state = 'done' LIMIT 4)"
    )
    await owner.execute("UPDATE work_items SET created_at = now() - interval '9 days' WHERE state = 'queued'")
    async with database.transaction(RUNTIME) as session:
        assert [await store.prune(session, 7, 3) for _ in range(3)] == [3, 1, 0]
    left = await owner.fetch("SELECT state FROM work_items ORDER BY state")
    assert [row["state"] for row in left] == ["done", "queued"]
