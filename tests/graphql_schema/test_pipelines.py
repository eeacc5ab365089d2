"""Pipelines are saved, compiled, listed, rolled back and tried out through GraphQL."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from runtime.database import Database
from runtime.pipelines.store import Edit, update
from tests.kit.factories.pipelines import execution, explicit, pipeline, places, saved, simple
from tests.kit.graphql import Api
from tests.kit.identities import ADMIN, ANALYST, ENGINEER
from tests.kit.statements import recorded

FIELDS = "id pipelineName pipelineType description tags isActive isPaused version sourceConfig"
ERROR = "... on Error { code message hint path }"
CREATE = f"""mutation($definition: JSON!, $message: String) {{
    createPipeline(input: {{definition: $definition, message: $message}}) {{
        __typename ... on Pipeline {{ {FIELDS} createdBy }} {ERROR} }} }}"""
UPDATE = f"""mutation($id: ID!, $input: UpdatePipelineInput!) {{
    updatePipeline(id: $id, input: $input) {{ __typename ... on Pipeline {{ {FIELDS} }} {ERROR} }} }}"""
APPLY = f"""mutation($definition: JSON!, $dryRun: Boolean!) {{
    applyPipeline(definition: $definition, dryRun: $dryRun) {{
        __typename ... on AppliedPipeline {{
            action changes {{ kind path old new }} plan {{ fingerprint }} pipeline {{ version }} }} {ERROR} }} }}"""
VALIDATE = f"""mutation($definition: JSON!) {{
    validatePipeline(definition: $definition) {{
        __typename ... on Plan {{
            notes text steps {{ name type sql columns {{ name type }} }} tasks {{ name members }} }} {ERROR} }} }}"""
PREVIEW = f"""mutation($input: PreviewPipelineInput!) {{
    previewPipeline(input: $input) {{
        __typename ... on Preview {{ steps {{ name columns {{ name type }} rows recordsIn recordsOut error }} }}
        {ERROR} }} }}"""


@pytest.fixture(autouse=True)
async def _places(database: Database) -> None:
    await places(database)


async def created(api: Api, definition: Mapping[str, object] | None = None) -> Any:
    answer = await api.ask(CREATE, {"definition": definition or simple(), "message": "first"})
    assert answer["__typename"] == "Pipeline", answer
    return answer


async def test_should_create_etl_pipeline_with_transformations(api: Api) -> None:
    made = await created(api)
    assert made["id"]
    assert (made["pipelineType"], made["version"], made["createdBy"]) == ("ETL", 1, str(ENGINEER.user_id))
    assert made["sourceConfig"] == simple()["source_config"]


async def test_a_pipeline_shows_its_definition_plan_steps_and_versions(api: Api) -> None:
    made = await created(api)
    document = """query($reference: String!) { pipeline(reference: $reference) {
        definition transformationConfig scheduleConfig
        plan { steps { name columns { name type } } tasks { members } }
        steps { stepName stepType kind stepConfig dependsOn }
        versions { totalCount nodes { version message document fingerprint plan { fingerprint } } } } }"""
    found = await api.ask(document, {"reference": made["id"]}, by=ANALYST)
    assert found == await api.ask(document, {"reference": made["pipelineName"]})
    assert found["definition"] == simple()
    assert found["scheduleConfig"]["expression"] == "0 */4 * * *"
    names = [column["name"] for column in found["plan"]["steps"][1]["columns"]]
    assert names == ["booking_id", "venue_name", "wedding_date"]
    assert [step["stepType"] for step in found["steps"]] == ["EXTRACT", "TRANSFORM", "LOAD"]
    (version,) = found["versions"]["nodes"]
    assert (version["message"], version["plan"]["fingerprint"]) == ("first", version["fingerprint"])
    assert found["versions"]["totalCount"] == 1


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pipeline_typ": "etl"}, "pipeline_typ"),
        ({"tags": "x"}, "tags"),
        ({"source_config": {"source_id": "wedding-api-dv", "dataset": "bookings"}}, "source_config.source_id"),
        (
            {"transformation_config": {"transformations": [{"type": "mapping", "config": {"mappings": {"x": "no"}}}]}},
            "transformation_config.transformations[0].config.mappings.x",
        ),
        (
            {"transformation_config": {"transformations": [{"type": "filter", "config": {"condition": "price >"}}]}},
            "transformation_config.transformations[0].config.condition",
        ),
    ],
)
async def test_what_is_wrong_with_a_definition_is_told_with_its_path(
    api: Api, change: dict[str, object], path: str
) -> None:
    for document in (CREATE, VALIDATE):
        error = await api.ask(document, {"definition": {**simple(), **change}})
        assert (error["__typename"], error["path"]) == ("InvalidError", path)
    wrong = await api.ask(VALIDATE, {"definition": {**simple(), "source_config": {"source_id": "wedding-api-dv"}}})
    assert "wedding-api-db" in wrong["hint"]


@pytest.mark.parametrize("definition", ["text", 1, [], None])
async def test_a_definition_must_be_an_object(api: Api, definition: object) -> None:
    answer = await api.execute(VALIDATE, {"definition": definition})
    told = answer["errors"][0]["message"] if "errors" in answer else answer["data"]["validatePipeline"]["message"]
    assert "object" in told or "null" in told


async def test_a_cycle_is_refused_with_the_names_of_its_steps(api: Api) -> None:
    steps = explicit()["steps"]
    assert isinstance(steps, list)
    looped = {
        **explicit(),
        "steps": [
            {**step, "depends_on": ["write"]} if step["name"] == "dear" else step
            for step in steps
            if isinstance(step, dict)
        ],
    }
    error = await api.ask(VALIDATE, {"definition": looped})
    assert error["__typename"] == "InvalidError"
    assert "dear" in error["message"]
    assert "write" in error["message"]


async def test_validating_compiles_and_saves_nothing(api: Api) -> None:
    plan = await api.ask(VALIDATE, {"definition": explicit()}, by=ANALYST)
    assert [step["name"] for step in plan["steps"]] == ["read", "dear", "write"]
    assert "price > 1000" in plan["text"]
    assert (await api.ask("{pipelines{nodes{id}}}"))["nodes"] == []


async def test_a_change_of_some_keys_makes_a_version_and_null_removes_a_key(api: Api) -> None:
    made = await created(api)
    changes = {"description": None, "tags": ["season"]}
    changed = await api.ask(UPDATE, {"id": made["pipelineName"], "input": {"changes": changes, "expectedVersion": 1}})
    assert (changed["version"], changed["description"], changed["tags"]) == (2, None, ["season"])
    again = await api.ask(UPDATE, {"id": made["id"], "input": {"changes": changes}})
    assert again["version"] == 2
    late = await api.ask(UPDATE, {"id": made["id"], "input": {"changes": {"tags": []}, "expectedVersion": 1}})
    assert (late["__typename"], late["code"]) == ("ConflictError", "version_mismatch")
    both = await api.ask(UPDATE, {"id": made["id"], "input": {"changes": {}, "definition": simple()}})
    assert (both["__typename"], both["path"]) == ("InvalidError", "changes")


async def test_the_changes_of_a_version_are_listed(api: Api) -> None:
    made = await created(api)
    await api.ask(UPDATE, {"id": made["id"], "input": {"definition": simple(description="Other")}})
    document = '{pipeline(reference:"wedding-booking-etl"){versions(first:1){nodes{changes{kind path old new}}}}}'
    (newest,) = (await api.ask(document))["versions"]["nodes"]
    assert newest["changes"] == [
        {"kind": "CHANGED", "path": "description", "old": simple()["description"], "new": "Other"}
    ]


async def test_a_rollback_saves_an_earlier_version_anew(api: Api) -> None:
    made = await created(api)
    await api.ask(UPDATE, {"id": made["id"], "input": {"changes": {"description": "Other"}}})
    rollback = f"""mutation($id: ID!, $version: Int!) {{ rollbackPipeline(id: $id, version: $version) {{
        __typename ... on Pipeline {{ version description }} {ERROR} }} }}"""
    back = await api.ask(rollback, {"id": made["id"], "version": 1})
    assert (back["version"], back["description"]) == (3, simple()["description"])
    missing = await api.ask(rollback, {"id": made["id"], "version": 9})
    assert (missing["__typename"], missing["path"]) == ("NotFoundError", "version")
    plan = 'query($version: Int) { plan(pipeline: "wedding-booking-etl", version: $version) { fingerprint } }'
    assert (await api.ask(plan, {"version": 1})) == (await api.ask(plan, {"version": 3})) == (await api.ask(plan))


async def test_a_pipeline_is_paused_resumed_and_archived(api: Api) -> None:
    made = await created(api)
    for verb, paused in (("pause", True), ("pause", True), ("resume", False)):
        document = f"mutation($id: ID!) {{ {verb}Pipeline(id: $id) {{ ... on Pipeline {{ isPaused version }} }} }}"
        assert await api.ask(document, {"id": made["id"]}) == {"isPaused": paused, "version": 1}
    archive = f"""mutation($id: ID!) {{ archivePipeline(id: $id) {{
        ... on Pipeline {{ archivedAt }} {ERROR} }} }}"""
    gone = await api.ask(archive, {"id": made["id"]})
    assert gone["archivedAt"]
    assert (await api.ask(archive, {"id": made["id"]}))["code"] == "not_found"
    assert (await created(api))["id"] != made["id"]


async def test_applying_says_what_it_did_or_would_do(api: Api) -> None:
    rehearsed = await api.ask(APPLY, {"definition": simple(), "dryRun": True})
    assert (rehearsed["action"], rehearsed["pipeline"]) == ("CREATED", None)
    assert (await api.ask(APPLY, {"definition": simple(), "dryRun": False}))["action"] == "CREATED"
    changed = await api.ask(APPLY, {"definition": simple(tags=["x"]), "dryRun": False})
    assert (changed["action"], changed["pipeline"]["version"]) == ("UPDATED", 2)
    assert [change["path"] for change in changed["changes"]] == ["tags"]
    same = await api.ask(APPLY, {"definition": simple(tags=["x"]), "dryRun": False})
    assert (same["action"], same["changes"], same["pipeline"]["version"]) == ("UNCHANGED", [], 2)


async def test_an_analyst_reads_and_validates_and_changes_nothing(api: Api) -> None:
    made = await created(api)
    for document, variables in (
        (CREATE, {"definition": simple("mine")}),
        (UPDATE, {"id": made["id"], "input": {"isPaused": True}}),
        (APPLY, {"definition": simple("mine"), "dryRun": True}),
        ("mutation($id: ID!) { archivePipeline(id: $id) { __typename } }", {"id": made["id"]}),
    ):
        assert (await api.ask(document, variables, by=ANALYST))["__typename"] == "DeniedError"


async def test_changes_are_audited(api: Api, owner: asyncpg.Connection) -> None:
    made = await created(api)
    await api.ask(UPDATE, {"id": made["id"], "input": {"isPaused": True}}, by=ADMIN)
    rows = await owner.fetch(
        "SELECT action, actor, entity_id FROM audit_log WHERE entity_type = 'pipeline' ORDER BY id"
    )
    assert [(row["action"], row["actor"]) for row in rows] == [
        ("create", ENGINEER.user_id),
        ("update", ADMIN.user_id),
    ]
    assert {row["entity_id"] for row in rows} == {made["id"]}


LIST = """query($first: Int!, $filter: PipelineFilter) { pipelines(first: $first, filter: $filter) {
    nodes { pipelineName successRate7d avgExecutionTimeMinutes lastExecution { executionId status steps { stepName } }
        steps { stepName } definition plan { fingerprint } executions(first: 2) { nodes { id } }
        executionStats { totalExecutions successRate } } } }"""


async def test_a_list_takes_the_same_statements_for_one_pipeline_and_for_many(api: Api, database: Database) -> None:
    rows = [await pipeline(database, simple(f"p{number:02}")) for number in range(12)]
    await saved(database, *(execution(row.id) for row in rows))
    await api.ask("{connectorKinds{kind}}")
    with recorded(database) as few:
        assert len((await api.ask(LIST, {"first": 1}))["nodes"]) == 1
    with recorded(database) as many:
        page = await api.ask(LIST, {"first": 12})
    assert len(page["nodes"]) == 12
    assert len(few) == len(many) <= 9
    assert page["nodes"][0]["successRate7d"] == 100.0
    assert page["nodes"][0]["executionStats"]["totalExecutions"] == 1


PLAIN = """query($first: Int!) { pipelines(first: $first) { totalCount nodes { id pipelineName tags successRate7d
    avgExecutionTimeMinutes sourceConfig
    lastExecution { executionId status dataQualityScore executionContext errorDetails { errorType }
        performanceMetrics { totalDurationMs } } } } }"""


async def test_a_plain_list_takes_five_statements_and_reads_what_is_asked_for(api: Api, database: Database) -> None:
    rows = [await pipeline(database, simple(f"p{number}", tags=["season"])) for number in range(3)]
    runs = [execution(row.id, took=timedelta(minutes=3)) for row in rows[:2]]
    await saved(database, *runs)
    await api.ask("{connectorKinds{kind}}")
    with recorded(database) as few:
        await api.ask(PLAIN, {"first": 1})
    with recorded(database) as many:
        page = await api.ask(PLAIN, {"first": 3})
    assert len(few) == len(many) == 5
    assert page["totalCount"] == 3
    first, _, idle = page["nodes"]
    assert (first["id"], first["tags"], first["sourceConfig"]) == (str(rows[0].id), ["season"], rows[0].source_config)
    assert (first["successRate7d"], first["avgExecutionTimeMinutes"]) == (100.0, 3.0)
    assert first["lastExecution"] == {
        "executionId": runs[0].execution_id,
        "status": "COMPLETED",
        "dataQualityScore": 97.5,
        "executionContext": {"parameters": {}},
        "errorDetails": None,
        "performanceMetrics": {"totalDurationMs": 0},
    }
    assert (idle["successRate7d"], idle["lastExecution"]) == (0.0, None)


async def test_an_analyst_sees_no_others_executions_in_a_list(api: Api, database: Database) -> None:
    row = await pipeline(database)
    await saved(database, execution(row.id, by=ENGINEER))
    document = "{ pipelines { nodes { successRate7d lastExecution { id } } } }"
    shown = {role: (await api.ask(document, by=role))["nodes"] for role in (ENGINEER, ANALYST)}
    assert shown[ENGINEER][0]["lastExecution"] is not None
    assert shown[ANALYST] == [{"successRate7d": 0.0, "lastExecution": None}]


async def test_a_list_is_filtered(api: Api, database: Database) -> None:
    await pipeline(database, simple("first", tags=["season"]))
    second = await pipeline(database, simple("second"))
    async with database.transaction(ENGINEER) as session:
        await update(session, second.id, Edit(is_paused=True), ENGINEER)
    for wanted, names in (
        ({"tags": ["season"]}, ["first"]),
        ({"isPaused": True, "pipelineType": "ETL"}, ["second"]),
        ({"search": "SECO"}, ["second"]),
    ):
        page = await api.ask(LIST, {"first": 20, "filter": wanted})
        assert [node["pipelineName"] for node in page["nodes"]] == names


async def test_the_summary_counts_pipelines(api: Api, database: Database) -> None:
    row = await pipeline(database)
    await saved(database, execution(row.id))
    summary = await api.ask("{pipelineSummary{totalPipelines activePipelines runningPipelines failedPipelines24h}}")
    assert summary == {
        "totalPipelines": 1,
        "activePipelines": 1,
        "runningPipelines": 0,
        "failedPipelines24h": 0,
    }


async def test_kinds_and_definitions_tell_their_schemas(api: Api) -> None:
    kinds = await api.ask("{transformKinds{kind description configSchema rowWise}}")
    assert {"mapping", "filter", "join"} <= {kind["kind"] for kind in kinds}
    assert all(kind["configSchema"]["type"] == "object" for kind in kinds)
    assert "pipeline_name" in (await api.ask("{definitionSchema}"))["properties"]


async def test_a_preview_asks_for_one_thing_and_checks_it_first(api: Api) -> None:
    for given in ({}, {"definition": simple(), "id": "x"}):
        assert (await api.ask(PREVIEW, {"input": given}))["path"] == "definition"
    wrong = await api.ask(PREVIEW, {"input": {"definition": {**simple(), "pipeline_typ": 1}}})
    assert wrong["path"] == "pipeline_typ"
    assert (await api.ask(PREVIEW, {"input": {"id": "nothing"}}))["__typename"] == "NotFoundError"


@pytest.mark.parametrize(
    "selection", ["nodes { sourceConfig }", "edges { node { ...wide } }", "nodes { ... on Pipeline { alertConfig } }"]
)
async def test_a_list_reads_documents_when_they_are_asked_for(api: Api, selection: str) -> None:
    await created(api)
    wide = "fragment wide on Pipeline { scheduleConfig retryPolicy }" if "wide" in selection else ""
    page = await api.ask(f"{{ pipelines {{ {selection} }} }} {wide}")
    (one,) = page.get("nodes") or [edge["node"] for edge in page["edges"]]
    assert one
    assert one == await api.ask(f'{{ pipeline(reference: "{simple()["pipeline_name"]}") {{ {" ".join(one)} }} }}')
