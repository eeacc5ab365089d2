"""Taking an execution in hand: once, by the newest generation, with all that its supervisor needs."""

from sqlalchemy import text

from runtime.executions.assignments import take
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from tests.kit.definitions import DIAMOND, READ, load, pipeline, transform
from tests.kit.engine import LEASE, Bench
from tests.kit.identities import RUNTIME


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
        (claim,) = await queue.claim(session, "late", kinds=(WorkKind.EXECUTION,), limit=1, lease_seconds=LEASE)
        assert await take(session, claim, ready.plans, 1024) is None
