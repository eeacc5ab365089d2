"""The probes say what is ready, and what to do where something is not."""

from pathlib import Path

import asyncpg
import pytest

from api import welcome
from api.app import create_app
from runtime.bus import Bus
from runtime.database import Database
from tests.kit.database import Postgres
from tests.kit.graphql import Api, settings_of


@pytest.fixture
async def away(tmp_path: Path) -> Api:
    """The application over a database that is not there."""
    settings = settings_of(tmp_path)
    database = Database("postgresql+asyncpg://nobody@/none?host=/nowhere")
    return Api(create_app(settings, database, Bus(None)), settings)


async def test_the_api_lives_without_its_database(away: Api) -> None:
    assert (await away.http.get("/livez")).json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/readyz", "/readyz/runtime"])
async def test_without_its_database_it_is_not_ready(away: Api, path: str) -> None:
    answer = await away.http.get(path)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unavailable"
    assert answer.json()["hint"]


async def test_with_a_migrated_database_it_is_ready(api: Api) -> None:
    answer = await api.http.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


async def test_an_older_database_wants_migrating(api: Api, owner: asyncpg.Connection) -> None:
    await owner.execute("UPDATE wedsync.alembic_version SET version_num = 'r0000'")
    answer = await api.http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_migrated")
    assert "r0000" in answer.json()["detail"]
    assert answer.json()["hint"] == "run `wedsync migrate`"


@pytest.mark.parametrize("path", ["/readyz", "/readyz/runtime"])
async def test_an_empty_database_wants_migrating(tmp_path: Path, postgres: Postgres, path: str) -> None:
    name = await postgres.create()
    database = Database(postgres.server.url(name), pool_size=1)
    settings = settings_of(tmp_path)
    api = Api(create_app(settings, database, Bus(None)), settings)
    answer = await api.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_migrated")
    await database.close()
    await postgres.drop(name)


async def test_the_runtime_is_ready_while_a_dispatcher_holds_its_lease(api: Api, owner: asyncpg.Connection) -> None:
    answer = await api.http.get("/readyz/runtime")
    assert (answer.status_code, answer.json()["code"]) == (503, "runtime_unavailable")
    await owner.execute(
        "INSERT INTO leases (name, holder, acquired_at, expires_at) "
        "VALUES ('dispatcher:one', 'a test', now(), now() + interval '1 hour')"
    )
    assert (await api.http.get("/readyz/runtime")).status_code == 200
    await owner.execute("UPDATE leases SET expires_at = now() - interval '1 second'")
    assert (await api.http.get("/readyz/runtime")).status_code == 503


async def test_the_figures_count_requests_by_route(api: Api) -> None:
    await api.http.get("/livez")
    await api.http.get("/nothing/of/the/kind")
    figures = (await api.http.get("/metrics")).text
    assert 'wedsync_http_requests_total{method="GET",route="/livez",status="200"} 1.0' in figures
    assert 'route="other",status="404"' in figures
    assert "/nothing" not in figures


async def test_a_path_that_is_not_there_is_a_problem(api: Api) -> None:
    answer = await api.http.get("/nothing")
    assert answer.status_code == 404
    assert answer.json() == {
        "type": "urn:wedsync:error:not_found",
        "title": "There is no such thing",
        "status": 404,
        "code": "not_found",
        "detail": "there is nothing at this path",
        "hint": "there are /graphql, /api/data-pipelines, /livez, /readyz and /metrics",
    }


async def test_a_method_that_is_not_offered_is_a_problem_that_names_those_that_are(api: Api) -> None:
    answer = await api.http.delete("/livez")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json()["hint"].startswith("this path takes ")
    assert "GET" in answer.json()["hint"]


async def test_the_root_says_what_there_is(api: Api) -> None:
    page = await api.http.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in welcome.PLACES:
        assert f'href="{path}"' in page.text
        assert (await api.http.get(path)).status_code != 404
