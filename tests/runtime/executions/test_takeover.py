"""A supervisor that dies is followed by another, which runs nothing again that was told to be finished."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from models.errors import Retryable
from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.cluster.actors import SupervisorHost
from runtime.executions.assignments import MOST_ATTEMPTS
from runtime.executions.checkpoints import FOLDER, LOST_INPUT, Place
from runtime.executions.executor import OnProgress, Ran, Refs
from runtime.executions.journal import Fenced, Pace
from runtime.executions.program import TaskRequest
from runtime.executions.supervisor import Supervisor
from runtime.queue import store as queue
from runtime.settings import Settings
from tests.kit.definitions import DIAMOND
from tests.kit.engine import LEASE, Bench
from tests.kit.eventually import eventually
from tests.kit.held import HeldExecutor, kill, supervising
from tests.kit.identities import RUNTIME

HALF = {"big", "small", "read"}


async def rows(bench: Bench, query: str, **parameters: object) -> list[Any]:
    async with bench.database.transaction(RUNTIME) as session:
        return list((await session.execute(text(query), parameters)).all())


async def told(bench: Bench, execution: UUID) -> list[tuple[str, str | None]]:
    query = "SELECT kind, step_name FROM execution_events WHERE execution_id = :id ORDER BY seq"
    return [tuple(row) for row in await rows(bench, query, id=execution)]


async def completed(bench: Bench, execution: UUID, steps: set[str]) -> bool:
    """Whether the journal tells that these steps are done."""
    told_of = {step for kind, step in await told(bench, execution) if kind == "step_completed"}
    return steps <= told_of


async def again(bench: Bench, execution: UUID) -> Any:
    """Take the execution over, as if its lease had lapsed."""
    async with bench.database.transaction(RUNTIME) as session:
        lapse = "UPDATE work_items SET lease_expires_at = now() - interval '1 s' WHERE subject = :id"
        await session.execute(text(lapse), {"id": execution})
        assert await queue.release_lapsed(session) == 1
    return await bench.take()


async def killed(bench: Bench, executor: HeldExecutor, told_of: set[str], **definition: Any) -> UUID:
    """An execution whose supervisor was killed where the executor was held, once these steps were told to be done."""
    saved, _ = await bench.pipeline({**DIAMOND, **definition})
    execution = await bench.submit(saved)
    work = supervising(bench.supervisor(await bench.take(), executor))
    await executor.reached.wait()
    await eventually(lambda: completed(bench, execution, told_of), because="the journal tells what is done")
    await kill(work)
    return execution


async def test_a_take_over_runs_no_finished_step_again(ready: Bench) -> None:
    execution = await killed(ready, HeldExecutor(ready, before={"load"}), HALF)
    second = HeldExecutor(ready)
    taken = await again(ready, execution)
    ending = await ready.supervisor(taken, second).supervise()
    assert second.ran == ["load"]
    assert (ending.state, ending.totals["processed"], ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100, 100)
    assert sorted(int(row["id"]) for row in ready.read("out", "t")) == list(range(100))
    events = await told(ready, execution)
    assert [kind for kind, _ in events].count("execution_started") == 1
    after = events[events.index(("execution_taken_over", None)) :]
    assert {step for kind, step in after if kind == "step_restored"} == HALF
    assert {step for kind, step in after if kind == "step_started"} == {"load"}
    numbers = await rows(ready, "SELECT seq FROM execution_events WHERE execution_id = :id ORDER BY seq", id=execution)
    assert [row.seq for row in numbers] == list(range(1, len(numbers) + 1))
    steps = await rows(ready, "SELECT * FROM step_executions WHERE pipeline_execution_id = :id", id=execution)
    assert {row.step_name: (row.state, row.records_out) for row in steps} == {
        "read": ("completed", 100),
        "big": ("completed", 86),
        "small": ("completed", 14),
        "load": ("completed", 100),
    }


async def test_an_execution_that_succeeds_leaves_no_checkpoint(ready: Bench) -> None:
    execution = await killed(ready, HeldExecutor(ready, before={"load"}), HALF)
    assert len(await rows(ready, "SELECT task_name FROM checkpoints WHERE execution_id = :id", id=execution)) == 3
    assert len(list((ready.artifacts / FOLDER / str(execution)).iterdir())) == 3
    await ready.supervisor(await again(ready, execution)).supervise()
    assert await rows(ready, "SELECT task_name FROM checkpoints WHERE execution_id = :id", id=execution) == []
    assert list((ready.artifacts / FOLDER).iterdir()) == []


def remove(bench: Bench, execution: UUID, task: str) -> None:
    (bench.artifacts / FOLDER / str(execution) / f"{task}-1-1.arrow").unlink()


def damage(bench: Bench, execution: UUID, task: str) -> None:
    file = bench.artifacts / FOLDER / str(execution) / f"{task}-1-1.arrow"
    file.write_bytes(file.read_bytes()[:-20])


@pytest.mark.parametrize("spoil", [remove, damage])
@pytest.mark.parametrize(
    ("gone", "run"),
    [
        (["read"], {"load"}),
        (["big"], {"big", "load"}),
        (["big", "read"], {"read", "big", "load"}),
        (["big", "small", "read"], {"read", "big", "small", "load"}),
    ],
)
async def test_a_task_whose_checkpoint_is_gone_runs_again_with_what_it_needs(
    ready: Bench, spoil: Any, gone: list[str], run: set[str]
) -> None:
    execution = await killed(ready, HeldExecutor(ready, before={"load"}), HALF)
    for task in gone:
        spoil(ready, execution, task)
    second = HeldExecutor(ready)
    ending = await ready.supervisor(await again(ready, execution), second).supervise()
    assert set(second.ran) == run
    assert ending.totals["inserted"] == 100
    query = "SELECT payload FROM execution_events WHERE execution_id = :id AND kind = 'execution_taken_over'"
    ((payload,),) = await rows(ready, query, id=execution)
    assert set(payload["again"]) == run - {"load"}
    assert all("its output is gone" in reason for reason in payload["again"].values())


async def test_one_that_is_given_up_leaves_no_step_running(ready: Bench, settings: Settings) -> None:
    execution = await killed(ready, HeldExecutor(ready, before={"load"}), HALF)
    states = "SELECT step_name, state FROM step_executions WHERE pipeline_execution_id = :id"
    assert ("load", "running") in [tuple(row) for row in await rows(ready, states, id=execution)]
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE work_items SET lease_expires_at = now() - interval '1 s'"))
        await queue.release_lapsed(session)
        await session.execute(text("UPDATE work_items SET generation = :worn"), {"worn": 2 * MOST_ATTEMPTS})
        (claim,) = await queue.claim(session, "late", executions=1, lease_seconds=LEASE)
    host = SupervisorHost(settings, ready.database, ready.bus, HeldExecutor(ready), ready.plans)
    await host.run(claim)
    assert set(await told(ready, execution)) >= {("step_skipped", "load"), ("execution_failed", None)}
    left = dict(tuple(row) for row in await rows(ready, states, id=execution))
    assert left == {**dict.fromkeys(HALF, "completed"), "load": "cancelled"}


async def test_who_slept_until_another_completed_runs_nothing(ready: Bench) -> None:
    execution = await killed(ready, HeldExecutor(ready, before={"load"}), HALF)
    slept = await again(ready, execution)
    await ready.supervisor(await again(ready, execution)).supervise()
    zombie = HeldExecutor(ready)
    with pytest.raises(Fenced):
        await ready.supervisor(slept, zombie).supervise()
    assert zombie.ran == []


async def test_a_load_that_was_published_and_not_heard_of_is_not_loaded_twice(ready: Bench) -> None:
    execution = await killed(ready, HeldExecutor(ready, after={"load"}), HALF)
    assert len(ready.read("out", "t")) == 100
    ending = await ready.supervisor(await again(ready, execution)).supervise()
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert len(ready.read("out", "t")) == 100
    query = "SELECT transformation_stats FROM step_executions WHERE step_name = 'load'"
    ((stats,),) = await rows(ready, query)
    assert stats["rows_inserted"] == 100


async def test_what_was_not_told_to_be_done_runs_again(ready: Bench) -> None:
    slow = HeldExecutor(ready, before={"load"})
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    work = supervising(ready.supervisor(await ready.take(), slow, Pace(gather_seconds=60.0)))
    await slow.reached.wait()
    await kill(work)
    second = HeldExecutor(ready)
    await ready.supervisor(await again(ready, execution), second).supervise()
    assert set(second.ran) == {*HALF, "load"}
    kinds = [kind for kind, _ in await told(ready, execution)]
    assert kinds.count("execution_taken_over") == 1
    assert kinds[-1] == "execution_completed"


async def test_an_execution_whose_supervisor_never_beat_is_found(ready: Bench) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    async with ready.database.transaction(RUNTIME) as session:
        claims = await queue.claim(session, "dies", executions=1, lease_seconds=0.001)
    assert [claim.subject for claim in claims] == [execution]

    async def released() -> bool:
        async with ready.database.transaction(RUNTIME) as session:
            return await queue.release_lapsed(session) == 1

    await eventually(released, because="the lease lapses from the claim on")
    taken = await ready.take()
    assert (taken.holding.generation, taken.taken_over) == (2, False)
    assert (await ready.supervisor(taken).supervise()).state is ExecutionState.COMPLETED
    assert "execution_taken_over" not in [kind for kind, _ in await told(ready, execution)]


async def at_work(bench: Bench) -> tuple[UUID, Supervisor, "asyncio.Task[object]"]:
    saved, _ = await bench.pipeline(DIAMOND)
    execution = await bench.submit(saved)
    executor = HeldExecutor(bench, before={"load"})
    supervisor = bench.supervisor(await bench.take(), executor)
    work = supervising(supervisor)
    await executor.reached.wait()
    return execution, supervisor, work


async def test_the_loop_that_works_renews_the_lease(ready: Bench) -> None:
    execution, _, work = await at_work(ready)
    await rows(ready, "UPDATE work_items SET lease_expires_at = now() + interval '1 s' RETURNING id")

    async def renewed() -> bool:
        ((until,),) = await rows(ready, "SELECT lease_expires_at FROM work_items WHERE subject = :id", id=execution)
        return bool(until > datetime.now(UTC) + timedelta(seconds=LEASE / 2))

    await eventually(renewed, because="the supervisor beats")
    await kill(work)


async def test_a_supervisor_that_lost_its_lease_stops(ready: Bench) -> None:
    _, supervisor, work = await at_work(ready)
    await rows(ready, "UPDATE work_items SET state = 'queued', generation = generation + 1 RETURNING id")
    supervisor.look()
    with pytest.raises(Fenced):
        await work


async def test_a_cancel_is_heard_of_at_once(ready: Bench) -> None:
    execution, supervisor, work = await at_work(ready)
    cancel = "UPDATE pipeline_executions SET cancel_requested_at = now() WHERE id = :id RETURNING id"
    await rows(ready, cancel, id=execution)
    supervisor.look()
    async with asyncio.timeout(2.0):
        await work
    assert (await told(ready, execution))[-1] == ("execution_cancelled", None)


class Losing(HeldExecutor):
    """Loses the inputs of a load the first time, as when their node dies; keeps what it was given."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.given: list[Mapping[str, Refs]] = []
        self.bench = bench

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        if request.program.task == "load" and len(self.given) == 0:
            self.given.append(inputs)
            raise Retryable("an input was lost with its node", code=LOST_INPUT)
        if request.program.task == "load":
            self.given.append(inputs)
        return await super().run(request, inputs, on_progress)


LAZY: JsonObject = {"retry_policy": {"initial_seconds": 0.5, "jitter": 0}}
QUICK: JsonObject = {"retry_policy": {"initial_seconds": 0, "jitter": 0}}


async def test_inputs_that_were_lost_are_made_again_where_they_are_not_kept(ready: Bench) -> None:
    executor = Losing(ready)
    saved, _ = await ready.pipeline({**DIAMOND, **QUICK})
    await ready.submit(saved)
    ending = await ready.supervisor(await ready.take(), executor, Pace(gather_seconds=60.0)).supervise()
    assert ending.totals["inserted"] == 100
    assert sorted(executor.ran) == ["big", "big", "load", "read", "read", "small", "small"]
    assert len(ready.read("out", "t")) == 100


class LosingLate(Losing):
    """Loses them once the journal tells that they are done."""

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        execution = request.context.execution_id
        if request.program.task == "load":
            await eventually(lambda: completed(self.bench, execution, HALF), because="the journal tells it")
        return await super().run(request, inputs, on_progress)


async def test_inputs_that_were_lost_are_read_from_their_checkpoints(ready: Bench) -> None:
    executor = LosingLate(ready)
    saved, _ = await ready.pipeline({**DIAMOND, **LAZY})
    await ready.submit(saved)
    ending = await ready.supervisor(await ready.take(), executor).supervise()
    assert ending.totals["inserted"] == 100
    assert sorted(executor.ran) == ["big", "load", "read", "small"]
    assert all(isinstance(ref, Place) for refs in executor.given[-1].values() for ref in refs)
