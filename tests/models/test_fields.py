"""Column types: what goes in comes out, in UTC, in its closed set, and sealed values stay out of sight."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import InvalidRequestError, StatementError
from sqlmodel import col

from models.executions import ExecutionContext, ExecutionState, ExecutionType, PipelineExecution
from models.fields import Envelope, jsonb_text
from models.pipelines import DataPipeline, PipelineType
from models.reports import AccessControl, BiReport, ReportConfig, ReportFormat, ReportType
from models.sources import DataSource, MonitoringConfig, SourceType
from models.streams import ProcessingLogic, SlidingWindow, StreamProcessor
from runtime.database import Database
from tests.kit.identities import ENGINEER, RUNTIME

ENVELOPE = Envelope(key_id="k1", nonce="bm9uY2U=", ciphertext="c2VjcmV0")


NUL, BACKSLASH, REPLACED = "\0", "\\", "\N{REPLACEMENT CHARACTER}"
STORED = {
    "plain": "plain",
    f"a{NUL}b": f"a{REPLACED}b",
    f"{NUL}{NUL}": f"{REPLACED}{REPLACED}",
    f"{BACKSLASH}u0000": f"{BACKSLASH}u0000",
    f"{BACKSLASH}{NUL}": f"{BACKSLASH}{REPLACED}",
    f"{BACKSLASH * 2}u0000{NUL}": f"{BACKSLASH * 2}u0000{REPLACED}",
}


async def test_json_text_holds_what_jsonb_can(database: Database) -> None:
    async with database.transaction(RUNTIME) as session:
        query = text("SELECT CAST(:document AS jsonb)")
        found = await session.scalar(query, {"document": jsonb_text([list(STORED), {NUL: 1}])})
    assert found == [list(STORED.values()), {REPLACED: 1}]


def a_pipeline() -> DataPipeline:
    return DataPipeline(
        pipeline_name="bookings",
        pipeline_type=PipelineType.ETL,
        source_config={"a": None, "b": [1.5]},
        destination_config={},
    )


def a_source() -> DataSource:
    return DataSource(
        source_name="app",
        source_type=SourceType.DATABASE,
        kind="postgres",
        connection_config=ENVELOPE,
        monitoring_config=MonitoringConfig(interval_seconds=60),
    )


async def test_what_postgresql_computes_is_there_after_a_write(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        pipeline = a_pipeline()
        session.add(pipeline)
        await session.flush()
        assert pipeline.created_at == pipeline.updated_at
        assert pipeline.created_at.tzinfo is UTC
    async with database.transaction(ENGINEER) as session:
        found = (await session.scalars(select(DataPipeline))).one()
        assert found.source_config == {"a": None, "b": [1.5]}
        found.is_paused = True
        await session.flush()
        assert found.updated_at > found.created_at


async def test_documents_come_back_as_their_models(database: Database) -> None:
    context = ExecutionContext(parameters={"start": None, "n": [1, {"x": "y"}]}, retry_of=uuid4())
    async with database.transaction(ENGINEER) as session:
        pipeline = a_pipeline()
        session.add(pipeline)
        await session.flush()
        session.add(
            PipelineExecution(
                pipeline_id=pipeline.id,
                execution_id="e-1",
                execution_type=ExecutionType.MANUAL,
                started_at=datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
                execution_context=context,
                triggered_by=ENGINEER.user_id,
            )
        )
        session.add(
            StreamProcessor(
                processor_name="p",
                stream_source="a",
                stream_destination="b",
                processing_logic=ProcessingLogic(transformations=()),
                windowing_config=SlidingWindow(type="sliding", size_seconds=10, advance_seconds=5),
            )
        )
    async with database.transaction(ENGINEER) as session:
        execution = (await session.scalars(select(PipelineExecution))).one()
        assert execution.execution_context == context
        assert execution.state is ExecutionState.QUEUED
        assert execution.error_details is None
        assert execution.started_at == datetime(2024, 1, 1, tzinfo=UTC)
        assert execution.started_at.tzinfo is UTC
        processor = (await session.scalars(select(StreamProcessor))).one()
        assert processor.windowing_config == SlidingWindow(type="sliding", size_seconds=10, advance_seconds=5)
        assert processor.error_handling is None


async def test_a_row_of_another_version_of_the_code_is_read_leniently(
    database: Database, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        """
        INSERT INTO bi_reports (report_name, report_type, data_sources, report_config, access_control)
        VALUES ('r', 'adhoc', '[]', '{"format": "pdf", "visualizations": [], "theme": "dark"}',
                '{"public": true, "x": 1}')
        """
    )
    async with database.transaction(ENGINEER) as session:
        report = (await session.scalars(select(BiReport))).one()
    assert report.report_type is ReportType.ADHOC
    assert report.report_config == ReportConfig(format=ReportFormat.PDF, visualizations=())
    assert report.access_control == AccessControl(public=True)


async def test_json_operators_reach_into_documents(database: Database, owner: asyncpg.Connection) -> None:
    await owner.execute(
        """
        INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config, tags)
        VALUES ('a', 'etl', '{"source_id": "app"}', '{}', '["nightly", "eu"]')
        """
    )
    async with database.transaction(ENGINEER) as session:
        name = select(col(DataPipeline.pipeline_name))
        by_key = name.where(col(DataPipeline.source_config)["source_id"].astext == "app")
        assert (await session.scalars(by_key)).all() == ["a"]
        by_tag = name.where(col(DataPipeline.tags).contains(["eu"]))
        assert (await session.scalars(by_tag)).all() == ["a"]


async def test_engineers_write_sources_they_can_read_but_for_the_sealed_columns(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        source = a_source()
        session.add(source)
        await session.flush()
        source.authentication_config = ENVELOPE
        source.is_active = False
    async with database.transaction(ENGINEER) as session:
        found = (await session.scalars(select(DataSource))).one()
        assert found.monitoring_config == MonitoringConfig(interval_seconds=60)
        with pytest.raises(InvalidRequestError):
            _ = found.connection_config
    async with database.transaction(RUNTIME) as session:
        sealed = select(col(DataSource.connection_config), col(DataSource.authentication_config))
        assert (await session.execute(sealed)).one() == (ENVELOPE, ENVELOPE)
        assert not (await session.scalars(select(DataSource))).one().is_active


async def test_no_authentication_is_an_empty_object_in_the_database_and_none_outside(
    database: Database, owner: asyncpg.Connection
) -> None:
    async with database.transaction(ENGINEER) as session:
        session.add(a_source())
    assert await owner.fetchval("SELECT authentication_config::text FROM data_sources") == "{}"
    async with database.transaction(RUNTIME) as session:
        assert (await session.scalars(select(col(DataSource.authentication_config)))).one() is None


def test_a_source_and_an_envelope_print_no_secret() -> None:
    assert "c2VjcmV0" not in repr(a_source())
    assert "c2VjcmV0" not in f"{ENVELOPE} {ENVELOPE!r}"


async def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        since_then = select(DataPipeline).where(col(DataPipeline.created_at) > datetime(2024, 1, 1))
        with pytest.raises(StatementError, match="no time zone"):
            await session.execute(since_then)


async def test_text_outside_a_closed_set_is_refused(database: Database) -> None:
    async with database.transaction(ENGINEER) as session:
        with pytest.raises(StatementError, match="not a valid PipelineType"):
            await session.execute(insert(DataPipeline).values(pipeline_type="elt"))
