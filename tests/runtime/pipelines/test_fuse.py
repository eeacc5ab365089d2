"""Tests of joining steps into tasks, and that a task's one query gives what its steps give one by one."""

from collections import Counter
from collections.abc import Mapping
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.fields import Json, JsonObject
from models.sources import SourceType
from runtime.batches.types import Column
from runtime.connectors.catalog import Catalog, SourceEntry
from runtime.pipelines.fuse import counting_sql, fused_sql, only_unites, prefix_sql, set_aside_sql
from runtime.pipelines.plan import Plan, PlanTask
from tests.runtime.pipelines.platform import CATALOG, compiled, explicit, extract, load, transform

ALL: JsonObject = {"condition": "id > 1"}


def members(*steps: JsonObject) -> list[tuple[str, ...]]:
    """The members of each task of a pipeline of these steps."""
    return [task.members for task in compiled(explicit(*steps)).tasks]


def test_row_wise_neighbours_fuse_with_their_extract_and_their_load() -> None:
    steps = [extract("e"), transform("f", "filter", ALL, "e"), transform("g", "filter", ALL, "f"), load("l", "g")]
    assert members(*steps) == [("e", "f", "g", "l")]


def test_a_wide_step_begins_a_task_and_what_follows_row_wise_joins_it() -> None:
    steps = [
        extract("e"),
        transform("f", "filter", ALL, "e"),
        transform("d", "deduplicate", {"keys": ["id"]}, "f"),
        transform("g", "filter", ALL, "d"),
        load("l", "g"),
    ]
    assert members(*steps) == [("e", "f"), ("d", "g", "l")]


def test_a_step_that_two_read_ends_its_task() -> None:
    steps = [
        extract("e"),
        transform("f", "filter", ALL, "e"),
        transform("g", "filter", ALL, "f"),
        transform("h", "filter", ALL, "f"),
        load("l", "g", "h"),
    ]
    plan = compiled(explicit(*steps))
    assert [task.members for task in plan.tasks] == [("e", "f"), ("g",), ("h",), ("l",)]
    assert plan.task_of("l").inputs == ("g", "h")
    assert plan.task_of("g").inputs == ("f",)


@pytest.mark.parametrize(
    "change",
    [
        {"critical": False},
        {"timeout_minutes": 5},
        {"timeout_seconds": 90},
        {"retry_attempts": 9},
        {"retry_policy": {"multiplier": 3.0}},
        {"resources": {"cpus": 2.0}},
        {"parallel_execution": True},
    ],
)
def test_steps_that_differ_in_how_they_run_do_not_fuse(change: dict[str, Json]) -> None:
    steps = [extract("e"), transform("f", "filter", ALL, "e", **change), load("l", "f")]
    assert members(*steps) == [("e",), ("f",), ("l",)]


def test_a_disabled_step_stands_in_nobody_s_way() -> None:
    steps = [extract("e"), transform("f", "filter", ALL, "e", is_enabled=False), load("l", "f")]
    assert members(*steps) == [("e", "l")]


def test_a_step_that_waits_for_another_begins_a_task() -> None:
    steps = [extract("a"), load("first", "a"), extract("b"), load("second", "b", "first")]
    plan = compiled(explicit(*steps))
    assert [task.members for task in plan.tasks] == [("a", "first"), ("b",), ("second",)]
    assert plan.task_of("second").after == ("first",)
    assert plan.task_of("second").inputs == ("b",)


def test_only_a_load_joins_a_step_whose_result_is_never_the_same_twice() -> None:
    random: JsonObject = {"columns": {"dice": "random()"}}
    steps = [extract("e"), transform("r", "derive", random, "e"), transform("f", "filter", ALL, "r"), load("l", "f")]
    assert members(*steps) == [("e", "r"), ("f", "l")]
    assert members(extract("e"), transform("r", "derive", random, "e"), load("l", "r")) == [("e", "r", "l")]


def test_a_step_that_sets_rows_aside_joins_row_wise_neighbours_alone() -> None:
    strict: JsonObject = {"columns": {"id": "TINYINT"}, "on_error": "reject"}
    steps = [extract("e"), transform("c", "cast", strict, "e"), transform("f", "filter", ALL, "c"), load("l", "f")]
    assert members(*steps) == [("e", "c", "f", "l")]
    wide = transform("d", "deduplicate", {"keys": ["id"]}, "e")
    after = [transform("f", "filter", ALL, "d"), transform("c", "cast", strict, "f"), load("l", "c")]
    assert members(extract("e"), wide, *after) == [("e",), ("d", "f"), ("c", "l")]


def test_what_a_step_sets_aside_is_asked_of_what_is_before_it_in_the_chain() -> None:
    strict: JsonObject = {"columns": {"id": "TINYINT"}, "on_error": "reject"}
    steps = [extract("e"), transform("f", "filter", ALL, "e"), transform("c", "cast", strict, "f"), load("l", "c")]
    plan = compiled(explicit(*steps))
    (task,) = plan.tasks
    sql = str(set_aside_sql(plan, task, "c"))
    assert sql.startswith('WITH "f" AS (SELECT * FROM "e" WHERE id > 1), "c" AS (SELECT CONCAT_WS(')
    assert set_aside_sql(plan, task, "f") is None
    first = compiled(explicit(extract("e"), transform("c", "cast", strict, "e")))
    assert set_aside_sql(first, first.tasks[0], "c") == first.step("c").set_aside


def test_partitions_are_those_of_the_extract_that_begins_the_task() -> None:
    parted: JsonObject = {"column": "id", "count": 6}
    config: JsonObject = {"source_id": "wedding-api-db", "dataset": "bookings", "partition": parted}
    steps = [{**extract("e"), "config": config}, transform("d", "deduplicate", {"keys": ["id"]}, "e"), load("l", "d")]
    assert [task.partitions for task in compiled(explicit(*steps)).tasks] == [6, 1]


def test_a_task_that_only_passes_rows_on_needs_no_query() -> None:
    plan = compiled(explicit(extract("e"), load("l", "e")))
    (task,) = plan.tasks
    assert fused_sql(plan, task) is None
    assert prefix_sql(plan, task, "e") is None
    assert counting_sql(plan, task) is None


@pytest.mark.parametrize(
    ("united", "unites"),
    [
        ([load("l", "a", "b")], True),
        ([transform("u", "union", {}, "a", "b"), load("l", "u")], True),
        ([transform("u", "union", {"distinct": True}, "a", "b"), load("l", "u")], False),
        ([transform("u", "union", {}, "a", "b"), transform("f", "filter", ALL, "u"), load("l", "f")], False),
        ([load("l", "a")], False),
    ],
)
def test_a_task_that_only_unites_is_known_for_one(united: list[JsonObject], unites: bool) -> None:
    branches = [transform(name, "filter", ALL, "e") for name in ("a", "b")]
    plan = compiled(explicit(extract("e"), *branches, *united))
    assert only_unites(plan, plan.task_of("l")) is unites


def test_the_query_of_a_chain_names_its_steps() -> None:
    plan = compiled(explicit(extract("e"), transform("f", "filter", ALL, "e"), transform("g", "filter", ALL, "f")))
    (task,) = plan.tasks
    assert fused_sql(plan, task) == (
        'WITH "f" AS (SELECT * FROM "e" WHERE id > 1), "g" AS (SELECT * FROM "f" WHERE id > 1) SELECT * FROM "g"'
    )
    assert prefix_sql(plan, task, "f") == 'SELECT * FROM "e" WHERE id > 1'


def test_counts_that_both_ends_tell_are_not_asked_for() -> None:
    derive: JsonObject = {"columns": {"x": "id + 1"}}
    plan = compiled(explicit(extract("e"), transform("d", "derive", derive, "e"), transform("f", "filter", ALL, "d")))
    assert counting_sql(plan, plan.tasks[0]) is None
    twice = compiled(explicit(extract("e"), transform("f", "filter", ALL, "e"), transform("g", "filter", ALL, "f")))
    assert "COUNT" in str(counting_sql(twice, twice.tasks[0]))


def test_an_input_that_a_query_names_twice_is_read_once() -> None:
    query = "SELECT a.id FROM input AS a JOIN input AS b ON a.id = b.id WHERE a.id IN (SELECT id FROM e)"
    plan = compiled(explicit(extract("e"), transform("s", "sql", {"query": query}, "e"), load("l", "s")))
    database = duckdb.connect(config={"threads": 1})
    database.register("e", pa.table({"id": [1, 2, 3]}).to_reader())
    sql = fused_sql(plan, plan.task_of("s"))
    assert sql is not None
    assert sorted(database.execute(sql).fetchall()) == [(1,), (2,), (3,)]


DATABASE = duckdb.connect(config={"threads": 1})
COLUMNS = (Column("a", "INT"), Column("b", "BIGINT"), Column("s", "VARCHAR"), Column("d", "DECIMAL(8, 2)"))
TABLE = Catalog(
    sources=(SourceEntry(UUID(int=9), "wedding-api-db", SourceType.DATABASE, "postgres", datasets={"t": COLUMNS}),),
    destinations=CATALOG.destinations,
)

# Each keeps columns a, b, s and d, so that any may follow any.
STEPS: list[tuple[str, JsonObject]] = [
    ("filter", {"condition": "a > 2"}),
    ("filter", {"condition": "b IS NULL OR b % 2 = 0"}),
    ("filter", {"conditions": [{"column": "s", "operator": "in", "value": ["x", "y", "7"]}]}),
    ("derive", {"columns": {"a": "a + 1", "e": "CAST(coalesce(b, 0) AS BIGINT) * 2", "f": "e + a"}}),
    ("derive", {"columns": {"b": "CASE WHEN s = 'x' THEN a ELSE b END", "s": "coalesce(s, 'none')"}}),
    ("mapping", {"mappings": {"a": "b", "b": "a"}, "keep_unmapped": True}),
    ("mapping", {"mappings": {"a": "a", "b": "b", "s": "s", "d": "d"}, "defaults": {"s": "n/a"}}),
    ("cast", {"columns": {"a": "BIGINT", "d": "VARCHAR"}}),
    ("cast", {"columns": {"d": {"type": "DECIMAL(3, 2)", "on_error": "reject"}}}),
    ("cast", {"columns": {"b": {"type": "UTINYINT", "on_error": "null"}}}),
    ("deduplicate", {"keys": ["a"], "order_by": ["b desc"]}),
    (
        "aggregation",
        {"group_by": ["a", "s"], "aggregates": {"b": "sum(try_cast(b AS BIGINT))", "d": "max(d)"}},
    ),
    ("sql", {"query": "SELECT i.a, max(j.b) AS b, i.s, i.d FROM input i JOIN input j ON i.a = j.a GROUP BY ALL"}),
]

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-3, 9),
        st.none() | st.integers(-5, 300),
        st.none() | st.sampled_from(["x", "y", "7", ""]),
        st.none() | st.decimals(-99, 99, places=2),
    ),
    max_size=25,
)


def plan_of(chosen: list[int]) -> Plan:
    """A chain of the chosen steps between an extract and a load."""
    steps = [extract("e", "t")]
    for index, choice in enumerate(chosen):
        kind, config = STEPS[choice]
        steps.append(transform(f"s{index}", kind, config, f"s{index - 1}" if index else "e"))
    return compiled(explicit(*steps, load("l", f"s{len(chosen) - 1}" if chosen else "e")), TABLE)


def one_by_one(plan: Plan, rows: pa.Table) -> dict[str, pa.Table]:
    """The output of each step, each run by its own query."""
    outputs = {"e": rows}
    for step in plan.steps[1:]:
        assert step.sql is not None
        outputs[step.name] = run(step.sql, {name: outputs[name] for name in step.inputs}, once=False)
    return outputs


def run(sql: str, inputs: Mapping[str, pa.Table], *, once: bool = True) -> pa.Table:
    """The result of a query over inputs, which can be read but once."""
    with DATABASE.cursor() as database:
        for name, rows in inputs.items():
            database.register(name, rows.to_reader() if once else rows)
        return database.sql(sql).to_arrow_table()


def counts(plan: Plan, task: PlanTask, inputs: Mapping[str, pa.Table], result: pa.Table) -> dict[str, int]:
    """The rows after each member, from what is counted and from both ends of the task."""
    counting = counting_sql(plan, task)
    counted = {} if counting is None else run(counting, inputs).to_pylist()[0]
    queries = [step for step in plan.members(task) if step.sql is not None and step.load is None]
    changing = [step.name for step in queries if step.filters_rows or not step.row_wise]
    after, current = {}, sum(rows.num_rows for rows in inputs.values())
    for step in plan.members(task):
        if step.name in changing:
            current = result.num_rows if step.name == changing[-1] else counted[step.name]
        after[step.name] = current
    return after


@settings(max_examples=60, deadline=None)
@given(chosen=st.lists(st.integers(0, len(STEPS) - 1), max_size=7), values=ROWS)
def test_a_fused_task_gives_what_its_steps_give_one_by_one(chosen: list[int], values: list[tuple[object, ...]]) -> None:
    plan = plan_of(chosen)
    schema = pa.schema([("a", pa.int32()), ("b", pa.int64()), ("s", pa.string()), ("d", pa.decimal128(8, 2))])
    rows = pa.table([list(column) for column in zip(*values, strict=True)] if values else [[]] * 4, schema=schema)
    expected = one_by_one(plan, rows)
    outputs = {"e": rows}
    for task in plan.tasks:
        inputs = {name: outputs[name] for name in task.inputs} or {"e": rows}
        sql = fused_sql(plan, task)
        (result,) = [run(sql, inputs)] if sql is not None else inputs.values()
        last = plan.members(task)[-1]
        assert result.schema == expected[last.name].schema
        assert Counter(map(repr, result.to_pylist())) == Counter(map(repr, expected[last.name].to_pylist()))
        for step, count in counts(plan, task, inputs, result).items():
            assert count == expected[step].num_rows
        for member in plan.members(task):
            aside = set_aside_sql(plan, task, member.name)
            if aside is not None:
                lost = expected[member.inputs[0]].num_rows - expected[member.name].num_rows
                assert run(aside, inputs).num_rows == lost
        outputs[last.name] = result


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(st.integers(0, len(STEPS) - 1), min_size=1, max_size=5))
def test_the_columns_of_a_plan_are_those_that_duckdb_gives(chosen: list[int]) -> None:
    plan = plan_of(chosen)
    schema = pa.schema([("a", pa.int32()), ("b", pa.int64()), ("s", pa.string()), ("d", pa.decimal128(8, 2))])
    outputs = one_by_one(plan, schema.empty_table())
    for step in plan.steps:
        assert step.columns is not None
        assert [one.name for one in step.columns] == outputs[step.name].schema.names
