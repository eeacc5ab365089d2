"""Pools through GraphQL: their sizes, who may change them, and what a queued execution waits for."""

from typing import Any

import asyncpg
import pytest

from runtime.database import Database
from runtime.queue import store
from tests.kit.factories.pipelines import pipeline, places, simple
from tests.kit.graphql import Api
from tests.kit.identities import ANALYST, RUNTIME

ERROR = "... on Error { code message hint path }"
POOL = f"__typename ... on ConcurrencyPool {{ name slots running }} {ERROR}"
SET = f"mutation($name: String!, $slots: Int!) {{ setConcurrencyPool(name: $name, slots: $slots) {{ {POOL} }} }}"
REMOVE = f"mutation($name: String!) {{ removeConcurrencyPool(name: $name) {{ {POOL} }} }}"
POOLS = "{ concurrencyPools { name slots running } }"
EXECUTE = f"""mutation($id: ID!, $input: ExecutePipelineInput) {{ executePipeline(id: $id, input: $input) {{
    __typename ... on Execution {{ id waitingFor {{ reason name limit running }} }} {ERROR} }} }}"""
WAITS = "query($id: String!) { execution(reference: $id) { waitingFor { reason name limit running } } }"


async def claim(database: Database, count: int = 1) -> None:
    async with database.statements(RUNTIME) as session:
        assert len(await store.claim(session, "me", executions=count, lease_seconds=15.0)) == count


async def executed(api: Api, name: str, **given: object) -> Any:
    return await api.ask(EXECUTE, {"id": name, "input": given})


async def test_a_pool_is_sized_changed_and_removed(api: Api, owner: asyncpg.Connection) -> None:
    made = await api.ask(SET, {"name": "warehouse", "slots": 2})
    assert made == {"__typename": "ConcurrencyPool", "name": "warehouse", "slots": 2, "running": 0}
    assert (await api.ask(SET, {"name": "warehouse", "slots": 3}))["slots"] == 3
    assert await api.ask(POOLS) == [{"name": "warehouse", "slots": 3, "running": 0}]
    assert (await api.ask(REMOVE, {"name": "warehouse"}))["slots"] == 3
    assert (await api.ask(REMOVE, {"name": "warehouse"}))["code"] == "not_found"
    deeds = await owner.fetch("SELECT action, entity_id FROM audit_log WHERE entity_type = 'concurrency_pool'")
    assert sorted(tuple(deed) for deed in deeds) == [("remove", "warehouse"), *[("set", "warehouse")] * 2]


@pytest.mark.parametrize(
    ("name", "slots", "path"), [("a pool", 1, "name"), ("", 1, "name"), ("w", 0, "slots"), ("w", 10_001, "slots")]
)
async def test_what_cannot_be_a_pool_is_refused_with_the_remedy(api: Api, name: str, slots: int, path: str) -> None:
    refused = await api.ask(SET, {"name": name, "slots": slots})
    assert (refused["__typename"], refused["path"]) == ("InvalidError", path)
    assert refused["hint"]


async def test_a_pipeline_shows_its_deadline_and_what_its_executions_are_held_to(api: Api, database: Database) -> None:
    await places(database)
    await pipeline(database, {**simple("held"), "concurrency": {"max_active": 2, "pool": "warehouse", "priority": 5}})
    await pipeline(database, {**simple("timed"), "deadline_minutes": 30})
    asked = "deadlineMinutes concurrency { maxActive pool priority }"
    held = {"deadlineMinutes": None, "concurrency": {"maxActive": 2, "pool": "warehouse", "priority": 5}}
    timed = {"deadlineMinutes": 30, "concurrency": {"maxActive": None, "pool": "default", "priority": 0}}
    assert await api.ask(f'{{ pipeline(reference: "held") {{ {asked} }} }}') == held
    assert (await api.ask(f"{{ pipelines(first: 2) {{ nodes {{ {asked} }} }} }}", by=ANALYST))["nodes"] == [held, timed]


async def test_analysts_see_pools_and_do_not_change_them(api: Api) -> None:
    await api.ask(SET, {"name": "warehouse", "slots": 2})
    assert await api.ask(POOLS, by=ANALYST) == [{"name": "warehouse", "slots": 2, "running": 0}]
    assert (await api.ask(SET, {"name": "warehouse", "slots": 9}, by=ANALYST))["code"] == "denied"


async def test_a_queued_execution_says_what_it_waits_for(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    await pipeline(database, {**simple("limited"), "concurrency": {"max_active": 1}})
    await pipeline(database, {**simple("pooled"), "concurrency": {"pool": "warehouse"}})
    await api.ask(SET, {"name": "warehouse", "slots": 1})
    first = await executed(api, "limited")
    assert first["waitingFor"] == {"reason": "SUPERVISOR", "name": None, "limit": None, "running": None}
    await executed(api, "pooled")
    await claim(database, 2)
    limited, pooled = await executed(api, "limited"), await executed(api, "pooled")
    assert limited["waitingFor"] == {"reason": "PIPELINE_LIMIT", "name": "limited", "limit": 1, "running": 1}
    assert pooled["waitingFor"] == {"reason": "POOL", "name": "warehouse", "limit": 1, "running": 1}
    assert (await api.ask(WAITS, {"id": first["id"]}))["waitingFor"] is None
    await owner.execute("UPDATE work_items SET run_after = 'infinity' WHERE state = 'queued'")
    held = (await api.ask(WAITS, {"id": limited["id"]}))["waitingFor"]
    assert (held["reason"], held["name"]) == ("EARLIER_RUN", "limited")
    await owner.execute("UPDATE work_items SET run_after = now() + interval '1 min' WHERE state = 'queued'")
    rests = (await api.ask(WAITS, {"id": limited["id"]}))["waitingFor"]
    assert (rests["reason"], rests["name"]) == ("REST", None)
    assert await api.ask(POOLS) == [
        {"name": "default", "slots": None, "running": 1},
        {"name": "warehouse", "slots": 1, "running": 1},
    ]


async def test_an_execution_has_its_pipelines_priority_unless_it_is_given_one(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    await places(database)
    await pipeline(database, {**simple("urgent"), "concurrency": {"priority": 7, "pool": "fast"}})
    await executed(api, "urgent")
    await executed(api, "urgent", priority=-3)
    rows = await owner.fetch("SELECT pool, priority FROM work_items ORDER BY created_at")
    assert [tuple(row) for row in rows] == [("fast", 7), ("fast", -3)]
    refused = await executed(api, "urgent", priority=1_001)
    assert (refused["code"], refused["path"]) == ("invalid", "priority")
