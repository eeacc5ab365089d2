"""Executions are started, stopped and read through GraphQL, by those who may."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from models.events import EventKind
from models.executions import ErrorDetails, ExecutionState, PipelineExecution, StepExecution
from models.pipelines import DataPipeline
from runtime.database import Database
from runtime.pipelines import listing
from tests.kit.factories.pipelines import execution, pipeline, places, saved, told
from tests.kit.graphql import Api
from tests.kit.identities import ANALYST, ENGINEER, OTHER_ANALYST, RUNTIME

ERROR = "... on Error { code message hint path }"
FIELDS = "id executionId executionType status state dryRun version triggeredBy executionContext durationMinutes"
EXECUTE = f"""mutation($id: ID!, $input: ExecutePipelineInput) {{
    executePipeline(id: $id, input: $input) {{
        __typename ... on Execution {{ {FIELDS} pipeline {{ pipelineName }} events {{ kind seq cursor }} }}
        {ERROR} }} }}"""
CANCEL = f"""mutation($id: ID!) {{
    cancelExecution(id: $id) {{ __typename ... on Execution {{ status state cancelRequestedAt }} {ERROR} }} }}"""
READ = f"query($reference: String!) {{ execution(reference: $reference) {{ {FIELDS} }} }}"


@pytest.fixture
async def bookings(database: Database) -> DataPipeline:
    await places(database)
    return await pipeline(database)


async def executed(api: Api, reference: object, **given: object) -> Any:
    return await api.ask(EXECUTE, {"id": str(reference), "input": given})


async def test_an_execution_is_queued_with_its_first_event(api: Api, bookings: DataPipeline) -> None:
    made = await executed(api, bookings.pipeline_name, parameters={"start_date": "2024-01-01"})
    assert (made["status"], made["state"], made["version"]) == ("RUNNING", "QUEUED", 1)
    assert made["executionContext"] == {"parameters": {"start_date": "2024-01-01"}}
    assert made["triggeredBy"] == str(ENGINEER.user_id)
    assert made["durationMinutes"] is None
    assert made["pipeline"]["pipelineName"] == "wedding-booking-etl"
    assert made["events"] == [{"kind": "EXECUTION_QUEUED", "seq": 1, "cursor": "1"}]


async def test_the_same_key_gives_the_same_execution(api: Api, bookings: DataPipeline) -> None:
    first = await executed(api, bookings.id, idempotencyKey="k")
    again = await executed(api, bookings.id, idempotencyKey="k")
    assert first["id"] == again["id"]
    other = await executed(api, bookings.id, idempotencyKey="k", dryRun=True)
    assert (other["__typename"], other["path"]) == ("ConflictError", "idempotency_key")
    typed = await executed(api, bookings.id, idempotencyKey="k", executionType="RETRY")
    assert (typed["__typename"], typed["code"]) == ("ConflictError", "idempotency_mismatch")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"executionType": "SCHEDULED"}, "execution_type"),
        ({"idempotencyKey": ""}, "idempotency_key"),
        ({"idempotencyKey": "x" * 201}, "idempotency_key"),
        ({"parameters": [1]}, "parameters"),
    ],
)
async def test_what_is_wrong_with_a_submission_is_told(
    api: Api, bookings: DataPipeline, given: dict[str, object], path: str
) -> None:
    error = await executed(api, bookings.id, **given)
    assert (error["__typename"], error["path"]) == ("InvalidError", path)


@pytest.mark.parametrize(("edit", "code"), [("isPaused: true", "paused"), ("isActive: false", "inactive")])
async def test_a_stopped_pipeline_refuses_with_what_to_do(
    api: Api, bookings: DataPipeline, edit: str, code: str
) -> None:
    document = f"mutation($id: ID!) {{ updatePipeline(id: $id, input: {{{edit}}}) {{ __typename }} }}"
    await api.ask(document, {"id": str(bookings.id)})
    error = await executed(api, bookings.id)
    assert (error["__typename"], error["code"]) == ("ConflictError", code)
    assert error["hint"]


async def test_a_waiting_execution_is_cancelled_at_once(api: Api, bookings: DataPipeline) -> None:
    made = await executed(api, bookings.id)
    gone = await api.ask(CANCEL, {"id": made["executionId"]})
    assert (gone["status"], gone["state"]) == ("CANCELLED", "CANCELLED")
    again = await api.ask(CANCEL, {"id": made["id"]})
    assert (again["code"], again["message"]) == ("already_ended", "the execution is cancelled already")
    assert "cannot be stopped" in again["hint"]


async def test_a_running_execution_is_asked_to_stop(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id, ExecutionState.RUNNING)
    await saved(database, row)
    asked = await api.ask(CANCEL, {"id": str(row.id)})
    assert (asked["status"], asked["state"]) == ("RUNNING", "CANCELLING")


async def test_an_analyst_neither_starts_nor_stops(api: Api, bookings: DataPipeline) -> None:
    made = await executed(api, bookings.id)
    for document, identity in ((EXECUTE, bookings.id), (CANCEL, made["id"])):
        refused = await api.ask(document, {"id": str(identity)}, by=ANALYST)
        assert refused["__typename"] == "DeniedError"


async def test_an_analyst_reads_their_own_executions_alone(
    api: Api, database: Database, bookings: DataPipeline
) -> None:
    mine, others = execution(bookings.id, by=ANALYST), execution(bookings.id, by=OTHER_ANALYST)
    await saved(database, mine, others, by=RUNTIME)
    page = await api.ask("{executions{totalCount nodes{id}}}", by=ANALYST)
    assert page == {"totalCount": 1, "nodes": [{"id": str(mine.id)}]}
    assert (await api.ask(READ, {"reference": mine.execution_id}, by=ANALYST))["id"] == str(mine.id)
    hidden = await api.refusal(READ, {"reference": str(others.id)}, by=ANALYST)
    assert hidden["extensions"]["code"] == "not_found"
    node = "query($id: ID!) { node(id: $id) { id } }"
    assert await api.ask(node, {"id": str(others.id)}, by=ANALYST) is None
    assert await api.ask(node, {"id": str(mine.id)}, by=ANALYST) == {"id": str(mine.id)}


async def test_executions_are_found_by_pipeline_and_status(
    api: Api, database: Database, bookings: DataPipeline
) -> None:
    failed = execution(bookings.id, ExecutionState.FAILED)
    await saved(database, failed, execution(bookings.id, ago=timedelta(minutes=9)))
    document = """query($pipeline: String, $status: ExecutionStatus) {
        executions(pipeline: $pipeline, status: $status) { nodes { id } } }"""
    found = await api.ask(document, {"pipeline": "wedding-booking-etl", "status": "FAILED"})
    assert found["nodes"] == [{"id": str(failed.id)}]
    missing = await api.refusal(document, {"pipeline": "nothing"})
    assert missing["extensions"]["code"] == "not_found"


async def test_a_failed_execution_tells_why_and_how_its_steps_went(
    api: Api, database: Database, bookings: DataPipeline, owner: asyncpg.Connection
) -> None:
    row = await failed_run(database, bookings)
    document = """query($reference: String!) { execution(reference: $reference) {
        errorDetails { errorType errorMessage failedStep retryCount hint path }
        performanceMetrics { totalDurationMs peakMemoryUsageMb }
        qualityChecks { ruleName }
        steps { stepName stepType status recordsIn inputDataSample outputDataSample } } }"""
    found = await api.ask(document, {"reference": row.execution_id})
    assert found["errorDetails"]["failedStep"] == "extract"
    assert found["performanceMetrics"]["totalDurationMs"] == 0
    (step,) = found["steps"]
    assert (step["stepType"], step["inputDataSample"], step["outputDataSample"]) == ("EXTRACT", None, [{"id": 1}])
    assert await owner.fetchval("SELECT count(*) FROM audit_log WHERE action = 'read_samples'") >= 1


async def failed_run(database: Database, bookings: DataPipeline) -> PipelineExecution:
    row = execution(bookings.id, ExecutionState.FAILED)
    row.error_details = ErrorDetails(error_type="terminal", error_message="no such table", failed_step="extract")
    await saved(database, row)
    async with database.transaction(ENGINEER) as session:
        (steps,) = await listing.steps(session, [bookings.id])
        one = StepExecution(
            pipeline_execution_id=row.id,
            step_id=steps[0].id,
            step_name="extract",
            step_execution_id=f"{row.id}:extract",
            started_at=row.started_at,
            output_data_sample=[{"id": 1}],
        )
        session.add(one)
    return row


async def test_events_are_read_on_from_a_cursor(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id, ExecutionState.RUNNING)
    await saved(database, row)
    await told(database, row, [EventKind.STEP_PROGRESS] * 5)
    document = """query($reference: String!, $after: String) { execution(reference: $reference) {
        events(first: 2, after: $after) { seq cursor kind payload executionId } } }"""
    first = (await api.ask(document, {"reference": str(row.id)}))["events"]
    rest = (await api.ask(document, {"reference": str(row.id), "after": first[-1]["cursor"]}))["events"]
    assert [event["seq"] for event in [*first, *rest]] == [1, 2, 3, 4]
    assert (first[0]["payload"], first[0]["executionId"]) == ({"n": 1}, str(row.id))
    wrong = await api.refusal(document, {"reference": str(row.id), "after": "x"})
    assert wrong["extensions"]["path"] == "after"
