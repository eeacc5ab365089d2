"""A backfill is accepted whole, by one statement, and asked for again adds only what is missing or failed."""

import asyncio

import pytest
from sqlalchemy import text

from models.backfills import BackfillState
from models.errors import Conflict, Invalid, NotFound
from models.executions import ExecutionState
from models.fields import Json, JsonObject
from runtime.backfills import requests
from runtime.backfills.requests import BEHIND_LIVE, Prepared, Request
from runtime.database import Database
from runtime.executions.submission import Submission, submit
from runtime.pipelines import store as pipelines
from runtime.pipelines.store import Edit
from tests.kit.factories import pipelines as make
from tests.kit.identities import ENGINEER
from tests.kit.statements import recorded
from tests.runtime.backfills.conftest import Yard, ranged


async def test_a_thousand_executions_are_inserted_by_one_statement(yard: Yard) -> None:
    with recorded(yard.database) as statements:
        found = await yard.request("2023-01-01", "2025-09-27", most_at_once=4)
    inserts = [one for one in statements if "INSERT INTO" in one]
    assert (found.total, found.already, len(inserts), len(statements)) == (1000, 0, 1, 6)
    async with yard.database.transaction(ENGINEER) as session:
        counts = text("""
            SELECT (SELECT count(*) FROM pipeline_executions WHERE backfill_id = :id AND last_event_seq = 1
                        AND execution_type = 'triggered' AND triggered_by = :by AND version = 1),
                (SELECT count(*) FROM execution_events WHERE seq = 1 AND kind = 'execution_queued'),
                (SELECT count(*) FROM work_items WHERE backfill_id = :id AND state = 'queued' AND priority = :behind),
                (SELECT count(*) FROM work_items WHERE backfill_id = :id AND state = 'held' AND pipeline_id = :pipeline)
        """)
        given = {"id": found.id, "by": ENGINEER.user_id, "behind": BEHIND_LIVE, "pipeline": yard.pipeline.id}
        assert tuple((await session.execute(counts, given)).one()) == (1000, 1000, 4, 996)


async def test_each_execution_covers_its_chunk_the_earliest_first(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-04", most_at_once=9)
    assert await yard.ranges(await yard.claim()) == [
        ("2026-01-01", "2026-01-02"),
        ("2026-01-02", "2026-01-03"),
        ("2026-01-03", "2026-01-04"),
    ]


async def test_live_runs_go_before_a_backfill(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-04", most_at_once=3)
    async with yard.database.statements(ENGINEER) as session:
        live = await submit(session, Submission(yard.pipeline.id), ENGINEER)
    (first,) = await yard.claim(1)
    assert first.subject == live.id


async def test_the_same_backfill_under_way_is_not_begun_twice(yard: Yard) -> None:
    first = await yard.request("2026-01-01", "2026-01-11")
    again = await yard.request("2026-01-01", "2026-01-11")
    assert (again.id, again.total) == (first.id, 10)


async def test_of_two_at_once_one_is_begun(yard: Yard) -> None:
    both = await asyncio.gather(*(yard.request("2026-01-01", "2026-01-11") for _ in range(4)))
    assert len({one.id for one in both}) == 1
    assert (await yard.progress(both[0].id)).total == 10


async def test_asked_for_again_only_what_is_missing_or_failed_is_run(yard: Yard) -> None:
    first = await yard.request("2026-01-01", "2026-01-07", most_at_once=9)
    claims = await yard.claim()
    await yard.end(*claims[:4])
    await yard.end(claims[4], state=ExecutionState.FAILED)
    await yard.end(claims[5], state=ExecutionState.CANCELLED)
    await yard.keep()
    assert (await yard.backfill(first.id)).state is BackfillState.FAILED
    second = await yard.request("2026-01-01", "2026-01-07", most_at_once=9)
    assert (second.total, second.already) == (2, 4)
    assert await yard.ranges(await yard.claim()) == [("2026-01-05", "2026-01-06"), ("2026-01-06", "2026-01-07")]
    wider = await yard.request("2026-01-01", "2026-01-09")
    assert (wider.total, wider.already) == (2, 6)
    assert (await yard.progress(first.id)).failed == 1


async def test_what_has_completed_is_run_again_when_that_is_asked(yard: Yard) -> None:
    first = await yard.request("2026-01-01", "2026-01-04", most_at_once=9)
    await yard.through()
    same = await yard.request("2026-01-01", "2026-01-04")
    assert (same.id, same.state) == (first.id, BackfillState.COMPLETED)
    again = await yard.request("2026-01-01", "2026-01-04", again=True)
    assert (again.id != first.id, again.total) == (True, 3)


async def test_other_parameters_are_another_backfill(yard: Yard) -> None:
    first = await yard.request("2026-01-01", "2026-01-04", parameters={"venue": 1})
    other = await yard.request("2026-01-01", "2026-01-04", parameters={"venue": 2})
    assert (other.id != first.id, other.total) == (True, 3)


async def test_a_range_that_other_backfills_have_run_is_a_conflict_with_the_remedy(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-11")
    with pytest.raises(Conflict, match="all 3 chunks have completed or are under way") as caught:
        await yard.request("2026-01-02", "2026-01-05")
    assert "`again`" in (caught.value.hint or "")


async def test_a_preview_tells_what_would_run_and_adds_nothing(yard: Yard) -> None:
    await yard.request("2026-01-01", "2026-01-03", most_at_once=2)
    await yard.through()

    async def preview(*, again: bool = False) -> Prepared:
        wanted = Request(yard.pipeline.id, "2026-01-01", "2026-01-05", again=again)
        async with yard.database.transaction(ENGINEER) as session:
            return await requests.prepare(session, wanted)

    found = await preview()
    assert [(chunk.state, chunk.will_run) for chunk in found.chunks] == [
        (ExecutionState.COMPLETED, False),
        (ExecutionState.COMPLETED, False),
        (None, True),
        (None, True),
    ]
    assert (len((await preview(again=True)).due), len((await preview()).due)) == (4, 2)


QUERY = "SELECT * FROM bookings WHERE event_date >= :range_start AND event_date < :range_end"


def reads(**config: Json) -> JsonObject:
    return ranged(source_config={"source_id": "wedding-api-db", **config})


@pytest.mark.parametrize(
    "definition",
    [
        reads(query=QUERY),
        reads(dataset="bookings", incremental={"cursor_column": "updated_at"}),
        {**reads(dataset="bookings"), "parameters": {"range_start": "2026-01-01"}},
    ],
)
async def test_a_pipeline_takes_a_range_by_query_cursor_or_parameter(
    database: Database, definition: JsonObject
) -> None:
    await make.places(database)
    pipeline = await make.pipeline(database, definition)
    assert (await Yard(database, pipeline).request("2026-01-01", "2026-01-04")).total == 3


@pytest.mark.parametrize(
    ("definition", "code", "told"),
    [
        (reads(dataset="bookings"), "no_range", "`WHERE day >= :range_start"),
        (reads(query="SELECT * FROM bookings WHERE updated_at > :last_run"), "no_range", "write :range_start"),
        (reads(query="SELECT '::range_start' AS id"), "no_range", "write :range_start"),
        (reads(dataset="bookings", incremental={"cursor_column": "id"}), "no_range", "instead of `incremental`"),
        (
            {
                **reads(query=QUERY),
                "destination_config": {
                    "destination_id": "analytics-warehouse",
                    "table_name": "copies",
                    "write_mode": "overwrite",
                },
            },
            "overwrites",
            "append or upsert",
        ),
    ],
)
async def test_a_pipeline_that_cannot_be_backfilled_is_refused_with_the_remedy(
    database: Database, definition: JsonObject, code: str, told: str
) -> None:
    await make.places(database)
    pipeline = await make.pipeline(database, definition)
    with pytest.raises(Invalid) as caught:
        await Yard(database, pipeline).request("2026-01-01", "2026-01-04")
    assert (caught.value.specific_code, told in (caught.value.hint or "")) == (code, True)


async def test_a_paused_pipeline_is_a_conflict(yard: Yard) -> None:
    async with yard.database.transaction(ENGINEER) as session:
        await pipelines.update(session, yard.pipeline.id, Edit(is_paused=True), ENGINEER)
    with pytest.raises(Conflict, match="is paused"):
        await yard.request("2026-01-01", "2026-01-04")


@pytest.mark.parametrize(
    ("how", "path"),
    [
        ({"most_at_once": 0}, "most_at_once"),
        ({"most_at_once": 1_001}, "most_at_once"),
        ({"priority": 101}, "priority"),
        ({"parameters": {"range_start": "x"}}, "parameters.range_start"),
    ],
)
async def test_what_cannot_be_says_where(yard: Yard, how: dict[str, object], path: str) -> None:
    with pytest.raises(Invalid) as caught:
        await yard.request("2026-01-01", "2026-01-04", "1d", **how)
    assert caught.value.path == path


async def test_an_unknown_pipeline_is_not_found(yard: Yard) -> None:
    with pytest.raises(NotFound, match="no pipeline 'nowhere'"):
        async with yard.database.statements(ENGINEER) as session:
            await requests.request(session, Request("nowhere", "2026-01-01", "2026-01-02"), ENGINEER)
