"""A preview shows what each step would do; a step that fails says where in the definition and what to do."""

from models.fields import Json, JsonObject
from runtime.executions.assignments import revisions_of
from runtime.executions.preview import preview, sample_context
from tests.kit.definitions import DIAMOND, READ, load, only, pipeline, step, transform
from tests.kit.engine import Bench
from tests.kit.identities import RUNTIME


async def shown(bench: Bench, definition: JsonObject) -> dict[str, dict[str, Json]]:
    """The steps of a preview by name."""
    _, plan = await bench.pipeline(definition)
    async with bench.database.transaction(RUNTIME) as session:
        context = sample_context(await revisions_of(session, plan), {}, 10)
    steps = preview(plan, context, bench.worker)["steps"]
    assert isinstance(steps, list)
    return {str(one["name"]): one for one in steps if isinstance(one, dict)}


async def test_each_step_shows_its_first_rows(ready: Bench) -> None:
    steps = await shown(ready, DIAMOND)
    assert [(name, one["records_in"], one["records_out"]) for name, one in steps.items()] == [
        ("read", 10, 10),
        ("big", 10, 0),
        ("small", 10, 10),
        ("load", 10, 10),
    ]


async def test_a_query_may_read_its_input_twice(ready: Bench) -> None:
    twice: JsonObject = {"query": "SELECT a.id FROM read AS a JOIN read AS b ON a.id = b.id + 1"}
    steps = await shown(ready, pipeline(READ, transform("neighbours", "sql", twice, "read"), load("neighbours")))
    assert (steps["neighbours"]["records_in"], steps["neighbours"]["records_out"]) == (10, 9)


async def test_a_step_that_fails_says_where_and_what_to_do(ready: Bench) -> None:
    read = step("read", "extract", {"source_id": "in", "dataset": "nothing.csv"})
    steps = await shown(ready, pipeline(read, only("big", "amount > 20"), load("big")))
    broken, needing = steps["read"]["error"], steps["big"]["error"]
    assert isinstance(broken, dict)
    assert (broken["path"], bool(broken["hint"])) == ("steps[0].config.dataset", True)
    assert needing == {
        "code": "missing_input",
        "message": "needs read",
        "hint": "mend read first: its own error says how",
    }
