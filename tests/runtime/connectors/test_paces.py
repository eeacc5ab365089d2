"""The pace of a source: kept by one process, shared by many through Redis, and kept alone while that is away."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import pytest
from redis import Redis

from models.sources import RateLimitConfig
from runtime.connectors._pace import OwnPace, Pace, Unpaced
from runtime.connectors.paces import Paces, SharedPace

ALONE = RateLimitConfig(max_concurrent=1)


def most_at_once(paces: list[Pace], turns: int = 5) -> int:
    """The greatest number of turns that were open together, taken by a thread for each pace."""
    lock, now, most = threading.Lock(), [0], [0]

    def take(pace: Pace) -> None:
        for _ in range(turns):
            with pace.turn():
                with lock:
                    now[0] += 1
                    most[0] = max(most[0], now[0])
                threading.Event().wait(0.002)
                with lock:
                    now[0] -= 1

    with ThreadPoolExecutor(len(paces)) as threads:
        list(threads.map(take, paces))
    return most[0]


def test_requests_keep_to_the_rate_after_the_burst() -> None:
    at, waits = [0.0], list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        at[0] += seconds

    def take(times: int) -> None:
        for _ in range(times):
            with pace.turn():
                pass

    pace = OwnPace(RateLimitConfig(requests_per_second=10, burst=3), clock=lambda: at[0], wait=wait)
    take(6)
    assert [round(seconds, 6) for seconds in waits] == [0.1, 0.1, 0.1]
    at[0] += 60
    take(3)
    assert len(waits) == 3


def test_processes_share_the_tokens_of_a_source(redis_url: str) -> None:
    identity, waits = uuid4(), list[float]()
    limits = RateLimitConfig(requests_per_second=1, burst=2)
    with ExitStack() as stack:
        for _ in range(5):
            redis = stack.enter_context(Redis.from_url(redis_url))
            with SharedPace(redis, identity, limits, wait=waits.append).turn():
                pass
    assert [round(seconds) for seconds in waits] == [1, 2, 3]


@pytest.mark.parametrize("most", [1, 2])
def test_processes_share_the_places_of_a_source(redis_url: str, most: int) -> None:
    identity, paces = uuid4(), [Paces(redis_url) for _ in range(4)]
    limits = RateLimitConfig(max_concurrent=most)
    assert most_at_once([one.of(identity, limits) for one in paces]) == most
    for one in paces:
        one.close()


def test_a_process_keeps_to_the_places_of_a_source_alone() -> None:
    paces, identity = Paces(), uuid4()
    assert most_at_once([paces.of(identity, ALONE) for _ in range(4)]) == 1


def test_one_that_was_killed_gives_its_place_back(redis_url: str) -> None:
    identity = uuid4()
    with Redis.from_url(redis_url) as redis:
        killed, other = (SharedPace(redis, identity, ALONE, lease_seconds=0.3) for _ in range(2))
        assert killed._enter("a process that ends here")
        with other.turn():
            assert redis.zcard(other._places) == 1


def test_a_place_is_kept_for_as_long_as_its_request_takes(redis_url: str) -> None:
    identity = uuid4()
    with Redis.from_url(redis_url) as redis:
        pace = SharedPace(redis, identity, ALONE, lease_seconds=1.2)
        with pace.turn():
            threading.Event().wait(3)
            assert redis.zcard(pace._places) == 1
        assert redis.zcard(pace._places) == 0


def test_without_redis_each_process_keeps_its_own_pace() -> None:
    paces, identity = Paces("redis://127.0.0.1:1"), uuid4()
    assert most_at_once([paces.of(identity, ALONE) for _ in range(3)]) == 1
    paces.close()


def test_a_source_without_limits_is_not_paced() -> None:
    assert isinstance(Paces().of(uuid4(), RateLimitConfig()), Unpaced)
