"""How long does the list of pipelines take, with all its figures, over a large history?"""

import time
from typing import Final

import httpx
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from api.signing import signed
from benchmarks.headline import Headline, percentile, seconds
from benchmarks.server import Server
from benchmarks.sizes import Sized
from models.access import Role
from models.fields import JsonObject
from runtime.embedded.stack import METADATA
from runtime.paging import LARGEST_PAGE

PIPELINES: Final = 1_000
EXECUTIONS: Final = 1_000_000
DAYS: Final = 30
REQUESTS: Final = 200
WARM_UP: Final = 20

_PIPELINES: Final = """
    INSERT INTO data_pipelines (pipeline_name, pipeline_type, description, source_config, destination_config, version)
    SELECT format('list-%s', to_char(n, 'FM0000')), 'etl', 'Pipeline number ' || n, '{{}}', '{{}}', 1
    FROM generate_series(1, {pipelines}) n
"""
_EXECUTIONS: Final = """
    INSERT INTO pipeline_executions (pipeline_id, execution_id, execution_type, started_at, completed_at, status, state,
        records_processed, records_inserted, data_quality_score, performance_metrics, version)
    SELECT pipeline.id, format('list-%s-%s', pipeline.number, n), 'scheduled', at, at + interval '1 minute', ending,
        ending, n, n, 99, '{{"total_duration_ms": 60000}}', 1
    FROM (SELECT id, row_number() OVER (ORDER BY pipeline_name) AS number FROM data_pipelines) AS pipeline
    CROSS JOIN generate_series(1, {each}) n
    CROSS JOIN LATERAL (
        SELECT now() - n * interval '{days} days' / {each} - interval '2 minutes' AS at,
            CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END AS ending
    ) AS made
"""
LIST: Final = """
    query($first: Int!, $after: String) {
        pipelines(first: $first, after: $after) {
            nodes {
                id pipelineName pipelineType description isActive isPaused createdAt successRate7d
                avgExecutionTimeMinutes
                lastExecution { executionId status startedAt completedAt recordsProcessed dataQualityScore }
            }
            pageInfo { hasNextPage endCursor }
        }
    }
"""


@pytest.fixture(scope="session")
def history(server: Server, sized: Sized) -> tuple[int, int]:
    """So many pipelines, and executions of them over the last month, one after the other in time."""
    pipelines, executions = sized(PIPELINES), sized(EXECUTIONS)
    server.sql(
        METADATA,
        _PIPELINES.format(pipelines=pipelines),
        _EXECUTIONS.format(each=executions // pipelines, days=DAYS),
        "VACUUM ANALYZE data_pipelines",
        "VACUUM ANALYZE pipeline_executions",
        "CHECKPOINT",
    )
    return pipelines, executions


def client_of(server: Server) -> httpx.Client:
    """A signed-in client that keeps its connection."""
    token = signed(server.settings, Role.DATA_ENGINEER)
    headers = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server.stack.addresses.api_url, headers=headers, timeout=60.0, trust_env=False)


def told(times: list[float], history: tuple[int, int]) -> Headline:
    """The headline of requests that took these seconds."""
    p50, p95 = (1000 * percentile(times, percent) for percent in (50, 95))
    return Headline(
        value=f"{p50:.0f} / {p95:.0f}",
        unit="ms, p50 / p95",
        against=f"{history[0]:,} pipelines, {history[1]:,} executions in {DAYS} days",
        target="p95 <= 60",
    )


def measured(ask: "Asking", benchmark: BenchmarkFixture) -> list[float]:
    """The seconds of each request, page after page through the whole list."""
    times: list[float] = []

    def once() -> None:
        began = time.perf_counter()
        ask.next_page()
        times.append(time.perf_counter() - began)

    seconds(benchmark, once, rounds=REQUESTS, warm_up=WARM_UP)
    return times[WARM_UP:]


class Asking:
    """Asks for page after page of the list, from the first again after the last."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.after: str | None = None

    def next_page(self) -> None:
        """Ask for one page."""
        raise NotImplementedError


class AskingGraphql(Asking):
    """In GraphQL, for the keys of WS-269's list items."""

    def next_page(self) -> None:
        variables: JsonObject = {"first": LARGEST_PAGE, "after": self.after}
        answer = self.client.post("/graphql", json={"query": LIST, "variables": variables}).json()
        page = answer["data"]["pipelines"]
        assert page["nodes"][0]["successRate7d"] > 0
        self.after = page["pageInfo"]["endCursor"] if page["pageInfo"]["hasNextPage"] else None


class AskingRest(Asking):
    """In REST, where the summary of all pipelines comes with each page."""

    def next_page(self) -> None:
        following = self.after or f"/api/data-pipelines?limit={LARGEST_PAGE}"
        answer = self.client.get(following)
        assert answer.json()["pipelines"][0]["success_rate_7d"] > 0
        link = answer.links.get("next")
        self.after = link["url"] if link else None


def test_list_in_graphql(server: Server, history: tuple[int, int], benchmark: BenchmarkFixture) -> None:
    with client_of(server) as client:
        told(measured(AskingGraphql(client), benchmark), history).on(benchmark)


def test_list_in_rest_with_its_summary(server: Server, history: tuple[int, int], benchmark: BenchmarkFixture) -> None:
    with client_of(server) as client:
        told(measured(AskingRest(client), benchmark), history).on(benchmark)
