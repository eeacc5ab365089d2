"""Sources are added, changed, tested and discovered, and never tell their configuration."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from api.app import create_app
from runtime.access.principal import Principal
from runtime.access.sealing import sealer_of
from runtime.bus import Bus
from runtime.connectors.opening import open_source
from runtime.database import Database
from runtime.settings import Settings
from tests.kit.graphql import Api
from tests.kit.identities import ADMIN, ANALYST, ENGINEER, RUNTIME
from tests.kit.statements import recorded

CREATE = """
    mutation($input: CreateSourceInput!) {
        createSource(input: $input) {
            __typename
            ... on Source { id sourceName sourceType kind isActive healthStatus createdBy monitoringConfig }
            ... on Error { code message hint path }
        }
    }
"""
UPDATE = """
    mutation($id: ID!, $input: UpdateSourceInput!) {
        updateSource(id: $id, input: $input) {
            __typename
            ... on Source { sourceName isActive monitoringConfig }
            ... on Error { code message hint path }
        }
    }
"""
ARCHIVE = """
    mutation($id: ID!) {
        archiveSource(id: $id) {
            __typename
            ... on Source { sourceName isActive archivedAt }
            ... on Error { code message hint }
        }
    }
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "guests.csv").write_text("id,name,seats\n1,Ann,2\n2,Bob,1\n")
    return folder


def given(files: Path, **others: object) -> dict[str, object]:
    return {"sourceName": "guests", "kind": "csv", "connectionConfig": {"root": str(files)}, **others}


async def created(api: Api, files: Path, **others: object) -> Any:
    source = await api.ask(CREATE, {"input": given(files, **others)})
    assert source["__typename"] == "Source", source
    return source


async def test_a_source_is_added_with_its_type_from_its_connector(api: Api, files: Path) -> None:
    source = await created(api, files, monitoringConfig={"interval_seconds": 60})
    assert source["sourceType"] == "FILE"
    assert source["healthStatus"] == "UNKNOWN"
    assert source["isActive"] is True
    assert source["createdBy"] == str(ENGINEER.user_id)
    assert source["monitoringConfig"]["interval_seconds"] == 60


async def test_its_configuration_is_sealed_and_opens_for_the_runtime_alone(
    api: Api, files: Path, owner: asyncpg.Connection, database: Database
) -> None:
    source = await created(api, files)
    stored = await owner.fetchval("SELECT connection_config FROM data_sources")
    assert str(files) not in stored
    assert json.loads(stored)["key_id"] == "test"
    async with database.transaction(RUNTIME) as session:
        opened = await open_source(session, sealer_of(api.settings), UUID(source["id"]))
    assert opened.config.model_dump()["root"] == str(files)
    assert str(files) not in repr(opened)


async def test_an_envelope_copied_to_another_source_does_not_open(
    api: Api, files: Path, owner: asyncpg.Connection, working: None
) -> None:
    await created(api, files)
    other = await created(api, files, sourceName="other")
    await owner.execute(
        "UPDATE data_sources SET connection_config = "
        "(SELECT connection_config FROM data_sources WHERE source_name = 'guests') WHERE source_name = 'other'"
    )
    document = "mutation($id: ID!){testSource(id: $id){...on Error{code message}}}"
    refused = await api.ask(document, {"id": other["id"]})
    assert refused["message"] == "the sealed secret was changed or belongs elsewhere"


@pytest.mark.parametrize(
    ("change", "path", "hint"),
    [
        ({"connectionConfig": {"root": "/x", "rot": "/x"}}, "connection_config.rot", "root"),
        ({"connectionConfig": {}}, "connection_config.root", None),
        ({"connectionConfig": "text"}, "connection_config", None),
        ({"kind": "cvs"}, "kind", "csv"),
        ({"sourceType": "API"}, "source_type", "file"),
        ({"sourceName": " "}, "source_name", None),
        ({"sourceName": "x" * 201}, "source_name", "200"),
        ({"sourceName": "6f1c1b0e-7a39-4c56-9a6e-0d2f3c1b2a19"}, "source_name", "UUID"),
        ({"monitoringConfig": {"interval": 5}}, "monitoring_config.interval", "interval_seconds"),
        ({"authenticationConfig": {"pasword": "x"}}, "authentication_config.pasword", None),
    ],
)
async def test_a_wrong_key_is_named_with_its_path_and_what_is_allowed(
    api: Api, files: Path, change: dict[str, object], path: str, hint: str | None
) -> None:
    error = await api.ask(CREATE, {"input": given(files, **change)})
    assert error["__typename"] == "InvalidError"
    assert error["path"] == path
    assert (hint or "") in (error["hint"] or "")


async def test_a_name_that_is_taken_is_a_conflict(api: Api, files: Path) -> None:
    await created(api, files)
    error = await api.ask(CREATE, {"input": given(files)})
    assert (error["__typename"], error["path"]) == ("ConflictError", "source_name")


async def test_an_analyst_reads_sources_and_changes_none(api: Api, files: Path) -> None:
    source = await created(api, files)
    found = await api.ask('{source(reference: "guests"){id kind}}', by=ANALYST)
    assert found == {"id": source["id"], "kind": "csv"}
    for document in (CREATE, UPDATE, ARCHIVE):
        variables = {"id": source["id"], "input": given(files) if document is CREATE else {}}
        wanted = {name: value for name, value in variables.items() if f"${name}" in document}
        assert (await api.ask(document, wanted, by=ANALYST))["__typename"] == "DeniedError"


@pytest.mark.parametrize("field", ["connectionConfig", "authenticationConfig"])
async def test_there_is_no_field_to_read_a_secret_with(api: Api, files: Path, field: str) -> None:
    await created(api, files)
    error = await api.refusal(f'{{source(reference: "guests"){{{field}}}}}', by=ADMIN)
    assert error["message"].startswith(f"Cannot query field '{field}'")


async def test_a_source_is_changed_where_the_change_says_so(api: Api, files: Path) -> None:
    source = await created(api, files)
    change = {"sourceName": "visitors", "monitoringConfig": {"interval_seconds": 60}}
    changed = await api.ask(UPDATE, {"id": source["id"], "input": change})
    assert changed["__typename"] == "Source", changed
    assert changed["sourceName"] == "visitors"
    assert changed["isActive"] is True
    assert changed["monitoringConfig"]["interval_seconds"] == 60


async def test_credentials_are_not_replaced_alone_because_nobody_can_read_the_rest(api: Api, files: Path) -> None:
    source = await created(api, files)
    error = await api.ask(UPDATE, {"id": source["id"], "input": {"authenticationConfig": {"a": 1}}})
    assert (error["__typename"], error["path"]) == ("InvalidError", "authentication_config")


async def test_an_archived_source_is_gone_from_the_list_and_its_name_is_free(api: Api, files: Path) -> None:
    source = await created(api, files)
    archived = await api.ask(ARCHIVE, {"id": source["id"]})
    assert archived["sourceName"].startswith("guests~archived~")
    assert archived["isActive"] is False
    assert await api.ask("{sources{nodes{id}}}") == {"nodes": []}
    assert (await api.refusal('{source(reference: "guests"){id}}'))["extensions"]["code"] == "not_found"
    assert (await api.ask(ARCHIVE, {"id": source["id"]}))["__typename"] == "NotFoundError"
    await created(api, files)


async def test_a_source_that_a_pipeline_reads_is_not_archived(api: Api, files: Path, owner: asyncpg.Connection) -> None:
    source = await created(api, files)
    pipeline = await owner.fetchval(
        "INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config) "
        "VALUES ('load guests', 'etl', '{}', '{}') RETURNING id"
    )
    await owner.execute(
        "INSERT INTO pipeline_steps (pipeline_id, step_name, step_type, step_order, step_config) "
        "VALUES ($1, 'look', 'transform', 1, $2)",
        pipeline,
        json.dumps({"config": {"lookup": [{"source_id": "guests"}]}}),
    )
    error = await api.ask(ARCHIVE, {"id": source["id"]})
    assert (error["__typename"], error["code"]) == ("ConflictError", "in_use")
    assert "load guests" in error["hint"]


@pytest.mark.parametrize("is_active", [True, False])
async def test_a_test_reaches_the_source_and_keeps_its_health(
    api: Api, files: Path, working: None, owner: asyncpg.Connection, is_active: bool
) -> None:
    source = await created(api, files)
    await owner.execute("UPDATE data_sources SET is_active = $1", is_active)
    document = "mutation($id: ID!){testSource(id: $id){...on ConnectionCheck{ok message} ...on Error{code message}}}"
    assert (await api.ask(document, {"id": source["id"]}))["ok"] is True
    found = await api.ask('{source(reference: "guests"){healthStatus lastHealthCheck}}')
    assert found["healthStatus"] == "HEALTHY"
    assert found["lastHealthCheck"]


@pytest.mark.parametrize("asked", ["testSource", "discoverSource"])
async def test_what_is_wrong_with_a_connection_is_placed_as_at_its_creation(
    api: Api, files: Path, working: None, asked: str
) -> None:
    source = await created(api, files)
    shutil.rmtree(files)
    error = await api.ask(f"mutation($id: ID!){{{asked}(id: $id){{...on Error{{path hint}}}}}}", {"id": source["id"]})
    assert error["path"] == "connection_config.root"
    assert error["hint"]


@pytest.mark.parametrize("limit", ["max_concurrent", "requests_per_second"])
async def test_a_pace_is_for_sources_that_are_asked_by_requests(api: Api, files: Path, limit: str) -> None:
    source = await created(api, files)
    for document, variables in (
        (CREATE, {"input": given(files, sourceName="more", rateLimitConfig={limit: 2})}),
        (UPDATE, {"id": source["id"], "input": {"rateLimitConfig": {limit: 2}}}),
    ):
        error = await api.ask(document, variables)
        assert (error["__typename"], error["path"]) == ("InvalidError", "rate_limit_config")
        assert error["message"] == f"a csv source has no {limit}"
        assert "http" in error["hint"]


async def test_a_test_of_what_is_not_saved_keeps_nothing(
    api: Api, files: Path, working: None, owner: asyncpg.Connection
) -> None:
    document = (
        "mutation($i: TestConnectionInput!){testConnection(input: $i){__typename ...on Error{code message path}}}"
    )
    wanted = {"entity": "SOURCE", "kind": "csv", "connectionConfig": {"root": str(files)}}
    assert await api.ask(document, {"i": wanted}) == {"__typename": "ConnectionCheck"}
    missing = {**wanted, "connectionConfig": {"root": str(files / "nowhere")}}
    assert (await api.ask(document, {"i": missing}))["__typename"] in (
        "UnavailableError",
        "InvalidError",
        "NotFoundError",
    )
    assert await owner.fetchval("SELECT count(*) FROM data_sources") == 0
    payloads = await owner.fetchval("SELECT string_agg(payload::text, '') FROM work_items")
    assert str(files) not in payloads


async def test_without_a_runtime_a_test_says_so_in_time(files: Path, settings: Settings, database: Database) -> None:
    hurried = settings.model_copy(update={"work_timeout_seconds": 0.2})
    api = Api(create_app(hurried, database, Bus(None)), hurried)
    source = await created(api, files)
    document = "mutation($id: ID!){testSource(id: $id){__typename ...on Error{code hint}}}"
    answer = await api.ask(document, {"id": source["id"]})
    assert (answer["__typename"], answer["code"]) == ("UnavailableError", "runtime_unavailable")
    assert "/readyz/runtime" in answer["hint"]


async def test_discovery_answers_the_datasets_and_keeps_their_versions(api: Api, files: Path, working: None) -> None:
    source = await created(api, files)
    document = """
        mutation($id: ID!) {
            discoverSource(id: $id) {
                ... on Source { datasets { name version columns { name type nullable } } }
                ... on Error { code message hint }
            }
        }
    """
    (dataset,) = (await api.ask(document, {"id": source["id"]}))["datasets"]
    assert dataset["name"].startswith("guests")
    assert [(column["name"], column["type"]) for column in dataset["columns"]] == [
        ("id", "BIGINT"),
        ("name", "VARCHAR"),
        ("seats", "BIGINT"),
    ]
    assert dataset["version"] == 1
    (again,) = (await api.ask(document, {"id": source["id"]}))["datasets"]
    assert again["version"] == 1
    (files / "guests.csv").write_text("id,name,table\n1,Ann,2\n")
    (changed,) = (await api.ask(document, {"id": source["id"]}))["datasets"]
    assert changed["version"] == 2
    assert [column["name"] for column in changed["columns"]] == ["id", "name", "table"]


async def test_the_list_goes_on_behind_its_cursors_in_a_constant_number_of_statements(
    api: Api, files: Path, database: Database
) -> None:
    for number in range(7):
        await created(api, files, sourceName=f"source {number}")
    document = """
        query($after: String) {
            sources(first: 3, after: $after) {
                totalCount
                nodes { sourceName datasets { name } }
                pageInfo { hasNextPage hasPreviousPage endCursor }
            }
        }
    """
    names: list[str] = []
    after = None
    while True:
        with recorded(database) as statements:
            page = await api.ask(document, {"after": after})
        assert len(statements) == 3, statements
        assert page["totalCount"] == 7
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        names += [node["sourceName"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert names == [f"source {number}" for number in range(7)]


async def test_the_total_is_counted_only_when_it_is_asked_for(api: Api, files: Path, database: Database) -> None:
    await created(api, files)
    with recorded(database) as statements:
        await api.ask("{sources{nodes{sourceName}}}")
    assert len(statements) == 1


@pytest.mark.parametrize("cursor", ["", "x", "bm8", "W10", "WyJzb3VyY2VfbmFtZS0iLCAiYSJd", "é"])
async def test_a_text_that_is_no_cursor_of_the_list_is_refused(api: Api, cursor: str) -> None:
    error = await api.refusal("query($after: String){sources(after: $after){nodes{id}}}", {"after": cursor})
    assert error["extensions"]["code"] == "invalid"
    assert error["extensions"]["path"] == "after"


async def test_any_thing_is_found_by_its_id(api: Api, files: Path) -> None:
    source = await created(api, files)
    document = "query($id: ID!){node(id: $id){__typename id ...on Source{sourceName}}}"
    found = await api.ask(document, {"id": source["id"]})
    assert found == {"__typename": "Source", "id": source["id"], "sourceName": "guests"}
    assert await api.ask(document, {"id": str(uuid4())}) is None


async def test_what_is_done_to_a_source_is_in_the_audit_log_without_its_secrets(
    api: Api, files: Path, owner: asyncpg.Connection
) -> None:
    source = await created(api, files)
    await api.ask(UPDATE, {"id": source["id"], "input": {"isActive": False}})
    await api.ask(ARCHIVE, {"id": source["id"]})
    rows = await owner.fetch(
        "SELECT actor, actor_role, action, entity_type, entity_id, detail FROM audit_log ORDER BY id"
    )
    assert [row["action"] for row in rows] == ["create", "update", "archive"]
    assert {(row["actor"], row["actor_role"], row["entity_type"], row["entity_id"]) for row in rows} == {
        (ENGINEER.user_id, "data_engineer", "source", source["id"])
    }
    assert json.loads(rows[1]["detail"])["changed"] == ["is_active"]
    assert not any(str(files) in row["detail"] for row in rows)


async def test_a_refused_change_leaves_no_deed(api: Api, files: Path, owner: asyncpg.Connection) -> None:
    await api.ask(CREATE, {"input": given(files, kind="nothing")})
    assert await owner.fetchval("SELECT count(*) FROM audit_log") == 0


@pytest.mark.parametrize("by", [ADMIN, ENGINEER, ANALYST])
async def test_the_connectors_there_are_come_with_the_schema_of_their_configuration(api: Api, by: Principal) -> None:
    kinds = await api.ask("{connectorKinds(entity: SOURCE){entity kind type description configSchema}}", by=by)
    (csv,) = [kind for kind in kinds if kind["kind"] == "csv"]
    assert csv["type"] == "file"
    assert "root" in csv["configSchema"]["properties"]
    assert csv["description"]
