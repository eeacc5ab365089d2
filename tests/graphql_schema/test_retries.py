"""Ended executions are taken up again: from where they failed or from a step, with a preview, by those who may."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.executions.checkpoints import FOLDER
from tests.kit.definitions import READ, ROWS, load, only, pipeline, transform
from tests.kit.engine import Bench
from tests.kit.graphql import Api, token
from tests.kit.held import HeldExecutor, kill, supervising
from tests.kit.identities import ANALYST, ENGINEER, RUNTIME

ERROR = "... on Error { code message hint path }"
SHOWN = "id executionId executionType version state executionContext"
RETRY = f"""mutation($id: ID!, $key: String) {{
    retryExecution(id: $id, idempotencyKey: $key) {{ __typename ... on Execution {{ {SHOWN} }} {ERROR} }} }}"""
RERUN = f"""mutation($id: ID!, $step: String!) {{
    rerunExecution(id: $id, fromStep: $step) {{ __typename ... on Execution {{ {SHOWN} }} {ERROR} }} }}"""
EXECUTE = f"""mutation($id: ID!, $input: ExecutePipelineInput) {{
    executePipeline(id: $id, input: $input) {{ __typename ... on Execution {{ {SHOWN} }} {ERROR} }} }}"""
PREVIEW = """query($id: ID!, $step: String) {
    rerunPreview(id: $id, fromStep: $step) { executionId version steps { stepName fate reason } } }"""


def narrowed(column: str = "city") -> JsonObject:
    """Two loads, one after the other; the second one's rows cannot be made of a city, and can be of an amount."""
    cast = transform("narrow", "cast", {"columns": {column: "INTEGER"}}, "small", "first", retry_attempts=0)
    others = [only("big", "amount > 20", retry_attempts=0), only("small", "amount <= 20", retry_attempts=0)]
    first = load("big", name="first", table="first", retry_attempts=0)
    return pipeline(READ, *others, first, cast, load("narrow", name="second", table="second", retry_attempts=1))


@pytest.fixture
async def ready(bench: Bench) -> Bench:
    await bench.files("in", ROWS)
    await bench.shelf("out")
    return bench


async def supervised(bench: Bench) -> tuple[list[str], Any]:
    executor = HeldExecutor(bench)
    ending = await bench.supervisor(await bench.take(), executor).supervise()
    return executor.ran, ending


async def test_a_retry_runs_what_did_not_finish_and_loads_nothing_twice(api: Api, ready: Bench) -> None:
    failed, ending = await ready.run(narrowed())
    assert ending.state is ExecutionState.FAILED
    assert len(ready.read("out", "first")) == 86
    previewed = await api.ask(PREVIEW, {"id": str(failed)})
    fates = {step["stepName"]: step["fate"] for step in previewed["steps"]}
    assert fates == {
        "read": "RESTORE",
        "big": "RESTORE",
        "first": "RESTORE",
        "small": "RESTORE",
        "narrow": "RUN",
        "second": "RUN",
    }
    taken = await api.ask(RETRY, {"id": str(failed)})
    assert (taken["executionType"], taken["state"], taken["version"]) == ("RETRY", "QUEUED", 1)
    assert taken["executionContext"]["retry_of"] == str(failed)
    ran, _ = await supervised(ready)
    assert set(ran) <= {"narrow", "second"}
    assert len(ready.read("out", "first")) == 86


async def test_a_retry_goes_on_where_the_cause_is_gone(api: Api, ready: Bench) -> None:
    (ready.folder / "out").write_text("a file where a folder should be")
    failed, ending = await ready.run(narrowed("id"))
    assert ending.state is ExecutionState.FAILED
    (ready.folder / "out").unlink()
    await api.ask(RETRY, {"id": str(failed)})
    ran, ending = await supervised(ready)
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert "read" not in ran
    assert (len(ready.read("out", "first")), len(ready.read("out", "second"))) == (86, 14)


async def test_a_load_that_was_published_unheard_is_not_loaded_by_the_retry(api: Api, ready: Bench) -> None:
    saved, _ = await ready.pipeline(narrowed("id"))
    execution, executor = await ready.submit(saved), HeldExecutor(ready, after={"first"})
    work = supervising(ready.supervisor(await ready.take(), executor))
    await executor.reached.wait()
    await kill(work)
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE pipeline_executions SET state = 'failed', status = 'failed'"))
        await session.execute(text("UPDATE work_items SET state = 'done'"))
    assert len(ready.read("out", "first")) == 86
    await api.ask(RETRY, {"id": str(execution)})
    _, ending = await supervised(ready)
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert len(ready.read("out", "first")) == 86


async def test_a_retry_of_a_retry_knows_what_either_finished(api: Api, ready: Bench) -> None:
    failed, _ = await ready.run(narrowed())
    second = await api.ask(RETRY, {"id": str(failed)})
    await supervised(ready)
    refused = await api.ask(RETRY, {"id": str(failed)})
    assert (refused["__typename"], refused["code"]) == ("ConflictError", "already_retried")
    assert second["executionId"] in refused["message"]
    third = await api.ask(RETRY, {"id": second["id"]})
    ran, _ = await supervised(ready)
    assert not {"read", "big", "small", "first"}.intersection(ran)
    assert third["executionContext"]["retry_of"] == second["id"]
    assert len(ready.read("out", "first")) == 86


async def test_a_rerun_starts_at_the_step_and_restores_the_rest(api: Api, ready: Bench) -> None:
    kept, _ = await ready.run({**narrowed("id"), "checkpoints": "always"})
    previewed = await api.ask(PREVIEW, {"id": str(kept), "step": "narrow"})
    told = {step["stepName"]: (step["fate"], step["reason"]) for step in previewed["steps"]}
    assert told["narrow"] == ("RUN", "it is the step to run again from")
    assert told["second"] == ("RUN", "it depends on narrow")
    assert told["first"] == ("RESTORE", "it is done: what it loaded is not loaded again")
    await api.ask(RERUN, {"id": str(kept), "step": "narrow"})
    ran, ending = await supervised(ready)
    assert "read" not in ran
    assert "first" not in ran
    assert (ending.totals["processed"], ending.totals["inserted"]) == (0, 14)
    assert (len(ready.read("out", "first")), len(ready.read("out", "second"))) == (86, 28)
    async with ready.database.transaction(ENGINEER) as session:
        query = text("SELECT kind, step_name FROM execution_events WHERE kind = 'step_restored'")
        restored = {row.step_name for row in await session.execute(query)}
    assert {"read", "first"} <= restored


async def test_a_rerun_of_what_kept_no_checkpoints_runs_what_it_needs_and_says_so(api: Api, ready: Bench) -> None:
    completed, _ = await ready.run(narrowed("id"))
    previewed = await api.ask(PREVIEW, {"id": str(completed), "step": "second"})
    told = {step["stepName"]: step["reason"] for step in previewed["steps"] if step["fate"] == "RUN"}
    assert "read" in told
    assert "its output is gone, and" in told["read"]
    await api.ask(RERUN, {"id": str(completed), "step": "second"})
    ran, _ = await supervised(ready)
    assert "read" in ran
    assert (len(ready.read("out", "first")), len(ready.read("out", "second"))) == (86, 28)


@pytest.mark.parametrize("spoilt", [b"", None], ids=["damaged", "gone"])
async def test_a_checkpoint_that_is_no_more_is_told_with_the_step_to_run_again_from(
    api: Api, ready: Bench, spoilt: bytes | None
) -> None:
    kept, _ = await ready.run({**narrowed("id"), "checkpoints": "always"})
    for file in (ready.artifacts / FOLDER / str(kept)).glob("*.arrow"):
        file.unlink() if spoilt is None else file.write_bytes(spoilt)
    told = (await api.refusal(PREVIEW, {"id": str(kept), "step": "narrow"}))["extensions"]
    error = await api.ask(RERUN, {"id": str(kept), "step": "narrow"})
    assert (error["__typename"], error["code"], told["code"]) == ("ConflictError", "checkpoint_gone", "checkpoint_gone")
    assert "the checkpoint of 'read' is gone or damaged" in error["message"]
    assert error["hint"].endswith("--from read`")
    await api.ask(RERUN, {"id": str(kept), "step": "read"})
    ran, _ = await supervised(ready)
    assert {"read", "first", "second"} <= set(ran)


async def test_what_cannot_be_taken_up_is_told_with_what_to_do(api: Api, ready: Bench) -> None:
    saved, _ = await ready.pipeline(narrowed("id"))
    waiting = await ready.submit(saved)
    for document, more in ((RETRY, {}), (RERUN, {"step": "read"})):
        error = await api.ask(document, {"id": str(waiting), **more})
        assert (error["__typename"], error["code"]) == ("ConflictError", "still_running")
    await supervised(ready)
    error = await api.ask(RETRY, {"id": str(waiting)})
    assert (error["__typename"], error["code"]) == ("ConflictError", "completed")
    assert "rerun" in error["hint"]
    error = await api.ask(RERUN, {"id": str(waiting), "step": "nowhere"})
    assert (error["__typename"], error["code"], error["path"]) == ("InvalidError", "unknown_step", "from_step")
    assert "narrow" in error["hint"]
    error = await api.ask(RETRY, {"id": str(UUID(int=1))})
    assert error["__typename"] == "NotFoundError"
    refused = await api.refusal(PREVIEW, {"id": str(waiting), "step": "nowhere"})
    assert refused["extensions"]["code"] == "unknown_step"


async def test_an_execution_retry_takes_up_what_failed_last(api: Api, ready: Bench) -> None:
    saved, _ = await ready.pipeline(narrowed())
    nothing = await api.ask(EXECUTE, {"id": str(saved), "input": {"executionType": "RETRY"}})
    assert (nothing["__typename"], nothing["code"]) == ("NotFoundError", "nothing_failed")
    failed, _ = await ready.again(saved)
    given = {"executionType": "RETRY", "idempotencyKey": "k"}
    taken = await api.ask(EXECUTE, {"id": str(saved), "input": given})
    assert taken["executionContext"]["retry_of"] == str(failed)
    assert (await api.ask(EXECUTE, {"id": str(saved), "input": given}))["id"] == taken["id"]
    assert (await api.ask(RETRY, {"id": str(failed), "key": "k"}))["id"] == taken["id"]
    other = await api.ask(EXECUTE, {"id": str(saved), "input": {**given, "parameters": {"a": 1}}})
    assert (other["__typename"], other["path"]) == ("InvalidError", "parameters")
    of = {"executionType": "RETRY", "retryOf": str(UUID(int=1))}
    assert (await api.ask(EXECUTE, {"id": str(saved), "input": of}))["__typename"] == "NotFoundError"


async def test_an_execution_is_retried_over_rest(api: Api, ready: Bench) -> None:
    failed, _ = await ready.run(narrowed())
    async with ready.database.transaction(ENGINEER) as session:
        query = text("SELECT pipeline_id FROM pipeline_executions WHERE id = :id")
        pipeline_id = (await session.execute(query, {"id": failed})).scalar_one()
    headers = {"authorization": f"Bearer {token(ENGINEER)}"}
    path = f"/api/data-pipelines/{pipeline_id}/execute"
    answer = await api.http.post(path, json={"execution_type": "retry", "retry_of": str(failed)}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "running"
    again = await api.http.post(path, json={"execution_type": "retry"}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "already_retried")


async def test_an_analyst_takes_nothing_up(api: Api, ready: Bench) -> None:
    failed, _ = await ready.run(narrowed())
    for document, more in ((RETRY, {}), (RERUN, {"step": "read"})):
        refused = await api.ask(document, {"id": str(failed), **more}, by=ANALYST)
        assert refused["__typename"] == "DeniedError"
    refused = await api.refusal(PREVIEW, {"id": str(failed)}, by=ANALYST)
    assert refused["extensions"]["code"] == "denied"


async def test_a_retry_is_of_the_version_that_failed(api: Api, ready: Bench) -> None:
    failed, _ = await ready.run(narrowed())
    async with ready.database.transaction(ENGINEER) as session:
        await session.execute(text("UPDATE data_pipelines SET version = 2"))
    assert (await api.ask(RETRY, {"id": str(failed)}))["version"] == 1
