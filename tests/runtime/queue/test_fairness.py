"""Turns: the most urgent first, and among equals no pipeline waits because another has queued more."""

from collections import Counter

from runtime.database import Database
from runtime.queue import store
from tests.kit.identities import RUNTIME
from tests.kit.lanes import Lanes


async def test_the_most_urgent_goes_first_and_within_a_pipeline_the_oldest(lanes: Lanes) -> None:
    early, urgent = await lanes.pipeline("early"), await lanes.pipeline("urgent")
    await lanes.submit(early, 2)
    await lanes.submit(urgent, 1, priority=5)
    await lanes.submit(urgent, 1, priority=-5)
    assert [await lanes.turn() for _ in range(4)] == [["urgent"], ["early"], ["early"], ["urgent"]]
    first = await lanes.owner.fetch(
        "SELECT finished_at FROM work_items WHERE pipeline_id = $1 ORDER BY created_at", early
    )
    assert first[0]["finished_at"] < first[1]["finished_at"]


async def test_ten_thousand_queued_executions_of_one_pipeline_starve_no_other(lanes: Lanes) -> None:
    greedy = await lanes.pipeline("greedy")
    await lanes.submit(greedy, 10_000)
    for name in ("late", "later"):
        await lanes.submit(await lanes.pipeline(name), 3)
    turns = [name for _ in range(9) for name in await lanes.turn()]
    assert Counter(turns) == {"greedy": 3, "late": 3, "later": 3}


async def test_a_pipeline_that_runs_less_goes_before_one_that_runs_more(lanes: Lanes) -> None:
    await lanes.submit(await lanes.pipeline("busy"), 20)
    await lanes.claim(3)
    await lanes.submit(await lanes.pipeline("idle"), 20)
    await lanes.claim(5)
    assert await lanes.running() == {"busy": 4, "idle": 4}


async def test_free_supervisors_are_shared_among_those_who_wait(lanes: Lanes) -> None:
    for name in ("a", "b", "c", "d"):
        await lanes.submit(await lanes.pipeline(name), 100)
    await lanes.claim(8)
    assert await lanes.running() == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_among_more_pipelines_than_a_claim_looks_at_each_gets_its_turn(lanes: Lanes) -> None:
    await lanes.submit(await lanes.pipeline("flood"), 500)
    await lanes.many(600)
    for _ in range(40):
        await lanes.turn(16)
    left = await lanes.owner.fetch("SELECT pipeline_id FROM work_items WHERE state = 'queued'")
    assert sum(row["pipeline_id"] not in lanes.names for row in left) < 100


async def test_an_urgent_execution_is_found_among_any_number_of_waiting_pipelines(lanes: Lanes) -> None:
    await lanes.many(1_000)
    await lanes.submit(await lanes.pipeline("urgent"), 1, priority=1)
    assert await lanes.turn() == ["urgent"]


async def test_only_what_lacks_a_supervisor_counts_as_waiting(lanes: Lanes, database: Database) -> None:
    await lanes.submit(await lanes.pipeline("limited", max_active=1), 50)
    await lanes.submit(await lanes.pipeline("free"), 3)
    async with database.statements(RUNTIME) as session:
        waiting, waited = await store.waiting(session, 10)
    assert (waiting, waited >= 0) == (4, True)
    await lanes.claim(4)
    async with database.statements(RUNTIME) as session:
        assert await store.waiting(session, 10) == (0, 0.0)
