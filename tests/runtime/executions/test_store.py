"""Executions are read page by page, with their steps and checks, by those who may see them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from models.errors import NotFound
from models.executions import ExecutionState, ExecutionStatus, PipelineExecution, StepExecution
from models.pipelines import DataPipeline, StepType
from models.quality import DataQualityCheck, DataQualityRule, RuleResult, RuleType
from runtime.database import Database
from runtime.executions import store
from runtime.executions.store import ExecutionFilter, FirstPage
from runtime.paging import Window
from runtime.pipelines import listing
from tests.kit.factories.pipelines import dry, execution, pipeline, places, saved, simple
from tests.kit.identities import ANALYST, ENGINEER
from tests.kit.statements import recorded


@pytest.fixture
async def bookings(database: Database) -> DataPipeline:
    await places(database)
    return await pipeline(database)


async def test_an_execution_is_found_by_its_id_and_by_its_name(database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    await saved(database, row)
    async with database.transaction(ENGINEER) as session:
        for reference in (row.id, str(row.id), row.execution_id):
            assert (await store.find(session, reference)).id == row.id
        with pytest.raises(NotFound):
            await store.find(session, "exec-nothing")
    async with database.transaction(ANALYST) as session:
        with pytest.raises(NotFound):
            await store.find(session, row.id)
        assert await store.by_ids(session, [row.id]) == [None]


async def test_pages_go_from_the_newest_back_even_where_moments_are_equal(
    database: Database, bookings: DataPipeline
) -> None:
    rows = [execution(bookings.id, ago=timedelta(hours=number // 2)) for number in range(6)]
    for older in (0, 2, 4):
        rows[older + 1].started_at = rows[older].started_at
    await saved(database, *rows)
    seen: list[PipelineExecution] = []
    window: Window | None = Window(1)
    async with database.transaction(ENGINEER) as session:
        while window is not None:
            page = await store.page(session, ExecutionFilter(bookings.id), window)
            seen.extend(page.rows)
            window = Window(1, page.next_cursor) if page.next_cursor else None
        assert await store.total(session, ExecutionFilter(bookings.id)) == 6
    assert [row.id for row in seen] == [
        row.id for row in sorted(rows, key=lambda row: (row.started_at, row.id), reverse=True)
    ]


async def test_first_pages_of_many_pipelines_take_one_statement_for_what_is_alike(
    database: Database, bookings: DataPipeline
) -> None:
    other = await pipeline(database, simple("other"))
    failed = execution(other.id, ExecutionState.FAILED)
    await saved(database, execution(bookings.id), execution(bookings.id), execution(other.id), failed)
    keys = [FirstPage(bookings.id, 1), FirstPage(other.id, 1), FirstPage(other.id, 5, ExecutionStatus.FAILED)]
    async with database.transaction(ENGINEER) as session:
        with recorded(database) as statements:
            pages = await store.first_pages(session, keys)
    assert len(statements) == 2
    assert [(len(page.rows), page.has_next) for page in pages] == [(1, True), (1, True), (1, False)]
    assert pages[2].rows[0].id == failed.id


async def test_stats_are_of_all_executions(database: Database, bookings: DataPipeline) -> None:
    await saved(
        database,
        execution(bookings.id, took=timedelta(minutes=3), ago=timedelta(days=300)),
        execution(bookings.id, took=timedelta(minutes=1)),
        execution(bookings.id, ExecutionState.FAILED),
        execution(bookings.id, ExecutionState.RUNNING),
        dry(execution(bookings.id, took=timedelta(hours=1))),
    )
    async with database.transaction(ENGINEER) as session:
        mine, none = await store.stats(session, [bookings.id, uuid4()])
    assert (mine.total, mine.success_rate, mine.average_minutes, mine.records) == (4, 66.67, 2.0, 400)
    assert (none.total, none.success_rate, none.average_minutes, none.records) == (0, 0.0, 0.0, 0)


async def test_steps_come_in_the_plans_order_with_their_samples_apart(
    database: Database, bookings: DataPipeline
) -> None:
    row = execution(bookings.id)
    await saved(database, row)
    async with database.transaction(ENGINEER) as session:
        (known,) = await listing.steps(session, [bookings.id])
        for step in reversed(known):
            one = StepExecution(
                pipeline_execution_id=row.id,
                step_id=step.id,
                step_name=step.step_name,
                step_execution_id=f"{row.id}:{step.step_name}",
                started_at=row.started_at,
                input_data_sample=[{"id": 1}],
            )
            session.add(one)
    async with database.transaction(ENGINEER) as session:
        (steps,) = await store.steps(session, [row.id])
        samples = await store.samples(session, [step.id for step in steps])
        types = await store.step_types(session, [step.step_id for step in steps if step.step_id])
    assert [step.step_name for step in steps] == ["extract", "mapping_1", "load"]
    assert types == [StepType.EXTRACT, StepType.TRANSFORM, StepType.LOAD]
    assert samples[0] == ([{"id": 1}], None)
    async with database.transaction(ANALYST) as session:
        assert await store.steps(session, [row.id]) == [[]]


async def test_checks_come_with_their_rules(database: Database, bookings: DataPipeline) -> None:
    row = execution(bookings.id)
    await saved(database, row)
    async with database.transaction(ENGINEER) as session:
        rule = DataQualityRule(
            rule_name="venue is there",
            rule_type=RuleType.COMPLETENESS,
            target_table="fact_bookings",
            rule_expression="venue_name IS NOT NULL",
        )
        session.add(rule)
        await session.flush()
        check = DataQualityCheck(
            pipeline_execution_id=row.id,
            rule_id=rule.id,
            check_timestamp=datetime.now(UTC),
            records_checked=100,
            records_passed=99,
            records_failed=1,
            pass_rate=Decimal("99"),
            quality_score=Decimal("99"),
            rule_result=RuleResult(),
        )
        session.add(check)
    async with database.transaction(ENGINEER) as session:
        ((checked,),) = await store.checks(session, [row.id])
    assert (checked.rule.rule_name, checked.check.records_passed) == ("venue is there", 99)
