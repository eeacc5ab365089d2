"""Taking an execution in hand: once, by the newest generation, with all that its supervisor needs."""

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text

from models.errors import Terminal
from models.events import EventKind
from runtime.executions.assignments import MOST_ATTEMPTS, hold_to_refuse, refuse_hopeless, take
from runtime.executions.endings import refusal
from runtime.executions.entries import summary_of
from runtime.executions.journal import Entry, Journal
from runtime.executions.logs import LogFile
from runtime.executions.supervisor import utc_now
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from runtime.queue.store import Claim
from tests.kit.definitions import DIAMOND, READ, load, pipeline, transform
from tests.kit.engine import LEASE, Bench
from tests.kit.identities import RUNTIME

FINISHED = text("""
    INSERT INTO step_executions (pipeline_execution_id, step_name, step_execution_id, started_at, state, generation)
    SELECT :id, 'read', 'a', now(), 'completed', :generation WHERE :generation > 0
""")


async def test_a_plan_comes_back_from_the_database_as_it_was_saved(ready: Bench) -> None:
    ordered = pipeline(
        READ,
        transform("named", "mapping", {"mappings": {"zebra": "id", "apple": "city", "mango": "amount"}}, "read"),
        load("named"),
    )
    saved, plan = await ready.pipeline(ordered)
    await ready.submit(saved)
    taken = await ready.take()
    assert taken.plan == plan
    assert taken.plan.fingerprint == plan.fingerprint
    columns = taken.plan.step("named").columns
    assert columns is None or [column.name for column in columns] == ["zebra", "apple", "mango"]


async def test_parameters_of_the_execution_go_before_the_pipelines_own(ready: Bench) -> None:
    saved, _ = await ready.pipeline({**DIAMOND, "parameters": {"least": 1, "city": "c1"}})
    await ready.submit(saved, parameters={"least": 5})
    assert (await ready.take()).context.parameters == {"least": 5, "city": "c1"}


async def test_an_ended_execution_is_not_taken_again(ready: Bench) -> None:
    execution, _ = await ready.run(DIAMOND)
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE work_items SET state = 'queued' WHERE subject = :id"), {"id": execution})
        (claim,) = await queue.claim(session, "late", executions=1, lease_seconds=LEASE)
        assert await take(session, claim, ready.plans, 1024) is None


async def test_an_execution_without_a_plan_can_be_ended_with_the_reason(ready: Bench) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    async with ready.database.transaction(RUNTIME) as session:
        (claim,) = await queue.claim(session, "me", executions=1, lease_seconds=LEASE)
        holding = await hold_to_refuse(session, claim)
    assert holding is not None
    journal = Journal(ready.database, ready.bus, holding, LogFile(ready.folder, execution))
    ending = refusal(Terminal("this version has no plan", hint="save it again", code="no_plan"), utc_now())
    await journal.finish(ending, Entry(EventKind.EXECUTION_FAILED, ending.at, summary_of(ending)))
    async with ready.database.transaction(RUNTIME) as session:
        query = text("SELECT status, error_details ->> 'error_type' FROM pipeline_executions WHERE id = :id")
        found = (await session.execute(query, {"id": execution})).one()
        work = (await session.execute(text("SELECT state FROM work_items"))).scalar_one()
    assert (*found, work) == ("failed", "no_plan", "done")


@pytest.mark.parametrize("lapses", [False, True])
@pytest.mark.parametrize(
    ("held_at", "finished_at", "rests"),
    [(1, 0, 0), (2, 0, 0), (3, 0, 0.5), (6, 0, 4), (40, 0, 30), (40, 38, 0), (41, 38, 0.5)],
)
async def test_an_execution_rests_longer_each_time_its_supervisors_die_and_finish_nothing(
    ready: Bench, held_at: int, finished_at: int, rests: float, lapses: bool
) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(FINISHED, {"id": execution, "generation": finished_at})
        lease = -1.0 if lapses else LEASE
        (claim,) = await queue.claim(session, "me", executions=1, lease_seconds=lease)
        await session.execute(text("UPDATE work_items SET generation = :held_at"), {"held_at": held_at})
        if lapses:
            assert await queue.release_lapsed(session) == 1
        else:
            assert await queue.release(session, replace(claim, generation=held_at), "me")
        left = "SELECT extract(epoch FROM greatest(run_after - now(), interval '0 s')) FROM work_items"
        assert (await session.execute(text(left))).scalar_one() == pytest.approx(rests)
        assert len(await queue.claim(session, "next", executions=1, lease_seconds=LEASE)) == (not rests)


@pytest.mark.parametrize(("finished", "last"), [(0, MOST_ATTEMPTS), (7, MOST_ATTEMPTS + 7)])
async def test_an_execution_is_given_up_whose_supervisors_die_and_finish_nothing(
    ready: Bench, finished: int, last: int
) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(FINISHED, {"id": execution, "generation": finished})
        claim = Claim(UUID(int=1), WorkKind.EXECUTION, execution, {}, last, None)
        await refuse_hopeless(session, claim)
        with pytest.raises(Terminal, match="supervisors died"):
            await refuse_hopeless(session, replace(claim, generation=last + 1))
