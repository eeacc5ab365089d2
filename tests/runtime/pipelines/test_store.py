"""Pipelines are saved as versions, projected onto their rows, listed with their figures."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from models.errors import Conflict, Invalid, NotFound
from models.executions import ExecutionState, ExecutionStatus
from models.fields import JsonObject
from models.pipelines import DataPipeline, PipelineStep, PipelineType, StepType
from runtime.database import Database
from runtime.paging import Window
from runtime.pipelines import listing, store
from runtime.pipelines.listing import PipelineFilter
from runtime.pipelines.store import Action, Edit
from tests.kit.factories.pipelines import dry, execution, explicit, pipeline, places, saved, simple
from tests.kit.identities import ANALYST, ENGINEER, OTHER_ANALYST
from tests.kit.statements import recorded


@pytest.fixture(autouse=True)
async def _places(database: Database) -> None:
    await places(database)


async def edited(database: Database, row: DataPipeline, edit: Edit) -> DataPipeline:
    async with database.transaction(ENGINEER) as session:
        return await store.update(session, row.id, edit, ENGINEER)


async def steps_of(database: Database, row: DataPipeline) -> list[PipelineStep]:
    async with database.transaction(ENGINEER) as session:
        return (await listing.steps(session, [row.id]))[0]


async def test_a_new_pipeline_is_version_1_with_its_document_and_plan(database: Database) -> None:
    row = await pipeline(database)
    async with database.transaction(ENGINEER) as session:
        version = await store.version_of(session, row.id, 1)
    assert row.version == 1
    assert version.document == simple()
    assert version.created_by == ENGINEER.user_id
    assert version.plan is not None
    assert [step["name"] for step in steps(version.plan)] == ["extract", "mapping_1", "load"]
    assert len(version.fingerprint) == 64


def steps(plan: JsonObject) -> list[dict[str, Any]]:
    found = plan["steps"]
    assert isinstance(found, list)
    return [step for step in found if isinstance(step, dict)]


async def test_its_columns_and_steps_project_the_document(database: Database) -> None:
    row = await pipeline(database)
    given = simple()
    assert row.source_config == given["source_config"]
    assert row.destination_config == given["destination_config"]
    assert row.transformation_config == given["transformation_config"]
    assert row.schedule_config == given["schedule_config"]
    assert row.pipeline_type is PipelineType.ETL
    shown = [(step.step_name, step.step_type, step.kind, step.depends_on) for step in await steps_of(database, row)]
    assert shown == [
        ("extract", StepType.EXTRACT, "postgres", []),
        ("mapping_1", StepType.TRANSFORM, "mapping", ["extract"]),
        ("load", StepType.LOAD, "parquet", ["mapping_1"]),
    ]


async def test_the_explicit_form_shows_its_first_extract_its_first_load_and_its_transforms(database: Database) -> None:
    row = await pipeline(database, explicit())
    assert row.source_config == {"source_id": "wedding-api-db", "dataset": "bookings"}
    assert row.destination_config["table_name"] == "dear_bookings"
    assert row.transformation_config == {
        "transformations": [{"type": "filter", "config": {"condition": "price > 1000"}}]
    }


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"pipeline_typ": "etl"}, "pipeline_typ"),
        ({"pipeline_type": "elt"}, "pipeline_type"),
        ({"source_config": {"source_id": "nowhere", "dataset": "x"}}, "source_config.source_id"),
        ({"source_config": {"source_id": "wedding-api-db", "query": "SELECT nothing FROM bookings"}}, None),
        ({"pipeline_name": " "}, "pipeline_name"),
        ({"pipeline_name": "6f1c1b0e-7a39-4c56-9a6e-0d2f3c1b2a19"}, "pipeline_name"),
    ],
)
async def test_a_wrong_document_is_refused_with_the_path_of_the_bad_key(
    database: Database, change: JsonObject, path: str | None
) -> None:
    with pytest.raises(Invalid) as refused:
        await pipeline(database, {**simple(), **change})
    assert refused.value.path == (path or "source_config.query")


async def test_a_name_that_is_taken_is_a_conflict(database: Database) -> None:
    await pipeline(database)
    with pytest.raises(Conflict) as refused:
        await pipeline(database)
    assert refused.value.path == "pipeline_name"


async def test_a_change_of_keys_is_merged_into_the_newest_document(database: Database) -> None:
    row = await pipeline(database)
    changed = await edited(database, row, Edit(changes={"description": "Other", "schedule_config": None}, message="m"))
    async with database.transaction(ENGINEER) as session:
        version = await store.version_of(session, row.id, 2)
    assert (changed.version, changed.description, changed.schedule_config) == (2, "Other", {})
    assert "schedule_config" not in version.document
    assert version.message == "m"
    kinds = [(change["kind"], change["path"]) for change in version.difference if isinstance(change, dict)]
    assert sorted(kinds) == [("changed", "description"), ("removed", "schedule_config")]


async def test_a_document_that_says_the_same_makes_no_version(database: Database) -> None:
    row = await pipeline(database)
    again = await edited(database, row, Edit(document={**simple(), "tags": None}))
    assert again.version == 1


async def test_a_plan_that_a_discovery_changed_is_saved_as_a_version_of_the_same_document(
    database: Database, owner: asyncpg.Connection
) -> None:
    row = await pipeline(database)
    await owner.execute("UPDATE data_destinations SET archived_at = now(), destination_name = 'gone'")
    await owner.execute("DELETE FROM schema_versions")
    await owner.execute("DELETE FROM data_sources")
    await places(database)
    again = await edited(database, row, Edit(document=simple()))
    async with database.transaction(ENGINEER) as session:
        assert (await store.version_of(session, row.id, 2)).difference == []
    assert again.version == 2


async def test_giving_steps_replaces_the_simple_form_and_drops_what_it_had(database: Database) -> None:
    row = await pipeline(database)
    await edited(database, row, Edit(changes={"steps": explicit()["steps"]}))
    shown = {step.step_name: step.is_enabled for step in await steps_of(database, row)}
    assert shown == {"read": True, "dear": True, "write": True, "extract": False, "mapping_1": False, "load": False}
    back = await edited(
        database,
        row,
        Edit(changes={key: simple()[key] for key in ("source_config", "destination_config", "transformation_config")}),
    )
    assert back.version == 3
    shown = {step.step_name: step.is_enabled for step in await steps_of(database, row)}
    assert shown == {"read": False, "dear": False, "write": False, "extract": True, "mapping_1": True, "load": True}


async def test_a_save_over_somebody_elses_is_a_conflict(database: Database) -> None:
    row = await pipeline(database)
    await edited(database, row, Edit(changes={"description": "first"}, expected_version=1))
    with pytest.raises(Conflict) as refused:
        await edited(database, row, Edit(changes={"description": "second"}, expected_version=1))
    assert refused.value.specific_code == "version_mismatch"


async def test_a_rollback_is_a_save_of_an_earlier_document(database: Database) -> None:
    row = await pipeline(database)
    await edited(database, row, Edit(changes={"description": "Other"}))
    async with database.transaction(ENGINEER) as session:
        back = await store.rollback(session, row.id, 1, ENGINEER)
    assert (back.version, back.description) == (3, simple()["description"])
    async with database.transaction(ENGINEER) as session:
        assert (await store.version_of(session, row.id, 3)).message == "back to version 1"
        with pytest.raises(NotFound):
            await store.rollback(session, row.id, 9, ENGINEER)


async def test_pausing_and_deactivating_make_no_version(database: Database) -> None:
    row = await pipeline(database)
    changed = await edited(database, row, Edit(is_paused=True, is_active=False))
    assert (changed.is_paused, changed.is_active, changed.version) == (True, False, 1)


async def test_an_archived_pipeline_frees_its_name_and_is_found_no_more(database: Database) -> None:
    row = await pipeline(database)
    async with database.transaction(ENGINEER) as session:
        gone = await store.archive(session, row.id)
    assert gone.pipeline_name.startswith("wedding-booking-etl~archived~")
    async with database.transaction(ENGINEER) as session:
        with pytest.raises(NotFound):
            await store.find(session, row.id)
    async with database.statements(ENGINEER) as session:
        assert (await listing.page(session, PipelineFilter(), Window())).rows == []
    assert (await pipeline(database)).id != row.id


async def test_applying_a_document_adds_then_changes_then_leaves(database: Database) -> None:
    async def applied(document: JsonObject, *, dry_run: bool = False) -> store.Applied:
        async with database.transaction(ENGINEER) as session:
            return await store.apply(session, document, ENGINEER, dry_run=dry_run)

    assert (await applied(simple(), dry_run=True)).pipeline is None
    assert (await applied(simple())).action is Action.CREATED
    rehearsed = await applied(simple(description="Other"), dry_run=True)
    assert (rehearsed.action, [change.path for change in rehearsed.changes]) == (Action.UPDATED, ["description"])
    assert (await applied(simple(description="Other"))).action is Action.UPDATED
    last = await applied(simple(description="Other"))
    assert last.action is Action.UNCHANGED
    assert last.pipeline is not None
    assert last.pipeline.version == 2


async def test_an_analyst_may_read_and_not_write(database: Database) -> None:
    row = await pipeline(database)
    async with database.transaction(ANALYST) as session:
        assert (await store.find(session, "wedding-booking-etl")).id == row.id
        with pytest.raises(NotFound):
            await store.update(session, row.id, Edit(is_paused=True), ANALYST)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (PipelineFilter(), ["a_1", "b%2", "c3"]),
        (PipelineFilter(search="B%"), ["b%2"]),
        (PipelineFilter(search="_"), ["a_1"]),
        (PipelineFilter(tags=("x", "y")), ["c3"]),
        (PipelineFilter(tags=("x",)), ["b%2", "c3"]),
        (PipelineFilter(pipeline_type=PipelineType.SYNC), ["a_1"]),
        (PipelineFilter(is_paused=True), ["b%2"]),
        (PipelineFilter(is_active=True, is_paused=False), ["a_1", "c3"]),
        (PipelineFilter(last_status=ExecutionStatus.FAILED), ["c3"]),
        (PipelineFilter(last_status=ExecutionStatus.RUNNING), []),
    ],
)
async def test_a_filter_finds_what_it_asks_for(database: Database, wanted: PipelineFilter, names: list[str]) -> None:
    await pipeline(database, simple("a_1", pipeline_type="sync", description=None))
    second = await pipeline(database, simple("b%2", tags=["x"], description=None))
    third = await pipeline(database, simple("c3", tags=["y", "x", "z"], description=None))
    await edited(database, second, Edit(is_paused=True))
    older = execution(third.id, ExecutionState.COMPLETED, ago=timedelta(hours=5))
    await saved(database, older, execution(third.id, ExecutionState.FAILED), execution(second.id))
    await saved(database, dry(execution(third.id, ExecutionState.RUNNING, ago=-timedelta(hours=1))))
    async with database.statements(ANALYST if wanted.last_status is None else ENGINEER) as session:
        page = await listing.page(session, wanted, Window())
        assert [row.pipeline_name for row in page.rows] == names
        assert await listing.total(session, wanted) == len(names)


async def test_a_list_goes_on_from_a_cursor(database: Database) -> None:
    for name in ("a", "b", "c"):
        await pipeline(database, simple(name))
    async with database.statements(ENGINEER) as session:
        first = await listing.page(session, PipelineFilter(), Window(2))
        rest = await listing.page(session, PipelineFilter(), Window(2, first.next_cursor))
    assert [row.pipeline_name for row in [*first.rows, *rest.rows]] == ["a", "b", "c"]
    assert rest.next_cursor is None


async def test_figures_are_of_the_last_seven_days(database: Database) -> None:
    row, other = await pipeline(database), await pipeline(database, simple("other"))
    await saved(
        database,
        execution(row.id, took=timedelta(minutes=1)),
        execution(row.id, took=timedelta(minutes=2), ago=timedelta(days=6)),
        execution(row.id, ExecutionState.FAILED),
        execution(row.id, ExecutionState.CANCELLED),
        execution(row.id, ExecutionState.RUNNING, ago=timedelta(minutes=5)),
        execution(row.id, ExecutionState.FAILED, ago=timedelta(days=8)),
        dry(execution(row.id, took=timedelta(hours=1))),
        dry(execution(row.id, ExecutionState.FAILED)),
        dry(execution(other.id, ExecutionState.FAILED)),
        dry(execution(other.id, ExecutionState.RUNNING)),
    )
    async with database.transaction(ENGINEER) as session:
        figures = await listing.figures(session, [other.id, row.id])
        last = await listing.last_executions(session, [row.id, other.id])
        summary = await listing.summary(session)
    assert (figures[0].success_rate, figures[0].average_minutes) == (0.0, 0.0)
    assert (figures[1].success_rate, figures[1].average_minutes) == (66.67, 1.5)
    assert last[0] is not None
    assert (last[0].state, last[1]) == (ExecutionState.RUNNING, None)
    assert (summary.total, summary.active, summary.running, summary.failed_24h) == (2, 2, 1, 1)


async def test_the_figures_of_lists_are_read_from_an_index_alone(database: Database, owner: asyncpg.Connection) -> None:
    row = await pipeline(database)
    await saved(database, *(execution(row.id) for _ in range(200)))
    await owner.execute("DROP INDEX idx_pipeline_executions_started_at, idx_pipeline_executions_pipeline_id")
    await owner.execute("VACUUM ANALYZE pipeline_executions")
    async with database.transaction(ENGINEER) as session:
        for kind in ("seqscan", "bitmapscan"):
            await session.execute(text(f"SET LOCAL enable_{kind} = off"))
        explained = await session.execute(text(f"EXPLAIN {listing._FIGURES.text}"), {"ids": [row.id]})
        plan = "\n".join(explained.scalars())
    assert "Index Only Scan using idx_pipeline_executions_latest" in plan


async def test_an_analyst_sees_figures_of_their_own_executions_alone(
    database: Database, owner: asyncpg.Connection
) -> None:
    row = await pipeline(database)
    mine = execution(row.id, by=ANALYST)
    await saved(database, execution(row.id, ExecutionState.FAILED, by=ENGINEER))
    await owner.execute(
        "INSERT INTO pipeline_executions (id, pipeline_id, execution_id, execution_type, started_at, completed_at,"
        " status, state, triggered_by) VALUES ($1, $2, 'mine', 'manual', $3, $3, 'completed', 'completed', $4)",
        mine.id,
        row.id,
        mine.started_at,
        ANALYST.user_id,
    )
    async with database.transaction(ANALYST) as session:
        assert (await listing.figures(session, [row.id]))[0].success_rate == 100.0
        assert (await listing.last_executions(session, [row.id]))[0] is not None
    async with database.transaction(OTHER_ANALYST) as session:
        assert (await listing.last_executions(session, [row.id])) == [None]
        assert (await listing.summary(session)).failed_24h == 0


async def test_figures_of_many_pipelines_take_one_statement_each(database: Database) -> None:
    rows = [await pipeline(database, simple(f"p{number}")) for number in range(5)]
    await saved(database, *(execution(row.id) for row in rows))
    ids = [row.id for row in rows]
    async with database.transaction(ENGINEER) as session:
        with recorded(database) as statements:
            await listing.figures(session, ids)
            await listing.last_executions(session, ids)
            await listing.steps(session, ids)
            await listing.documents(session, ids)
            await listing.newest_plans(session, ids)
    assert len(statements) == 5


async def test_versions_are_listed_without_their_plans(database: Database) -> None:
    row = await pipeline(database)
    await edited(database, row, Edit(changes={"description": "Other"}))
    async with database.transaction(ENGINEER) as session:
        found = await listing.versions(session, row.id, Window(1))
        assert await listing.total_versions(session, row.id) == 2
        plans = await listing.plans(session, [version.id for version in found.rows])
    assert ([version.version for version in found.rows], found.has_next) == ([2], True)
    assert plans[0] is not None
