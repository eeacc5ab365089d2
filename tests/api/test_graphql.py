"""`/graphql` over HTTP: the audits of `graphql-http`, sign-in, media types, and what production leaves out."""

import asyncio
import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from api.app import create_app
from api.graphql import negotiated
from runtime.access.principal import Principal
from runtime.bus import Bus
from runtime.database import Database
from tests.kit.graphql import Api, settings_of, token
from tests.kit.identities import ANALYST, ENGINEER
from tests.kit.statements import recorded

AUDITS = 61
SCRIPT = """
import { auditServer } from 'graphql-http';
const results = await auditServer({ url: process.argv[2] });
console.log(JSON.stringify(results.map(({ id, name, status, reason }) => ({ id, name, status, reason }))));
"""


@pytest.fixture(scope="session")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package `graphql-http`, installed into a folder of its own."""
    if shutil.which("npm") is None:
        pytest.fail("these tests need Node.js and npm")
    folder = tmp_path_factory.mktemp("auditor")
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "audit.js").write_text(SCRIPT)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "graphql-http@1", "graphql@16"]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


@pytest.mark.node
async def test_every_audit_of_graphql_over_http_passes(live: str, auditor: Path) -> None:
    run = ["node", "audit.js", f"http://{live}/graphql"]
    done = await asyncio.to_thread(subprocess.run, run, cwd=auditor, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == AUDITS
    assert [audit for audit in results if audit["status"] != "ok"] == []


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/graphql-response+json", "application/graphql-response+json"),
        ("application/graphql-response+json, application/json;q=0.9", "application/graphql-response+json"),
        ("application/json, application/graphql-response+json", "application/json"),
        ("application/graphql-response+json;q=0, application/json", "application/json"),
    ],
)
def test_the_media_type_is_the_first_that_the_client_names(accept: str | None, answered: str) -> None:
    assert negotiated(accept) == answered


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("Bearer nonsense", "unauthenticated"),
        ("Basic YTpi", "unauthenticated"),
        ("Bearer", "unauthenticated"),
        (f"Bearer {token(ENGINEER, timedelta(hours=-1))}", "token_expired"),
    ],
)
async def test_a_token_that_is_not_accepted_is_401_before_anything_runs(
    api: Api, authorization: str, code: str
) -> None:
    answer = await api.http.post("/graphql", json={"query": "{__typename}"}, headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["errors"][0]["extensions"]["code"] == code


@pytest.mark.parametrize(
    ("query", "status"), [("{sources{nodes{id}}}", 401), ("{nothing}", 400), ("{__typename}", 200)]
)
async def test_graphqls_own_media_type_has_a_status_of_its_own(api: Api, query: str, status: int) -> None:
    headers = {"accept": "application/graphql-response+json"}
    answer = await api.http.post("/graphql", json={"query": query}, headers=headers)
    assert answer.status_code == status
    assert ("data" in answer.json()) is (status == 200)


@pytest.mark.parametrize("body", ["[]", '"text"', "17", "null", "[[[[", '{"query": {"a": 1}}', "\xff", "[" * 100_000])
async def test_a_body_that_is_no_request_is_400(api: Api, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await api.http.post("/graphql", content=body.encode("latin-1"), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == "invalid"


async def test_a_body_over_the_limit_is_413(api: Api) -> None:
    body = json.dumps({"query": "{__typename}", "variables": {"x": "y" * 3_000_000}})
    answer = await api.http.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_limit"


async def test_development_shows_graphiql_and_answers_get(api: Api) -> None:
    page = await api.http.get("/graphql", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "unpkg.com" in page.headers["content-security-policy"]
    assert (await api.http.get("/graphql", params={"query": "{__typename}"})).json() == {
        "data": {"__typename": "Query"}
    }


async def test_production_has_no_graphiql_no_get_no_introspection_and_no_suggestions(
    tmp_path: Path, database: Database
) -> None:
    settings = settings_of(tmp_path, environment="production", database_url="postgresql+asyncpg://set")
    api = Api(create_app(settings, database, Bus(None)), settings)
    assert (await api.http.get("/graphql", headers={"accept": "text/html"})).status_code == 405
    got = await api.http.get("/graphql", params={"query": "{__typename}"})
    assert (got.status_code, got.headers["allow"]) == (405, "POST")
    assert "introspection" in (await api.refusal("{__schema{types{name}}}"))["message"]
    assert "Did you mean" not in (await api.refusal("{source{nodes{id}}}"))["message"]
    assert "Did you mean" not in (await api.refusal("{sourcess{nodes{id}}}"))["message"]
    assert "strict-transport-security" in (await api.http.get("/livez")).headers


async def test_answers_are_guarded_against_browsers_that_guess(api: Api) -> None:
    headers = (await api.http.get("/livez")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("given", "kept"), [("trace-1", True), ("x" * 200, False), ("a\tb", False)])
async def test_a_request_has_an_id_the_callers_own_where_it_is_harmless(api: Api, given: str, kept: bool) -> None:
    answered = (await api.http.get("/livez", headers={"x-request-id": given})).headers["x-request-id"]
    assert (answered == given) is kept
    assert answered


async def test_another_origin_may_ask_only_where_the_settings_say_so(tmp_path: Path, database: Database) -> None:
    settings = settings_of(tmp_path, cors_origins=("https://plan.example",))
    api = Api(create_app(settings, database, Bus(None)), settings)
    for origin, allowed in (("https://plan.example", "https://plan.example"), ("https://evil.example", None)):
        answer = await api.http.post("/graphql", json={"query": "{__typename}"}, headers={"origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


async def test_a_person_who_comes_for_the_first_time_is_entered_once(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    newcomer = Principal(uuid4(), ANALYST.role, "new@example.org")
    with recorded(database) as statements:
        for _ in range(3):
            await api.ask("{sources{nodes{id}}}", by=newcomer)
    assert sum("ensure_user" in statement for statement in statements) == 1
    assert await owner.fetchval("SELECT email FROM auth.users WHERE id = $1", newcomer.user_id) == "new@example.org"


async def test_a_slow_operation_is_stopped_and_told(
    tmp_path: Path, database: Database, owner: asyncpg.Connection
) -> None:
    settings = settings_of(tmp_path, graphql_timeout_seconds=0.5)
    api = Api(create_app(settings, database, Bus(None)), settings)
    await api.ask("{sources{nodes{id}}}")
    async with owner.transaction():
        await owner.execute("LOCK TABLE data_sources IN ACCESS EXCLUSIVE MODE")
        error = await api.refusal("{sources{nodes{id}}}")
    assert error["extensions"]["code"] == "time_limit"
    assert await api.ask("{sources{totalCount}}")
