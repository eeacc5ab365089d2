"""WS-269's own tests of its pipelines, carried over, through its REST endpoints on the running program."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.embedded.stack import METADATA
from tests.kit.desk import CREATE_DESTINATION, CREATE_SOURCE, DISCOVER_DESTINATION, DISCOVER_SOURCE, ERROR, Desk

PIPELINES = "/api/data-pipelines"
SOURCE = "wedding-api-db"
WAREHOUSE = "analytics-warehouse"
BOOKINGS = 200
AT_ONCE = 20
AVERAGE_SECONDS = 30.0

ARCHIVE = f"mutation($id: ID!) {{ archivePipeline(id: $id) {{ __typename {ERROR} }} }}"

CREATE: JsonObject = {
    "pipeline_name": "wedding-booking-etl",
    "pipeline_type": "etl",
    "description": "Process wedding booking data",
    "source_config": {
        "source_id": SOURCE,
        "query": "SELECT * FROM bookings WHERE updated_at > :last_run",
        "batch_size": 1000,
    },
    "destination_config": {
        "destination_id": WAREHOUSE,
        "table_name": "fact_bookings",
        "write_mode": "upsert",
    },
    "transformation_config": {
        "transformations": [
            {
                "type": "mapping",
                "config": {
                    "mappings": {
                        "booking_id": "id",
                        "venue_name": "venue.name",
                        "wedding_date": "event_date",
                    }
                },
            }
        ]
    },
    "schedule_config": {"type": "cron", "expression": "0 */4 * * *", "timezone": "UTC"},
}
"""WS-269's example, word for word."""

ITEM = {
    *("id", "pipeline_name", "pipeline_type", "description", "is_active", "is_paused", "success_rate_7d"),
    *("avg_execution_time_minutes", "created_at", "last_execution", "next_scheduled_run"),
}


@pytest.fixture
async def warehouse(desk: Desk) -> str:
    """The databases under WS-269's names: bookings with venues as JSON, and `fact_bookings`; its database's name."""
    name = await desk.database("ws269")
    async with desk.connect(name) as connection:
        await connection.execute("""
            CREATE TABLE bookings (id int PRIMARY KEY, venue jsonb, event_date date, updated_at timestamptz);
            CREATE TABLE fact_bookings (booking_id int PRIMARY KEY, venue_name text, wedding_date date);
            CREATE TABLE fact_batches (booking_id int, batch_id int);
        """)
        await connection.execute(
            """INSERT INTO bookings SELECT n, jsonb_build_object('name', 'Venue ' || n % 7), date '2027-05-01' + n % 90,
               timestamptz '2026-01-01' + n * interval '1 minute' FROM generate_series(1, $1) AS n""",
            BOOKINGS,
        )
    return name


class Platform:
    """WS-269's service as its tests call it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.created: list[str] = []

    async def create(self, body: JsonObject) -> dict[str, Any]:
        """Create a pipeline."""
        answer = await self.desk.http.post(PIPELINES, json=body)
        assert answer.status_code == 201, answer.text
        result: dict[str, Any] = answer.json()
        self.created.append(result["id"])
        return result

    async def execute(self, pipeline: str, body: JsonObject) -> dict[str, Any]:
        """Execute a pipeline."""
        answer = await self.desk.http.post(f"{PIPELINES}/{pipeline}/execute", json=body)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        assert set(result) - {"estimated_duration_minutes"} == {"execution_id", "pipeline_id", "status", "started_at"}
        return result

    async def details(self, pipeline: str, execution: str) -> dict[str, Any]:
        """How an execution stands."""
        answer = await self.desk.http.get(f"{PIPELINES}/{pipeline}/executions/{execution}/details")
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result


@pytest.fixture
async def service(desk: Desk, warehouse: str) -> AsyncIterator[Platform]:
    """The service, with the source and the destination that WS-269's example names; afterwards the names are free."""
    await free_names(desk)
    reach = desk.reach(warehouse)
    made: JsonObject = {"sourceName": SOURCE, "kind": "postgres", "connectionConfig": reach}
    source = (await desk.done(CREATE_SOURCE, input=made))["id"]
    made = {"destinationName": WAREHOUSE, "kind": "postgres", "connectionConfig": reach}
    destination = (await desk.done(CREATE_DESTINATION, input=made))["id"]
    await desk.done(DISCOVER_SOURCE, id=source)
    await desk.done(DISCOVER_DESTINATION, id=destination)
    platform = Platform(desk)
    yield platform
    for pipeline in platform.created:
        await desk.done(ARCHIVE, id=pipeline)
    await free_names(desk)


async def free_names(desk: Desk) -> None:
    """Let go of the names: the demo platform, which other tests load into the same program, has a warehouse too."""
    async with desk.connect(METADATA) as connection:
        for noun, name in (("source", SOURCE), ("destination", WAREHOUSE)):
            await connection.execute(
                f"""UPDATE data_{noun}s
                    SET {noun}_name = {noun}_name || '~' || id, archived_at = now(), is_active = false
                    WHERE {noun}_name = $1""",
                name,
            )


async def test_should_create_etl_pipeline_with_transformations(service: Platform, warehouse: str) -> None:
    result = await service.create(CREATE)
    assert UUID(result["id"])
    assert set(result) == ITEM
    assert (result["pipeline_name"], result["pipeline_type"]) == ("wedding-booking-etl", "etl")
    assert (result["is_active"], result["is_paused"]) == (True, False)
    execution = await service.execute(result["id"], {"execution_type": "manual"})
    done = await service.desk.finished(execution["execution_id"])
    assert (done.state, done.records_inserted) == (ExecutionState.COMPLETED, BOOKINGS), done.error_details
    async with service.desk.connect(warehouse) as connection:
        differing = await connection.fetchval("""
            SELECT count(*) FROM bookings FULL JOIN fact_bookings ON booking_id = id
            WHERE (venue_name, wedding_date) IS DISTINCT FROM (venue ->> 'name', event_date)
        """)
        assert differing == 0
        await connection.execute("""
            UPDATE bookings SET event_date = '2028-01-01', updated_at = now() WHERE id <= 3;
            INSERT INTO bookings VALUES (1000, '{"name": "The Barn"}', '2028-02-02', now());
        """)
    again = await service.execute(result["id"], {"execution_type": "manual"})
    second = await service.desk.finished(again["execution_id"])
    assert (second.records_processed, second.records_inserted, second.records_updated) == (4, 1, 3)


async def test_should_execute_pipeline_and_track_quality_metrics(service: Platform) -> None:
    pipeline = (await service.create(CREATE))["id"]
    result = await service.execute(pipeline, {"execution_type": "manual", "parameters": {"start_date": "2024-01-01"}})
    assert result["execution_id"]
    assert result["status"] == "running"
    assert result["pipeline_id"] == pipeline
    await service.desk.finished(result["execution_id"])
    final = await service.details(pipeline, result["execution_id"])
    assert set(final) == {"execution", "steps", "quality_checks"}
    execution = final["execution"]
    assert execution["status"] in ("completed", "failed")
    assert (execution["status"], execution["records_processed"]) == ("completed", BOOKINGS)
    assert set(execution["performance_metrics"]) == {
        *("total_duration_ms", "extract_duration_ms", "transform_duration_ms", "load_duration_ms"),
        *("peak_memory_usage_mb", "avg_cpu_usage_percent"),
    }
    assert [(step["step_type"], step["status"], step["records_out"]) for step in final["steps"]] == [
        (kind, "completed", BOOKINGS) for kind in ("extract", "transform", "load")
    ]
    assert final["quality_checks"] == []
    assert "data_quality_score" not in execution


async def test_should_handle_concurrent_pipeline_executions(service: Platform, warehouse: str) -> None:
    query = f"SELECT id AS booking_id, :batch_id::int AS batch_id FROM bookings WHERE id % {AT_ONCE} = :batch_id::int"
    source: JsonObject = {"source_id": SOURCE, "query": query}
    destination: JsonObject = {"destination_id": WAREHOUSE, "table_name": "fact_batches", "write_mode": "append"}
    made = [
        await service.create(
            {
                "pipeline_name": f"test-pipeline-{number}",
                "pipeline_type": "etl",
                "source_config": source,
                "destination_config": destination,
            }
        )
        for number in range(AT_ONCE)
    ]
    executions = await asyncio.gather(
        *(
            service.execute(pipeline["id"], {"execution_type": "manual", "parameters": {"batch_id": number}})
            for number, pipeline in enumerate(made)
        )
    )
    assert len({execution["execution_id"] for execution in executions}) == AT_ONCE
    done = await asyncio.gather(*(service.desk.finished(execution["execution_id"]) for execution in executions))
    assert [one.state for one in done] == [ExecutionState.COMPLETED] * AT_ONCE, [one.error_details for one in done]
    assert sum((one.milliseconds or 0) / 1000 for one in done) / AT_ONCE < AVERAGE_SECONDS
    async with service.desk.connect(warehouse) as connection:
        loaded = await connection.fetch("SELECT booking_id, batch_id FROM fact_batches ORDER BY booking_id")
    assert [tuple(row) for row in loaded] == [(number, number % AT_ONCE) for number in range(1, BOOKINGS + 1)]
