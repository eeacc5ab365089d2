"""Rows that a step rejects are set aside as they came: in is out and set aside, wherever in a chain the step is."""

from typing import Any
from uuid import UUID

from sqlalchemy import text

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.connectors._contract import Rejections
from tests.kit.definitions import load, only, pipeline, step, transform
from tests.kit.engine import Bench
from tests.kit.identities import ENGINEER

ROWS = [{"id": number, "seats": "many" if number % 10 == 3 else str(number), "day": "1.5.2026"} for number in range(50)]
READ = step("read", "extract", {"source_id": "hall", "dataset": "rows.csv"})


def typed(name: str = "typed", source: str = "read", **columns: Any) -> JsonObject:
    return transform(name, "cast", {"columns": columns, "on_error": "reject"}, source)


async def told(bench: Bench, execution: UUID) -> dict[str, tuple[int, int, int | None]]:
    """For each step: the rows that went in, came out, and were set aside."""
    query = "SELECT * FROM step_executions WHERE pipeline_execution_id = :id"
    async with bench.database.transaction(ENGINEER) as session:
        rows = (await session.execute(text(query), {"id": execution})).all()
    return {
        row.step_name: (row.records_in, row.records_out, row.transformation_stats.get("rows_set_aside")) for row in rows
    }


async def aside(bench: Bench, execution: UUID) -> list[tuple[str, JsonObject, str, str]]:
    query = """SELECT step_name, row, reason, status FROM quarantined_rows
               WHERE pipeline_execution_id = :id ORDER BY step_name, (row ->> 'id')::int"""
    async with bench.database.transaction(ENGINEER) as session:
        return [tuple(row) for row in (await session.execute(text(query), {"id": execution})).all()]


async def test_the_rows_a_fused_cast_rejects_are_set_aside_as_they_came(ready: Bench) -> None:
    await ready.files("hall", ROWS)
    chain = pipeline(
        READ,
        only("late", "id >= 10"),
        transform("doubled", "derive", {"columns": {"twice": "id * 2"}}, "late"),
        typed(source="doubled", seats="INTEGER"),
        only("few", "seats < 40", "typed"),
        load("few"),
    )
    execution, ending = await ready.run(chain)
    assert ending.state is ExecutionState.COMPLETED
    assert (ending.totals["inserted"], ending.totals["failed"]) == (27, 4)
    assert await told(ready, execution) == {
        "read": (50, 50, None),
        "late": (50, 40, None),
        "doubled": (40, 40, None),
        "typed": (40, 36, 4),
        "few": (36, 27, None),
        "load": (27, 27, None),
    }
    assert await aside(ready, execution) == [
        (
            "typed",
            {"id": number, "seats": "many", "day": "1.5.2026", "twice": number * 2},
            "seats is no INT",
            "pending",
        )
        for number in (13, 23, 33, 43)
    ]
    assert len(ready.read("out", "t")) == 27


async def test_each_of_two_steps_that_reject_sets_its_own_rows_aside(ready: Bench) -> None:
    await ready.files(
        "hall", [*ROWS, {"id": 50, "seats": "50", "day": "soon"}, {"id": 51, "seats": "x", "day": "soon"}]
    )
    dated = typed("dated", "typed", day={"type": "DATE", "format": "%d.%m.%Y"})
    execution, ending = await ready.run(pipeline(READ, typed(seats="INTEGER"), dated, load("dated")))
    assert ending.totals["failed"] == 7
    found = await aside(ready, execution)
    assert [(name, row["id"]) for name, row, *_ in found] == [
        ("dated", 50),
        *(("typed", number) for number in (3, 13, 23, 33, 43, 51)),
    ]
    assert found[0][1]["seats"] == 50, "as it came to the second step"
    counts = await told(ready, execution)
    assert (counts["typed"], counts["dated"]) == ((52, 46, 6), (46, 45, 1))


async def test_a_step_that_rejects_after_a_wide_one_sets_rows_aside_too(ready: Bench) -> None:
    await ready.files("hall", ROWS)
    grouped = transform("grouped", "aggregation", {"group_by": ["seats"], "aggregates": {"n": "count(*)"}}, "read")
    execution, ending = await ready.run(
        pipeline(READ, grouped, typed(source="grouped", seats="INTEGER"), load("typed"))
    )
    assert (ending.totals["inserted"], ending.totals["failed"]) == (45, 1)
    ((name, row, *_),) = await aside(ready, execution)
    assert (name, row) == ("typed", {"seats": "many", "n": 5})
    assert (await told(ready, execution))["typed"] == (46, 45, 1)


async def test_a_dry_run_counts_what_it_would_set_aside_and_keeps_none_of_it(ready: Bench) -> None:
    await ready.files("hall", ROWS)
    execution, ending = await ready.run(pipeline(READ, typed(seats="INTEGER"), load("typed")), dry_run=True)
    assert (ending.totals["inserted"], ending.totals["failed"]) == (0, 5)
    assert (await told(ready, execution))["typed"] == (50, 45, 5)
    assert await aside(ready, execution) == []


async def test_all_are_counted_and_the_first_are_kept_none_of_them_longer_than_it_may_be(ready: Bench) -> None:
    long = "m" * 3 * Rejections.LONGEST
    rows = [{"id": number, "seats": long if number == 7 else "many"} for number in range(3 * Rejections.KEPT)]
    await ready.files("hall", [{"id": -1, "seats": "1"}, *rows])
    execution, ending = await ready.run(pipeline(READ, typed(seats="INTEGER"), load("typed")))
    assert (ending.totals["inserted"], ending.totals["failed"]) == (1, 3 * Rejections.KEPT)
    found = [row for _, row, *_ in await aside(ready, execution)]
    assert len(found) == Rejections.KEPT
    (cut,) = [row["text"] for row in found if "id" not in row]
    assert str(cut).startswith('{"id":7,"seats":"mmm')
    assert len(str(cut)) == Rejections.LONGEST
