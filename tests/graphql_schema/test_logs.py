"""An execution's log is read page by page, by those who may see the execution."""

import pytest

from models.pipelines import DataPipeline
from runtime.database import Database
from runtime.executions.logs import LogFile
from tests.kit.factories.pipelines import execution, pipeline, places, saved
from tests.kit.graphql import Api
from tests.kit.identities import ANALYST, ENGINEER, OTHER_ANALYST, RUNTIME

LOGS = """query ($reference: String!, $after: Long! = 0) {
    executionLogs(reference: $reference, after: $after) { lines cursor } }"""


@pytest.fixture
async def bookings(database: Database) -> DataPipeline:
    await places(database)
    return await pipeline(database)


async def test_a_log_is_read_on_from_a_cursor(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    await saved(database, row, by=RUNTIME)
    log = LogFile(api.settings.artifacts, row.id)
    log.write([{"kind": "step_started", "step": "extract"}])
    first = await api.ask(LOGS, {"reference": row.execution_id})
    assert first["lines"] == [{"kind": "step_started", "step": "extract"}]
    log.write([{"kind": "step_failed", "error": "jane@example.org is no number"}])
    second = await api.ask(LOGS, {"reference": str(row.id), "after": first["cursor"]})
    (line,) = second["lines"]
    assert line["kind"] == "step_failed"
    assert "jane@example.org" not in line["error"]
    last = await api.ask(LOGS, {"reference": str(row.id), "after": second["cursor"]})
    assert last == {"lines": [], "cursor": second["cursor"]}


async def test_what_has_yet_to_begin_has_an_empty_log(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    await saved(database, row, by=RUNTIME)
    assert await api.ask(LOGS, {"reference": row.execution_id}) == {"lines": [], "cursor": 0}


async def test_a_log_whose_retention_is_over_is_told(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    row.logs_location = "logs/gone.jsonl"
    await saved(database, row, by=RUNTIME)
    error = await api.refusal(LOGS, {"reference": row.execution_id})
    assert error["message"] == "the log is not in the artifact store"


async def test_an_analyst_reads_the_logs_of_their_own_executions_alone(
    api: Api, database: Database, bookings: DataPipeline
) -> None:
    row = execution(bookings.id, by=ANALYST)
    await saved(database, row, by=RUNTIME)
    LogFile(api.settings.artifacts, row.id).write([{"kind": "execution_started"}])
    for person in (ANALYST, ENGINEER):
        assert len((await api.ask(LOGS, {"reference": row.execution_id}, by=person))["lines"]) == 1
    hidden = await api.refusal(LOGS, {"reference": row.execution_id}, by=OTHER_ANALYST)
    assert hidden["extensions"]["code"] == "not_found"


async def test_a_cursor_before_the_start_is_refused(api: Api, database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    await saved(database, row, by=RUNTIME)
    error = await api.refusal(LOGS, {"reference": row.execution_id, "after": -1})
    assert error["extensions"]["path"] == "after"
