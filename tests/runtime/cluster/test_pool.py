"""The pool grows with lasting need, shrinks when idle, and never hands out what is not ready."""

import asyncio
import gc
from functools import partial

import pytest

from runtime.cluster.pool import GROW_AFTER_SECONDS, SHRINK_AFTER_SECONDS, Lost, Pool, wanted_size
from tests.kit.eventually import eventually

LIMITS = (4, 16)


@pytest.mark.parametrize(
    ("waiting", "waited", "busy", "size", "wanted"),
    [
        (0, 0.0, 0, 0, 4),
        (20, 0.1, 4, 4, 4),
        (20, GROW_AFTER_SECONDS, 4, 4, 5),
        (20, GROW_AFTER_SECONDS, 8, 8, 10),
        (1, GROW_AFTER_SECONDS, 4, 4, 5),
        (100, GROW_AFTER_SECONDS, 15, 15, 16),
        (0, 0.0, 0, 16, 12),
        (0, 0.0, 6, 7, 6),
        (3, 0.0, 6, 16, 16),
    ],
)
def test_the_size_follows_lasting_need_within_limits(
    waiting: int, waited: float, busy: int, size: int, wanted: int
) -> None:
    assert wanted_size(waiting, waited, busy, size, limits=LIMITS) == wanted


def test_it_does_not_grow_while_the_processors_have_no_room() -> None:
    assert wanted_size(20, GROW_AFTER_SECONDS, 4, 4, limits=LIMITS, has_room=False) == 4
    assert wanted_size(20, GROW_AFTER_SECONDS, 0, 0, limits=LIMITS, has_room=False) == 4


class One:
    """A member of a pool."""

    def __init__(self) -> None:
        self.died = asyncio.Event()
        self.is_ended = False

    async def lives(self) -> None:
        await self.died.wait()

    def end(self) -> None:
        self.is_ended = True
        self.died.set()


async def made() -> One:
    return One()


async def test_it_shrinks_only_when_nobody_was_taken_for_a_while() -> None:
    now = [0.0]
    pool: Pool[One] = Pool(made, least=1, most=8, clock=lambda: now[0])
    pool.resize(0, 0.0)

    async def grown() -> bool:
        pool.resize(8, GROW_AFTER_SECONDS)
        return pool.idle == 8

    await eventually(grown, because="the pool has grown")
    pool.give_back(pool.take())
    now[0] = SHRINK_AFTER_SECONDS - 1
    pool.resize(0, 0.0)
    assert pool.size == 8
    now[0] = SHRINK_AFTER_SECONDS
    pool.resize(0, 0.0)
    assert pool.size == 6
    pool.close()


async def test_a_member_is_handed_out_only_when_it_is_ready() -> None:
    gate = asyncio.Event()

    async def make() -> One:
        await gate.wait()
        return One()

    pool: Pool[One] = Pool(make, least=1, most=2)
    pool.resize(0, 0.0)
    assert (pool.size, pool.idle) == (1, 0)
    gate.set()

    async def ready() -> bool:
        return pool.idle == 1

    await eventually(ready, because="the member is ready")
    member = pool.take()
    pool.give_back(member, broken=True)
    assert (pool.size, pool.idle, member.is_ended) == (1, 0, True)
    pool.close()


async def test_one_that_dies_before_it_is_ready_is_made_anew_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    tries = [0]

    async def make() -> One:
        tries[0] += 1
        if tries[0] == 1:
            raise Lost("its node has died")
        return One()

    pool: Pool[One] = Pool(make, least=1, most=1)

    async def ready() -> bool:
        pool.resize(0, 0.0)
        return pool.idle == 1

    await eventually(ready, because="the second one is ready")
    gc.collect()
    own = [record.getMessage() for record in caplog.records if record.name == "runtime.cluster.pool"]
    assert own == ["a member of the pool died before it was ready: its node has died"]
    assert not any("never retrieved" in record.getMessage() for record in caplog.records)
    pool.close()


async def test_the_one_used_last_is_used_again() -> None:
    pool: Pool[One] = Pool(made, least=2, most=2)
    pool.resize(0, 0.0)

    async def ready() -> bool:
        return pool.idle == 2

    await eventually(ready, because="both members are ready")
    one = pool.take()
    pool.give_back(one)
    assert pool.take() is one
    pool.close()
    assert one.is_ended


async def test_a_member_that_dies_is_replaced_at_once_also_while_it_is_idle() -> None:
    pool: Pool[One] = Pool(made, least=2, most=2)
    told: list[int] = []
    pool.on_ready = lambda: told.append(pool.idle)

    async def ready(count: int) -> bool:
        return len(told) == count

    pool.resize(0, 0.0)
    await eventually(partial(ready, 2), because="both members are ready")
    idle, busy = pool.take(), pool.take()
    pool.give_back(idle)
    idle.died.set()
    await eventually(partial(ready, 3), because="another took the place of the idle one")
    busy.died.set()
    pool.give_back(busy, broken=True)
    await eventually(partial(ready, 4), because="another took the place of the busy one")
    assert (idle.is_ended, busy.is_ended, told) == (True, True, [1, 2, 1, 2])
    assert {pool.take(), pool.take()}.isdisjoint({idle, busy})
    pool.close()
