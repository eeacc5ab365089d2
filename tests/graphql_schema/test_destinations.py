"""Destinations are added, changed, tested and discovered as sources are, with how loads write there."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.fields import parse
from runtime.access.sealing import sealer_of
from runtime.connectors._contract import RunKey, Target
from runtime.connectors.opening import open_destination
from runtime.connectors.parquet_files import ParquetDestination, ParquetDestinationConfig
from runtime.database import Database
from tests.kit.graphql import Api
from tests.kit.identities import ANALYST, RUNTIME

SHOWN = """
    __typename
    ... on Destination {
        id destinationName destinationType kind writeMode isActive indexingConfig backupConfig partitionConfig
    }
    ... on Error { code message hint path }
"""
CREATE = f"mutation($input: CreateDestinationInput!) {{ createDestination(input: $input) {{ {SHOWN} }} }}"
UPDATE = (
    f"mutation($id: ID!, $input: UpdateDestinationInput!) {{ updateDestination(id: $id, input: $input) {{ {SHOWN} }} }}"
)
ARCHIVE = f"mutation($id: ID!) {{ archiveDestination(id: $id) {{ {SHOWN} }} }}"


def given(folder: Path, **others: object) -> dict[str, object]:
    return {"destinationName": "warehouse", "kind": "parquet", "connectionConfig": {"root": str(folder)}, **others}


async def created(api: Api, folder: Path, **others: object) -> Any:
    made = await api.ask(CREATE, {"input": given(folder, **others)})
    assert made["__typename"] == "Destination", made
    return made


async def test_a_destination_is_added_with_how_it_is_written(api: Api, tmp_path: Path, database: Database) -> None:
    made = await created(
        api,
        tmp_path,
        writeMode="UPSERT",
        backupConfig={"enabled": True, "keep_versions": 2},
        partitionConfig={"columns": ["event_date"]},
    )
    assert (made["destinationType"], made["writeMode"], made["isActive"]) == ("FILE", "UPSERT", True)
    assert made["backupConfig"]["retention_days"] == 7
    async with database.transaction(RUNTIME) as session:
        opened = await open_destination(session, sealer_of(api.settings), UUID(made["id"]))
    assert opened.config.model_dump()["root"] == str(tmp_path)
    assert opened.backup == {"enabled": True, "keep_versions": 2}
    assert opened.partition == {"columns": ["event_date"]}


async def test_indexes_are_for_destinations_that_have_them(api: Api, tmp_path: Path, database: Database) -> None:
    indexing = {"indexes": [{"columns": ["id"], "unique": True}]}
    reach = {"host": str(tmp_path), "database": "warehouse"}
    made = await created(api, tmp_path, kind="postgres", connectionConfig=reach, indexingConfig=indexing)
    async with database.transaction(RUNTIME) as session:
        opened = await open_destination(session, sealer_of(api.settings), UUID(made["id"]))
    assert opened.indexing == indexing
    files = await created(api, tmp_path, destinationName="files", indexingConfig={"indexes": []})
    for document, variables in (
        (CREATE, {"input": given(tmp_path, destinationName="more", indexingConfig=indexing)}),
        (UPDATE, {"id": files["id"], "input": {"indexingConfig": indexing}}),
    ):
        error = await api.ask(document, variables)
        assert (error["__typename"], error["path"]) == ("InvalidError", "indexing_config.indexes")
        assert error["message"] == "a parquet destination has no indexes"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"connectionConfig": {"root": 1}}, "connection_config.root"),
        ({"indexingConfig": {"indexes": [{"columns": []}]}}, "indexing_config.indexes[0].columns"),
        ({"backupConfig": {"keep_versions": 0}}, "backup_config.keep_versions"),
        ({"partitionConfig": {"strategy": "rang"}}, "partition_config.strategy"),
        (
            {"schemaConfig": {"datasets": {"t": {"columns": [{"name": "a"}]}}}},
            "schema_config.datasets.t.columns[0].type",
        ),
        ({"kind": "parket"}, "kind"),
        ({"destinationType": "WAREHOUSE"}, "destination_type"),
    ],
)
async def test_a_wrong_key_is_named_with_its_path(
    api: Api, tmp_path: Path, change: dict[str, object], path: str
) -> None:
    error = await api.ask(CREATE, {"input": given(tmp_path, **change)})
    assert (error["__typename"], error["path"]) == ("InvalidError", path)


async def test_a_destination_is_changed_where_the_change_says_so(
    api: Api, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    made = await created(api, tmp_path, writeMode="OVERWRITE")
    before = await owner.fetchval("SELECT connection_config FROM data_destinations")
    changed = await api.ask(UPDATE, {"id": made["id"], "input": {"destinationName": "lake", "isActive": False}})
    assert (changed["destinationName"], changed["writeMode"], changed["isActive"]) == ("lake", "OVERWRITE", False)
    assert await owner.fetchval("SELECT connection_config FROM data_destinations") == before
    await api.ask(UPDATE, {"id": made["id"], "input": {"connectionConfig": {"root": "/elsewhere"}}})
    assert await owner.fetchval("SELECT connection_config FROM data_destinations") != before


async def test_an_archived_destination_frees_its_name(api: Api, tmp_path: Path) -> None:
    made = await created(api, tmp_path)
    archived = await api.ask(ARCHIVE, {"id": made["id"]})
    assert archived["destinationName"].startswith("warehouse~archived~")
    await created(api, tmp_path)
    assert (await api.ask("{destinations{totalCount}}"))["totalCount"] == 1


async def test_a_destination_that_a_pipeline_loads_is_not_archived(
    api: Api, tmp_path: Path, owner: asyncpg.Connection
) -> None:
    made = await created(api, tmp_path)
    pipeline = await owner.fetchval(
        "INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config) "
        "VALUES ('fill it', 'etl', '{}', '{}') RETURNING id"
    )
    await owner.execute(
        "INSERT INTO pipeline_steps (pipeline_id, step_name, step_type, step_order, step_config) "
        "VALUES ($1, 'load', 'load', 1, $2)",
        pipeline,
        json.dumps({"destination_id": made["id"]}),
    )
    error = await api.ask(ARCHIVE, {"id": made["id"]})
    assert (error["__typename"], error["code"]) == ("ConflictError", "in_use")


async def test_an_analyst_reads_destinations_and_changes_none(api: Api, tmp_path: Path) -> None:
    made = await created(api, tmp_path)
    assert await api.ask('{destination(reference: "warehouse"){kind}}', by=ANALYST) == {"kind": "parquet"}
    assert (await api.ask(ARCHIVE, {"id": made["id"]}, by=ANALYST))["__typename"] == "DeniedError"


VERSIONS = 'query($id: ID!) { destinationVersions(id: $id, table: "guests") { version rows replacedBy expiresAt } }'
RESTORE = """
    mutation($id: ID!, $version: String!) { restoreDestination(id: $id, table: "guests", version: $version) {
        __typename
        ... on RestoredTable { table version rows destination { destinationName } }
        ... on Error { code hint }
    } }
"""


async def test_what_an_overwrite_replaced_is_listed_and_restored_by_the_runtime(
    api: Api, tmp_path: Path, working: None, owner: asyncpg.Connection
) -> None:
    made = await created(api, tmp_path)
    tables = ParquetDestination(parse(ParquetDestinationConfig, {"root": str(tmp_path)}))
    target = Target("guests", WriteMode.OVERWRITE, backup={"enabled": True})
    last = [RunKey(uuid4(), uuid4(), "load") for _ in range(2)]
    for run, names in zip(last, (["Ada", "Ben"], ["Cleo"]), strict=True):
        tables.load(target, run, pa.table({"guest": names}).to_reader(), None)
    (kept,) = await api.ask(VERSIONS, {"id": made["id"]})
    assert (kept["rows"], kept["replacedBy"]) == (2, str(last[1].execution_id))
    restored = await api.ask(RESTORE, {"id": made["id"], "version": kept["version"]})
    assert restored == {
        "__typename": "RestoredTable",
        "table": "guests",
        "version": kept["version"],
        "rows": 2,
        "destination": {"destinationName": "warehouse"},
    }
    error = await api.ask(RESTORE, {"id": made["id"], "version": "99"})
    assert (error["__typename"], error["code"]) == ("NotFoundError", "not_found")
    noted = await owner.fetch("SELECT detail FROM audit_log WHERE action = 'restore' ORDER BY id")
    assert [json.loads(row["detail"])["version"] for row in noted] == [kept["version"], "99"]
    refused = await api.ask(RESTORE, {"id": made["id"], "version": kept["version"]}, by=ANALYST)
    assert refused["__typename"] == "DeniedError"


async def test_a_test_and_a_discovery_are_done_by_the_runtime(api: Api, tmp_path: Path, working: None) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    made = await created(api, folder)
    test = "mutation($id: ID!){testDestination(id: $id){__typename ...on Error{message}}}"
    assert await api.ask(test, {"id": made["id"]}) == {"__typename": "ConnectionCheck"}
    discover = "mutation($id: ID!){discoverDestination(id: $id){...on Destination{healthStatus datasets{name}}}}"
    assert await api.ask(discover, {"id": made["id"]}) == {"healthStatus": "HEALTHY", "datasets": []}
