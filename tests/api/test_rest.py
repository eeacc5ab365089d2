"""REST answers WS-269's interfaces exactly, through the same operations as GraphQL."""

from datetime import timedelta
from typing import Any, Literal

import asyncpg
import httpx
import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter

from models.executions import ErrorDetails, ExecutionState, PipelineExecution, StepExecution
from models.pipelines import DataPipeline
from runtime.access.principal import Principal
from runtime.database import Database
from runtime.pipelines import listing
from tests.kit.factories.pipelines import execution, pipeline, places, saved, simple
from tests.kit.graphql import Api, token
from tests.kit.identities import ANALYST, ENGINEER
from tests.kit.statements import recorded

PIPELINES = "/api/data-pipelines"

Status = Literal["running", "completed", "failed", "cancelled"]


class Exact(BaseModel):
    """An interface of WS-269: no further keys, and where a key may be absent it is never null."""

    model_config = ConfigDict(extra="forbid", strict=True)

    def model_post_init(self, context: object) -> None:
        nullable = {"last_execution"}
        for name in self.model_fields_set - nullable:
            assert getattr(self, name) is not None, f"{name} is null; an absent value leaves its key out"


class LastExecution(Exact):
    execution_id: str
    status: Status
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None
    records_processed: int
    data_quality_score: float | None = None


class Pipeline(Exact):
    id: str
    pipeline_name: str
    pipeline_type: Literal["etl", "streaming", "reporting", "sync"]
    description: str
    is_active: bool
    is_paused: bool
    last_execution: LastExecution | None
    next_scheduled_run: AwareDatetime | None = None
    success_rate_7d: float
    avg_execution_time_minutes: float
    created_at: AwareDatetime


class Summary(Exact):
    total_pipelines: int
    active_pipelines: int
    running_pipelines: int
    failed_pipelines_24h: int


class GetPipelines(Exact):
    pipelines: list[Pipeline]
    summary: Summary


class Accepted(Exact):
    execution_id: str
    pipeline_id: str
    status: Status
    estimated_duration_minutes: float | None = None
    started_at: AwareDatetime


class Execution(Exact):
    id: str
    execution_id: str
    execution_type: Literal["scheduled", "manual", "triggered", "retry"]
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None
    status: Status
    records_processed: int
    records_failed: int
    data_quality_score: float | None = None
    duration_minutes: float | None = None
    triggered_by: str


class Stats(Exact):
    total_executions: int
    success_rate: float
    avg_duration_minutes: float
    total_records_processed: int


class GetExecutions(Exact):
    executions: list[Execution]
    execution_stats: Stats


class Metrics(Exact):
    total_duration_ms: int
    extract_duration_ms: int
    transform_duration_ms: int
    load_duration_ms: int
    peak_memory_usage_mb: float
    avg_cpu_usage_percent: float


class Failure(Exact):
    error_type: str
    error_message: str
    failed_step: str
    retry_count: int


class Detailed(Exact):
    id: str
    execution_id: str
    pipeline_name: str
    started_at: AwareDatetime
    completed_at: AwareDatetime | None = None
    status: Status
    records_processed: int
    data_quality_score: float | None = None
    performance_metrics: Metrics
    error_details: Failure | None = None


class Step(Exact):
    id: str
    step_name: str
    step_type: Literal["extract", "transform", "load", "validate", "notify"]
    started_at: AwareDatetime | None = None
    completed_at: AwareDatetime | None = None
    status: Literal["running", "completed", "failed", "skipped"]
    records_in: int
    records_out: int
    processing_time_ms: int | None = None
    error_message: str | None = None
    transformation_stats: dict[str, Any] | None = None


class Check(Exact):
    rule_name: str
    rule_type: str
    records_checked: int
    records_passed: int
    pass_rate: float
    quality_score: float
    status: str
    sample_failures: list[Any] | None = None


class GetDetails(Exact):
    execution: Detailed
    steps: list[Step]
    quality_checks: list[Check]


@pytest.fixture(autouse=True)
async def _places(database: Database) -> None:
    await places(database)


async def send(
    api: Api, method: str, path: str, body: object = None, *, by: Principal | None = ENGINEER, **headers: str
) -> httpx.Response:
    signed = {} if by is None else {"authorization": f"Bearer {token(by)}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.http.request(method, path, json=body, headers={**signed, **named})


def exact(kind: type[Exact], answer: httpx.Response, status: int = 200) -> Any:
    """The answer as its interface; AssertionError or ValidationError where it differs."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return TypeAdapter(kind).validate_json(answer.content)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    return told


async def test_a_create_answers_201_with_the_item_of_the_list(api: Api) -> None:
    made = exact(Pipeline, await send(api, "POST", PIPELINES, simple()), 201)
    assert (made.pipeline_name, made.pipeline_type, made.last_execution) == ("wedding-booking-etl", "etl", None)
    assert (made.success_rate_7d, made.avg_execution_time_minutes) == (0.0, 0.0)
    listed = exact(GetPipelines, await send(api, "GET", PIPELINES))
    assert listed.pipelines == [made]
    assert listed.summary.total_pipelines == 1


async def test_a_list_shows_the_last_execution_and_the_figures(api: Api, database: Database) -> None:
    row = await pipeline(database, simple(description=None))
    await saved(
        database,
        execution(row.id, took=timedelta(minutes=3), ago=timedelta(hours=2)),
        execution(row.id, ExecutionState.RUNNING),
        execution(row.id, ExecutionState.FAILED, ago=timedelta(hours=3)),
    )
    answer = exact(GetPipelines, await send(api, "GET", PIPELINES))
    (shown,) = answer.pipelines
    assert (shown.description, shown.success_rate_7d, shown.avg_execution_time_minutes) == ("", 50.0, 3.0)
    assert shown.last_execution is not None
    assert (shown.last_execution.status, shown.last_execution.completed_at) == ("running", None)
    assert shown.last_execution.data_quality_score == 97.5
    assert answer.summary.model_dump() == {
        "total_pipelines": 1,
        "active_pipelines": 1,
        "running_pipelines": 1,
        "failed_pipelines_24h": 1,
    }


async def test_a_partial_update_answers_200_and_leaves_the_rest(api: Api, database: Database) -> None:
    row = await pipeline(database)
    path = f"{PIPELINES}/{row.id}"
    changed = exact(Pipeline, await send(api, "PUT", path, {"description": "Other", "is_paused": True}))
    assert (changed.description, changed.is_paused, changed.is_active) == ("Other", True, True)
    back = exact(Pipeline, await send(api, "PUT", path, {"is_paused": False, "is_active": False}))
    assert (back.description, back.is_paused, back.is_active) == ("Other", False, False)
    same = exact(Pipeline, await send(api, "PUT", path, {}))
    assert same == back


async def test_an_execution_is_accepted_and_listed(api: Api, database: Database) -> None:
    row = await pipeline(database)
    body = {"execution_type": "manual", "parameters": {"start_date": "2024-01-01"}, "dry_run": False}
    made = exact(Accepted, await send(api, "POST", f"{PIPELINES}/{row.id}/execute", body))
    assert (made.pipeline_id, made.status) == (str(row.id), "running")
    listed = exact(GetExecutions, await send(api, "GET", f"{PIPELINES}/{row.id}/executions"))
    (shown,) = listed.executions
    assert (shown.execution_id, shown.execution_type) == (made.execution_id, "manual")
    assert (shown.triggered_by, shown.duration_minutes) == (str(ENGINEER.user_id), None)
    assert listed.execution_stats.total_executions == 1


async def test_an_execution_may_be_asked_to_go_before_others(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    path = f"{PIPELINES}/{(await pipeline(database)).id}/execute"
    exact(Accepted, await send(api, "POST", path, {"priority": 50}))
    assert await owner.fetchval("SELECT priority FROM work_items") == 50
    refused = problem(await send(api, "POST", path, {"priority": 1_001}), 400)
    assert (refused["path"], refused["hint"]) == ("priority", "say -1000 to 1000")


async def test_what_an_execution_is_expected_to_take_is_told_once_there_is_history(
    api: Api, database: Database
) -> None:
    row = await pipeline(database)
    path = f"{PIPELINES}/{row.id}/execute"
    first = await send(api, "POST", path)
    assert "estimated_duration_minutes" not in first.json()
    await saved(database, *(execution(row.id, took=timedelta(minutes=took)) for took in (1, 5, 90)))
    assert exact(Accepted, await send(api, "POST", path)).estimated_duration_minutes == 5


async def test_a_body_may_be_absent_and_a_key_makes_a_repeat_the_same_execution(api: Api, database: Database) -> None:
    path = f"{PIPELINES}/{(await pipeline(database)).id}/execute"
    first, again, other = [
        exact(Accepted, await send(api, "POST", path, idempotency_key=key)) for key in ("a", "a", "b")
    ]
    assert first.execution_id == again.execution_id != other.execution_id
    told = problem(await send(api, "POST", path, {"dry_run": True}, idempotency_key="a"), 409)
    assert (told["code"], told["path"]) == ("idempotency_mismatch", "Idempotency-Key")


async def test_details_tell_steps_metrics_and_the_error(api: Api, database: Database) -> None:
    row = await pipeline(database)
    run = await failed_run(database, row)
    answer = exact(GetDetails, await send(api, "GET", f"{PIPELINES}/{row.id}/executions/{run.execution_id}/details"))
    assert answer.execution.pipeline_name == "wedding-booking-etl"
    assert answer.execution.error_details is not None
    assert answer.execution.error_details.failed_step == "extract"
    (step,) = answer.steps
    assert (step.step_name, step.step_type, step.status) == ("extract", "extract", "running")
    assert step.transformation_stats == {"camelCase": {"kept_as": "It_is"}, "none": None}
    assert answer.quality_checks == []


async def failed_run(database: Database, row: DataPipeline) -> PipelineExecution:
    run = execution(row.id, ExecutionState.FAILED)
    run.error_details = ErrorDetails(
        error_type="terminal", error_message="no such table", failed_step="extract", hint="look", path="x"
    )
    await saved(database, run)
    async with database.transaction(ENGINEER) as session:
        (steps,) = await listing.steps(session, [row.id])
        one = StepExecution(
            pipeline_execution_id=run.id,
            step_id=steps[0].id,
            step_name="extract",
            step_execution_id=f"{run.id}:extract",
            started_at=run.started_at,
            transformation_stats={"camelCase": {"kept_as": "It_is"}, "none": None},
        )
        session.add(one)
    return run


async def test_pages_are_linked(api: Api, database: Database) -> None:
    for name in ("a", "b", "c"):
        await pipeline(database, simple(name))
    path, seen = f"{PIPELINES}?limit=2", []
    while path:
        answer = await send(api, "GET", path)
        seen += [one.pipeline_name for one in exact(GetPipelines, answer).pipelines]
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == ["a", "b", "c"]


async def test_executions_are_linked(api: Api, database: Database) -> None:
    row = await pipeline(database)
    rows = [execution(row.id, ago=timedelta(hours=hours)) for hours in (1, 2, 3)]
    await saved(database, *rows)
    path, seen = f"{PIPELINES}/{row.id}/executions?limit=1", []
    while path:
        answer = await send(api, "GET", path)
        seen += [one.id for one in exact(GetExecutions, answer).executions]
        path = answer.links["next"]["url"] if "next" in answer.links else ""
    assert seen == [str(one.id) for one in rows]


@pytest.mark.parametrize(
    ("query", "path"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("page=2", "page")],
)
async def test_a_wrong_page_is_refused_with_its_parameter(api: Api, query: str, path: str) -> None:
    told = problem(await send(api, "GET", f"{PIPELINES}?{query}"), 400)
    assert (told["code"], told["path"]) == ("invalid", path)
    assert told["hint"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pipeline_typ": "etl"}, "pipeline_typ"),
        ({"pipelineType": "etl"}, "pipelineType"),
        ({"source_config": {"source_id": "x", "batchSize": 1}}, "source_config.batchSize"),
        ({"pipeline_type": "elt"}, "pipeline_type"),
    ],
)
async def test_an_unknown_key_is_refused_with_its_path(
    api: Api, database: Database, change: dict[str, object], path: str
) -> None:
    row = await pipeline(database, simple("there"))
    for method, url, body in (
        ("POST", PIPELINES, {**simple(), **change}),
        ("PUT", f"{PIPELINES}/{row.id}", change),
    ):
        told = problem(await send(api, method, url, body), 400)
        assert (told["code"], told["path"]) == ("invalid", path)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"parameter": {}}, "parameter"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"execution_type": "scheduled"}, "execution_type"),
        ({"parameters": []}, "parameters"),
    ],
)
async def test_a_wrong_submission_is_refused_with_its_path(
    api: Api, database: Database, body: dict[str, object], path: str
) -> None:
    row = await pipeline(database)
    told = problem(await send(api, "POST", f"{PIPELINES}/{row.id}/execute", body), 400)
    assert told["path"] == path


async def test_what_is_no_object_is_refused(api: Api) -> None:
    assert problem(await send(api, "POST", PIPELINES, [1]), 400)["code"] == "invalid"
    headers = {"authorization": f"Bearer {token(ENGINEER)}"}
    broken = await api.http.post(PIPELINES, content=b"{", headers=headers)
    assert "not JSON" in problem(broken, 400)["detail"]


async def test_each_failure_has_its_status(api: Api, database: Database) -> None:
    row = await pipeline(database)
    mine, nobody = f"{PIPELINES}/{row.id}", f"{PIPELINES}/{ENGINEER.user_id}"
    problem(await send(api, "POST", PIPELINES, simple()), 409)
    problem(await send(api, "PUT", nobody, {"is_paused": True}), 404)
    problem(await send(api, "GET", f"{nobody}/executions"), 404)
    problem(await send(api, "GET", f"{mine}/executions/none/details"), 404)
    problem(await send(api, "POST", PIPELINES, simple("mine"), by=ANALYST), 403)
    stranger = await send(api, "GET", PIPELINES, by=None)
    assert problem(stranger, 401)["code"] == "unauthenticated"
    assert stranger.headers["www-authenticate"] == "Bearer"
    problem(await send(api, "DELETE", PIPELINES), 405)
    await send(api, "PUT", mine, {"is_paused": True})
    assert problem(await send(api, "POST", f"{mine}/execute"), 409)["hint"]


async def test_an_execution_of_another_pipeline_is_not_found(api: Api, database: Database) -> None:
    mine, other = await pipeline(database), await pipeline(database, simple("other"))
    run = execution(mine.id)
    await saved(database, run)
    path = f"executions/{run.execution_id}/details"
    exact(GetDetails, await send(api, "GET", f"{PIPELINES}/{mine.id}/{path}"))
    assert problem(await send(api, "GET", f"{PIPELINES}/{other.id}/{path}"), 404)["path"] == "execution_id"
    assert problem(await send(api, "GET", f"{PIPELINES}/{mine.id}/{path}", by=ANALYST), 404)


async def test_a_list_takes_four_statements_whatever_its_length(api: Api, database: Database) -> None:
    await send(api, "GET", PIPELINES)
    counts = []
    for number in range(3):
        row = await pipeline(database, simple(f"p{number}"))
        await saved(database, execution(row.id))
        with recorded(database) as statements:
            exact(GetPipelines, await send(api, "GET", PIPELINES))
        counts.append(len(statements))
    assert counts == [4, 4, 4]
