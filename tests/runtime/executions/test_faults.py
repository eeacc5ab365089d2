"""A fused task's failure is told of the step at fault, wherever in the chain it is."""

from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.connectors import store as places
from runtime.connectors.store import DestinationDraft
from runtime.executions.journal import Ending
from tests.kit.database import Postgres
from tests.kit.definitions import READ, load, only, pipeline, step, transform
from tests.kit.engine import Bench
from tests.kit.identities import ENGINEER

DERIVED = transform("derived", "derive", {"columns": {"twice": "amount * 2"}}, "read")
LATE = "CASE WHEN id < 90 THEN id ELSE {} END"
"""What goes wrong after the first rows, which are samples."""


def at(ending: Ending) -> tuple[str, str]:
    assert ending.state is ExecutionState.FAILED
    assert ending.error is not None
    return ending.error.error_type, ending.error.failed_step


async def told(bench: Bench, execution: UUID) -> dict[str, tuple[Any, ...]]:
    """Each step's status, and whether its row has the error."""
    query = "SELECT * FROM step_executions WHERE pipeline_execution_id = :id"
    async with bench.database.transaction(ENGINEER) as session:
        rows = (await session.execute(text(query), {"id": execution})).all()
    return {row.step_name: (row.status, row.error_message is not None) for row in rows}


async def test_a_source_with_a_bad_row_is_at_fault_itself(ready: Bench) -> None:
    await ready.files("broken")
    (ready.folder / "broken" / "rows.csv").write_text("id,amount\n1,2.5\n2\n3,4.5\n")
    read = step("read", "extract", {"source_id": "broken", "dataset": "rows.csv"})
    execution, ending = await ready.run(pipeline(read, DERIVED, load("derived")))
    assert at(ending)[1] == "read"
    assert await told(ready, execution) == {
        "read": ("failed", True),
        "derived": ("skipped", False),
        "load": ("skipped", False),
    }


async def test_a_source_whose_data_is_gone_is_at_fault_itself(ready: Bench) -> None:
    saved, _ = await ready.pipeline(pipeline(READ, DERIVED, load("derived")))
    (ready.folder / "in" / "rows.csv").unlink()
    _, ending = await ready.again(saved)
    assert at(ending)[1] == "read"


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        (LATE.format("CAST(city AS INTEGER)"), "bad_value"),
        (LATE.format("9000000000000000000 + id * 10000000000000000"), "overflow"),
        (LATE.format("CAST(error('no such seat') AS INTEGER)"), "engine"),
    ],
)
@pytest.mark.parametrize("faulty", ["first", "second", "third"])
async def test_of_several_queries_the_one_that_breaks_is_at_fault(
    ready: Bench, faulty: str, expression: str, code: str
) -> None:
    names = ["read", "first", "second", "third"]
    chain = [
        transform(name, "derive", {"columns": {f"by_{name}": expression if name == faulty else "id + 1"}}, before)
        for before, name in pairwise(names)
    ]
    execution, ending = await ready.run(pipeline(READ, *chain, load("third")))
    assert at(ending) == (code, faulty)
    assert (await told(ready, execution))[faulty] == ("failed", True)


async def test_the_query_between_two_filters_is_at_fault(ready: Bench) -> None:
    chain = (
        only("some", "id > 1"),
        transform("typed", "cast", {"columns": {"city": "INTEGER"}}, "some"),
        only("few", "city > 1", "typed"),
    )
    _, ending = await ready.run(pipeline(READ, *chain, load("few")))
    assert at(ending) == ("bad_value", "typed")


async def test_a_load_that_the_destination_refuses_is_at_fault_itself(ready: Bench, postgres: Postgres) -> None:
    name = await postgres.create()
    async with postgres.connect(name) as connection:
        await connection.execute("CREATE TABLE t (id bigint CHECK (id < 50), amount double precision)")
    settings: JsonObject = {"host": str(postgres.server.folder), "user": "postgres", "database": name}
    async with ready.database.transaction(ENGINEER) as session:
        draft = DestinationDraft(name="hall", connection=settings)
        await places.create_destination(session, ready.sealer, ENGINEER, "postgres", draft)
    picked = transform("picked", "mapping", {"mappings": {"id": "id", "amount": "amount"}}, "read")
    into: JsonObject = {"destination_id": "hall", "table_name": "t", "write_mode": "append"}
    _, ending = await ready.run(pipeline(READ, picked, step("load", "load", into, "picked")))
    assert at(ending) == ("check_failed", "load")
    unfit = step("load", "load", into, "read")
    _, ending = await ready.run(pipeline(READ, unfit, name="unfit"))
    assert at(ending)[1] == "load"


async def test_a_step_by_itself_is_at_fault_whatever_breaks_it(ready: Bench) -> None:
    grouped: JsonObject = {"group_by": ["city"], "aggregates": {"n": "sum(CAST(city AS INTEGER))"}}
    _, ending = await ready.run(pipeline(READ, transform("grouped", "aggregation", grouped, "read"), load("grouped")))
    assert at(ending) == ("bad_value", "grouped")
