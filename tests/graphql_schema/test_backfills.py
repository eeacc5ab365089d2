"""Backfills are previewed, requested, watched, paused, resumed and cancelled through GraphQL, by those who may."""

import json
from typing import Any

import asyncpg
import pytest

from models.pipelines import DataPipeline
from runtime.database import Database
from tests.api.test_subscriptions import event_of, messages, socket_of, subscribe
from tests.kit.factories.pipelines import execution, pipeline, places, saved, simple
from tests.kit.graphql import Api
from tests.kit.identities import ANALYST, ENGINEER
from tests.runtime.backfills.conftest import Yard, ranged

ERROR = "... on Error { code message hint path }"
FIELDS = """id chunk rangeStart rangeEnd mostAtOnce priority total already state parameters requestedBy finishedAt
    progress { waiting running completed failed cancelled percent } pipeline { pipelineName }"""
REQUEST = f"""mutation($pipeline: ID!, $input: BackfillInput!) {{
    requestBackfill(pipeline: $pipeline, input: $input) {{ __typename ... on Backfill {{ {FIELDS} }} {ERROR} }} }}"""
PREVIEW = """query($pipeline: ID!, $input: BackfillInput!, $first: Int!) {
    backfillPreview(pipeline: $pipeline, input: $input, first: $first) {
        total already chunks { start end willRun state } } }"""
WATCH = f"subscription($id: ID!) {{ backfillProgress(id: $id) {{ {FIELDS} }} }}"
JANUARY = {"rangeStart": "2026-01-01", "rangeEnd": "2026-02-01"}


def change(verb: str) -> str:
    return f"""mutation($id: ID!) {{
        {verb}Backfill(id: $id) {{ __typename ... on Backfill {{ {FIELDS} }} {ERROR} }} }}"""


@pytest.fixture
async def yard(database: Database) -> Yard:
    await places(database)
    return Yard(database, await pipeline(database, ranged()))


async def requested(api: Api, yard: Yard, **given: object) -> Any:
    return await api.ask(REQUEST, {"pipeline": yard.pipeline.pipeline_name, "input": {**JANUARY, **given}})


async def test_a_backfill_is_requested_and_read(api: Api, yard: Yard) -> None:
    made = await requested(api, yard, mostAtOnce=4, parameters={"venue": 3})
    assert (made["total"], made["already"], made["state"], made["chunk"]) == (31, 0, "RUNNING", "1d")
    assert (made["rangeStart"], made["priority"]) == ("2026-01-01T00:00:00+00:00", -10)
    assert (made["parameters"], made["requestedBy"]) == ({"venue": 3}, str(ENGINEER.user_id))
    assert made["progress"] == {
        "waiting": 31,
        "running": 0,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "percent": 0.0,
    }
    read = f"query($id: ID!) {{ backfill(id: $id) {{ __typename {FIELDS} }} }}"
    assert await api.ask(read, {"id": made["id"]}) == made
    node = "query($id: ID!) { node(id: $id) { id ... on Backfill { total } } }"
    assert await api.ask(node, {"id": made["id"]}) == {"id": made["id"], "total": 31}


async def test_its_executions_tell_their_range_and_their_backfill(api: Api, yard: Yard) -> None:
    made = await requested(api, yard, chunk="2w")
    query = """query($id: ID!) { backfill(id: $id) { executions { totalCount
        nodes { executionType executionContext backfill { id chunk } } } } }"""
    found = (await api.ask(query, {"id": made["id"]}))["executions"]
    assert (found["totalCount"], {one["executionType"] for one in found["nodes"]}) == (3, {"TRIGGERED"})
    assert found["nodes"][0]["executionContext"]["date_range"] == {"start": "2026-01-29", "end": "2026-02-01"}
    assert found["nodes"][0]["backfill"] == {"id": made["id"], "chunk": "2w"}
    of_latest = "{ pipelines { nodes { lastExecution { backfill { id } } } } }"
    (node,) = (await api.ask(of_latest))["nodes"]
    assert node["lastExecution"]["backfill"]["id"] == made["id"]


async def test_a_pipeline_lists_its_backfills(api: Api, yard: Yard) -> None:
    first = await requested(api, yard)
    second = await requested(api, yard, rangeEnd="2026-02-11")
    query = """query($first: Int!, $after: String) { pipelines { nodes { backfills(first: $first, after: $after) {
        totalCount nodes { id } pageInfo { endCursor } } } } }"""
    (node,) = (await api.ask(query, {"first": 1}))["nodes"]
    page = node["backfills"]
    assert (page["totalCount"], page["nodes"]) == (2, [{"id": second["id"]}])
    (node,) = (await api.ask(query, {"first": 5, "after": page["pageInfo"]["endCursor"]}))["nodes"]
    assert node["backfills"]["nodes"] == [{"id": first["id"]}]


async def test_a_preview_shows_the_chunks_and_adds_nothing(api: Api, yard: Yard) -> None:
    await requested(api, yard, rangeEnd="2026-01-03", mostAtOnce=9)
    await yard.through()
    given = {"pipeline": str(yard.pipeline.id), "input": JANUARY, "first": 3}
    assert await api.ask(PREVIEW, given) == {
        "total": 29,
        "already": 2,
        "chunks": [
            {"start": "2026-01-01", "end": "2026-01-02", "willRun": False, "state": "COMPLETED"},
            {"start": "2026-01-02", "end": "2026-01-03", "willRun": False, "state": "COMPLETED"},
            {"start": "2026-01-03", "end": "2026-01-04", "willRun": True, "state": None},
        ],
    }
    assert (await api.ask("{ executions { totalCount } }"))["totalCount"] == 2


async def test_it_is_paused_resumed_and_cancelled(api: Api, yard: Yard) -> None:
    made = await requested(api, yard, mostAtOnce=2)
    (running,) = await yard.claim(1)
    assert (await api.ask(change("pause"), {"id": made["id"]}))["state"] == "PAUSED"
    assert (await api.ask(change("resume"), {"id": made["id"]}))["state"] == "RUNNING"
    gone = await api.ask(change("cancel"), {"id": made["id"]})
    assert (gone["state"], gone["progress"]["cancelled"], gone["progress"]["running"]) == ("CANCELLED", 30, 1)
    refused = await api.ask(change("resume"), {"id": made["id"]})
    assert (refused["__typename"], refused["code"]) == ("ConflictError", "already_ended")
    assert "request the range again" in refused["hint"]
    assert running.subject is not None


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"rangeEnd": "2025-12-31"}, "range_end"),
        ({"rangeStart": "soon"}, "range_start"),
        ({"chunk": "0d"}, "chunk"),
        ({"chunk": "1 fortnight"}, "chunk"),
        ({"rangeStart": "2016-01-01", "chunk": "1m"}, "chunk"),
        ({"mostAtOnce": 0}, "most_at_once"),
        ({"parameters": [1]}, "parameters"),
    ],
)
async def test_what_is_wrong_with_a_request_is_told_with_the_remedy(
    api: Api, yard: Yard, given: dict[str, object], path: str
) -> None:
    error = await requested(api, yard, **given)
    assert (error["__typename"], error["path"]) == ("InvalidError", path)
    told = await api.refusal(PREVIEW, {"pipeline": str(yard.pipeline.id), "input": {**JANUARY, **given}, "first": 3})
    assert (told["message"], told["extensions"]["code"]) == (error["message"], error["code"])


async def test_a_pipeline_without_a_range_is_told_how_to_take_one(api: Api, database: Database) -> None:
    await places(database)
    row = await pipeline(database, simple())
    error = await api.ask(REQUEST, {"pipeline": str(row.id), "input": JANUARY})
    assert (error["code"], ":range_start" in error["hint"]) == ("no_range", True)


async def test_an_analyst_reads_backfills_and_changes_none(api: Api, yard: Yard) -> None:
    made = await requested(api, yard)
    given = {"pipeline": str(yard.pipeline.id), "input": JANUARY}
    assert (await api.ask(REQUEST, given, by=ANALYST))["__typename"] == "DeniedError"
    for verb in ("pause", "resume", "cancel"):
        assert (await api.ask(change(verb), {"id": made["id"]}, by=ANALYST))["__typename"] == "DeniedError"
    refused = await api.refusal(PREVIEW, {**given, "first": 1}, by=ANALYST)
    assert refused["extensions"]["code"] == "denied"
    read = await api.ask("query($id: ID!) { backfill(id: $id) { total } }", {"id": made["id"]}, by=ANALYST)
    assert read == {"total": 31}


async def test_what_is_done_is_audited(api: Api, yard: Yard, owner: asyncpg.Connection) -> None:
    made = await requested(api, yard)
    for verb in ("pause", "resume", "cancel"):
        await api.ask(change(verb), {"id": made["id"]})
    rows = await owner.fetch("SELECT action, detail FROM audit_log WHERE entity_type = 'backfill' ORDER BY id")
    assert [row["action"] for row in rows] == ["request", "pause", "resume", "cancel"]
    assert json.loads(rows[0]["detail"])["range"] == "2026-01-01/2026-02-01"


async def test_progress_is_followed_to_the_end(live: str, yard: Yard) -> None:
    made = await yard.request("2026-01-01", "2026-01-04", most_at_once=9)
    seen = []
    async with socket_of(live) as socket:
        await subscribe(socket, WATCH, id=str(made.id))
        async for message in messages(socket):
            if message["type"] == "complete":
                break
            seen.append(event_of(message))
            if len(seen) == 1:
                await yard.through()
    assert (seen[0]["progress"]["waiting"], seen[0]["progress"]["percent"]) == (3, 0.0)
    last = seen[-1]
    assert (last["state"], last["progress"]["completed"], last["progress"]["percent"]) == ("COMPLETED", 3, 100.0)


async def test_following_what_is_not_there_is_told(live: str, yard: Yard) -> None:
    async with socket_of(live) as socket:
        await subscribe(socket, WATCH, id=str(yard.pipeline.id))
        message = await anext(messages(socket))
    (error,) = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert error["extensions"]["code"] == "not_found"


async def test_durations_are_estimated_from_history_in_one_statement(api: Api, database: Database, yard: Yard) -> None:
    other: DataPipeline = await pipeline(database, ranged("other"))
    await saved(database, execution(yard.pipeline.id), execution(yard.pipeline.id))
    query = "{ pipelines { nodes { id estimatedDurationMinutes } } }"
    found = {one["id"]: one["estimatedDurationMinutes"] for one in (await api.ask(query))["nodes"]}
    assert found == {str(yard.pipeline.id): 2.0, str(other.id): None}
    execute = """mutation($id: ID!) { executePipeline(id: $id) {
        ... on Execution { estimatedDurationMinutes lateAt backfill { id } } } }"""
    made = await api.ask(execute, {"id": str(yard.pipeline.id)})
    assert made == {"estimatedDurationMinutes": 2.0, "lateAt": None, "backfill": None}
