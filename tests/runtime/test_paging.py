"""Pages follow each other without gap or repeat, from an index."""

import asyncpg
import pytest
from sqlalchemy import select
from sqlmodel import col

from models.errors import Invalid
from models.pipelines import DataPipeline, PipelineType
from runtime.database import Database
from runtime.paging import Order, Window, count, fetch
from tests.kit.identities import ANALYST

NEWEST = Order((col(DataPipeline.created_at), col(DataPipeline.id)), descending=True)
BY_NAME = Order((col(DataPipeline.pipeline_name),))


@pytest.fixture
async def pipelines(owner: asyncpg.Connection) -> int:
    await owner.execute(
        """
        INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config, created_at)
        SELECT 'pipeline ' || n, 'etl', '{}', '{}', timestamptz '2026-11-24' + (n / 3) * interval '1 microsecond'
        FROM generate_series(1, 25) AS n
        """
    )
    return 25


@pytest.mark.parametrize("order", [NEWEST, BY_NAME], ids=["falling over ties", "rising"])
@pytest.mark.parametrize("first", [1, 4, 25, 100])
async def test_pages_join_to_the_whole_list_in_its_order(
    database: Database, pipelines: int, order: Order, first: int
) -> None:
    seen: list[str] = []
    after: str | None = None
    async with database.transaction(ANALYST) as session:
        whole = (await session.scalars(select(DataPipeline).order_by(*order.terms()))).all()
        while True:
            page = await fetch(session, select(DataPipeline), order, Window(first, after))
            seen += [row.pipeline_name for row in page.rows]
            assert page.has_previous is (after is not None)
            if (after := page.next_cursor) is None:
                break
        assert await count(session, select(DataPipeline)) == pipelines
    assert seen == [row.pipeline_name for row in whole]


async def test_a_cursor_outlives_its_row(database: Database, pipelines: int, owner: asyncpg.Connection) -> None:
    async with database.transaction(ANALYST) as session:
        page = await fetch(session, select(DataPipeline), BY_NAME, Window(3))
    last = page.rows[-1]
    await owner.execute("DELETE FROM data_pipelines WHERE id = $1", last.id)
    async with database.transaction(ANALYST) as session:
        following = await fetch(session, select(DataPipeline), BY_NAME, Window(3, page.next_cursor))
    assert following.rows[0].pipeline_name > last.pipeline_name


def test_a_cursor_of_another_order_is_refused() -> None:
    row = DataPipeline(pipeline_name="one", pipeline_type=PipelineType.ETL, source_config={}, destination_config={})
    with pytest.raises(Invalid, match="not a cursor of this list"):
        NEWEST.after(BY_NAME.cursor(row))


@pytest.mark.parametrize("first", [0, -1, 101])
def test_a_page_has_one_to_a_hundred_rows(first: int) -> None:
    with pytest.raises(Invalid) as refused:
        Window(first)
    assert refused.value.path == "first"
