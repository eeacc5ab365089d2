"""Whole executions through the real engine: rows arrive, counts are true, failures leave the destination as it was."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from models.executions import ExecutionState
from models.fields import JsonObject
from runtime.executions.journal import Fenced
from runtime.executions.logs import read_log
from tests.kit.definitions import DIAMOND, READ, ROWS, load, only, pipeline, step, transform
from tests.kit.engine import Bench
from tests.kit.identities import ENGINEER, RUNTIME


async def rows(bench: Bench, query: str, execution: UUID) -> list[Any]:
    async with bench.database.transaction(ENGINEER) as session:
        return list((await session.execute(text(query), {"id": execution})).all())


async def steps_of(bench: Bench, execution: UUID) -> dict[str, Any]:
    query = "SELECT * FROM step_executions WHERE pipeline_execution_id = :id"
    return {row.step_name: row for row in await rows(bench, query, execution)}


async def test_rows_arrive_and_the_counts_are_true(ready: Bench) -> None:
    execution, ending = await ready.run(DIAMOND)
    assert ending.state is ExecutionState.COMPLETED
    assert ending.totals == {"processed": 100, "inserted": 100, "updated": 0, "deleted": 0, "failed": 0}
    assert sorted(int(row["id"]) for row in ready.read("out", "t")) == list(range(100))
    steps = await steps_of(ready, execution)
    assert {name: (row.status, row.records_in, row.records_out) for name, row in steps.items()} == {
        "read": ("completed", 100, 100),
        "big": ("completed", 100, 86),
        "small": ("completed", 100, 14),
        "load": ("completed", 100, 100),
    }
    assert steps["big"].output_data_sample[0] == {"id": 14, "amount": 21.0, "city": "c0"}


async def test_events_tell_the_story_without_a_gap(ready: Bench) -> None:
    execution, _ = await ready.run(DIAMOND)
    events = await rows(ready, "SELECT * FROM execution_events WHERE execution_id = :id ORDER BY seq", execution)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    kinds = [(event.kind, event.step_name) for event in events]
    assert kinds[:3] == [("execution_queued", None), ("execution_started", None), ("step_started", "read")]
    assert kinds[-2:] == [("step_completed", "load"), ("execution_completed", None)]
    (found,) = await rows(ready, "SELECT * FROM pipeline_executions WHERE id = :id", execution)
    assert found.last_event_seq == len(events)
    assert (found.status, found.state, found.records_inserted) == ("completed", "completed", 100)
    assert set(found.performance_metrics) >= {"total_duration_ms", "extract_duration_ms", "load_duration_ms"}


async def test_fused_steps_keep_a_row_each_with_their_own_counts_and_say_whose_time_they_share(ready: Bench) -> None:
    chain = pipeline(
        READ,
        only("first", "id >= 10"),
        transform("double", "derive", {"columns": {"twice": "amount * 2"}}, "first"),
        only("second", "twice < 150", "double"),
        load("second"),
    )
    execution, ending = await ready.run(chain)
    steps = await steps_of(ready, execution)
    counts = {name: (row.records_in, row.records_out) for name, row in steps.items()}
    assert counts == {"read": (100, 100), "first": (100, 90), "double": (90, 90), "second": (90, 40), "load": (40, 40)}
    assert ending.totals["inserted"] == 40
    shared = steps["double"].transformation_stats["shared_time_with"]
    assert shared == ["read", "first", "second", "load"]
    assert steps["double"].output_data_sample[0] == {"id": 10, "amount": 15.0, "city": "c3", "twice": 30.0}


@pytest.mark.parametrize("columns", ["id, city", "city, id", "id::TINYINT AS id, city"])
async def test_the_inputs_of_a_load_arrive_matched_by_name(ready: Bench, columns: str) -> None:
    branches = [
        transform("few", "sql", {"query": "SELECT id, city FROM read WHERE id < 3"}, "read"),
        transform("many", "sql", {"query": f"SELECT {columns} FROM read WHERE id >= 3"}, "read"),
    ]
    await ready.run(pipeline(READ, *branches, load("few", "many")))
    arrived = sorted((int(row["id"]), row["city"]) for row in ready.read("out", "t"))
    assert arrived == [(row["id"], row["city"]) for row in ROWS]


async def test_a_dry_run_does_everything_but_commit(ready: Bench) -> None:
    execution, ending = await ready.run(DIAMOND, dry_run=True)
    assert ending.state is ExecutionState.COMPLETED
    assert ending.totals["inserted"] == 0
    assert ready.read("out", "t") == []
    assert (await steps_of(ready, execution))["load"].records_in == 100


async def test_a_failure_names_the_step_and_the_remedy_and_leaves_the_destination_as_it_was(ready: Bench) -> None:
    await ready.run(DIAMOND)
    broken = pipeline(
        READ,
        transform("narrow", "cast", {"columns": {"id": "TINYINT", "city": "INTEGER"}}, "read"),
        load("narrow"),
        name="broken",
    )
    execution, ending = await ready.run(broken)
    assert ending.state is ExecutionState.FAILED
    assert ending.error is not None
    assert ending.error.error_type == "bad_value"
    assert ending.error.hint
    (found,) = await rows(ready, "SELECT * FROM pipeline_executions WHERE id = :id", execution)
    assert found.status == "failed"
    assert set(found.error_details) >= {"error_type", "error_message", "failed_step", "retry_count"}
    assert len(ready.read("out", "t")) == 100


async def test_a_step_that_is_not_critical_may_fail_while_the_rest_goes_on(ready: Bench) -> None:
    lenient = pipeline(
        READ,
        transform("extra", "cast", {"columns": {"city": "INTEGER"}}, "read", critical=False),
        transform("after", "derive", {"columns": {"one": "1"}}, "extra", critical=False),
        load("read"),
    )
    execution, ending = await ready.run(lenient)
    assert ending.state is ExecutionState.COMPLETED
    assert len(ready.read("out", "t")) == 100
    steps = await steps_of(ready, execution)
    assert {name: row.status for name, row in steps.items()} == {
        "read": "completed",
        "extra": "failed",
        "after": "skipped",
        "load": "completed",
    }
    assert "'c0'" in steps["extra"].error_message
    assert steps["after"].transformation_stats == {"reason": "fused with extra, which failed"}


@pytest.mark.parametrize("noun", ["source", "destination"])
async def test_what_is_switched_off_is_neither_read_nor_written(ready: Bench, noun: str) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    _, before = await ready.again(saved)
    assert before.state is ExecutionState.COMPLETED

    async def switch(on: bool) -> None:
        async with ready.database.transaction(ENGINEER) as session:
            await session.execute(text(f"UPDATE data_{noun}s SET is_active = :on"), {"on": on})

    await switch(False)
    _, off = await ready.again(saved)
    assert off.state is ExecutionState.FAILED
    assert off.error is not None
    assert (off.error.error_type, off.error.retry_count) == ("inactive", 0)
    assert off.error.failed_step == ("read" if noun == "source" else "load")
    assert "is_active" in (off.error.hint or "")
    await switch(True)
    _, again = await ready.again(saved)
    assert again.state is ExecutionState.COMPLETED


async def test_a_disabled_step_passes_its_input_through_and_is_told_as_skipped(ready: Bench) -> None:
    off = pipeline(READ, only("none", "false", is_enabled=False), load("none"))
    execution, ending = await ready.run(off)
    assert ending.totals["inserted"] == 100
    assert (await steps_of(ready, execution))["none"].status == "skipped"


async def test_a_supervisor_whose_execution_was_taken_over_is_fenced(ready: Bench) -> None:
    pipeline_id, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(pipeline_id)
    late = ready.supervisor(await ready.take())
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE work_items SET state = 'queued' WHERE subject = :id"), {"id": execution})
    newer = await ready.take()
    with pytest.raises(Fenced):
        await late.supervise()
    assert (await ready.supervisor(newer).supervise()).state is ExecutionState.COMPLETED
    assert len(ready.read("out", "t")) == 100


async def test_a_cancelled_execution_loads_nothing(ready: Bench) -> None:
    pipeline_id, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(pipeline_id)
    supervisor = ready.supervisor(await ready.take())
    supervisor.cancel()
    assert (await supervisor.supervise()).state is ExecutionState.CANCELLED
    assert ready.read("out", "t") == []
    (found,) = await rows(ready, "SELECT * FROM pipeline_executions WHERE id = :id", execution)
    assert (found.status, found.completed_at is not None) == ("cancelled", True)


async def test_rows_that_a_source_cannot_take_are_set_aside_with_their_place(ready: Bench) -> None:
    await ready.files("lenient", on_bad_row="quarantine")
    (ready.folder / "lenient" / "rows.csv").write_text("id,amount\n1,2.5\n2\n3,4.5\n")
    read = step("read", "extract", {"source_id": "lenient", "dataset": "rows.csv"})
    execution, ending = await ready.run(pipeline(read, load("read")))
    assert (ending.totals["inserted"], ending.totals["failed"]) == (2, 1)
    query = "SELECT row, reason FROM quarantined_rows WHERE pipeline_execution_id = :id"
    ((row, reason),) = await rows(ready, query, execution)
    assert "line 3" in row["place"]
    assert reason


async def test_samples_errors_events_and_logs_show_no_personal_data(ready: Bench) -> None:
    await ready.files("people", [{"id": 1, "contact": "ann@example.org", "guest_name": "Miller"}])
    read = step("read", "extract", {"source_id": "people", "dataset": "rows.csv"})
    execution, _ = await ready.run(pipeline(read, only("all", "id > 0"), load("all")))
    assert [row["contact"] for row in ready.read("out", "t")] == ["ann@example.org"]
    masked = {"id": 1, "contact": "a***@e***.org", "guest_name": "M***"}
    steps = await steps_of(ready, execution)
    assert [steps[name].output_data_sample for name in ("read", "all", "load")] == [[masked]] * 3
    assert steps["load"].input_data_sample == [masked]
    narrow = transform("narrow", "cast", {"columns": {"contact": "INTEGER"}}, "read")
    execution, ending = await ready.run(pipeline(read, narrow, load("narrow", table="u"), name="broken"))
    assert ending.error is not None
    assert "a***@e***.org" in ending.error.error_message
    for table, key in (
        ("pipeline_executions", "id"),
        ("step_executions", "pipeline_execution_id"),
        ("execution_events", "execution_id"),
    ):
        found = await rows(ready, f"SELECT to_jsonb(kept)::text FROM {table} AS kept WHERE {key} = :id", execution)
        assert found
        assert not any("ann@example.org" in text for (text,) in found), table
    log = ready.folder / "artifacts" / "logs" / f"{execution}.jsonl"
    assert "a***@e***.org" in log.read_text()
    assert "ann@example.org" not in log.read_text()


NUL = "a\0b"
SHOWN = "a\N{REPLACEMENT CHARACTER}b"


async def test_a_text_that_postgresql_cannot_hold_does_not_keep_an_execution_from_ending(ready: Bench) -> None:
    await ready.files("odd", [{"id": 1, "city": NUL}, {"id": 2, "city": "7"}])
    read = step("read", "extract", {"source_id": "odd", "dataset": "rows.csv"})
    strict: JsonObject = {"columns": {"city": "INTEGER"}}
    lenient = transform("typed", "cast", {**strict, "on_error": "reject"}, "read")
    execution, ending = await ready.run(pipeline(read, lenient, load("typed")))
    assert (ending.state, ending.totals["failed"]) == (ExecutionState.COMPLETED, 1)
    assert (await steps_of(ready, execution))["read"].output_data_sample[0] == {"id": 1, "city": SHOWN}
    ((row,),) = await rows(ready, "SELECT row FROM quarantined_rows WHERE pipeline_execution_id = :id", execution)
    assert row == {"id": 1, "city": SHOWN}
    broken = pipeline(read, transform("typed", "cast", strict, "read"), load("typed"), name="broken")
    execution, ending = await ready.run(broken)
    assert ending.state is ExecutionState.FAILED
    ((details,),) = await rows(ready, "SELECT error_details FROM pipeline_executions WHERE id = :id", execution)
    assert (details["error_type"], details["failed_step"]) == ("bad_value", "typed")


async def test_what_a_load_committed_is_in_the_ledger_and_its_work_is_done(ready: Bench) -> None:
    execution, _ = await ready.run(DIAMOND)
    async with ready.database.transaction(RUNTIME) as session:
        ledger = (await session.execute(text("SELECT step_name, partition, rows FROM commit_ledger"))).all()
        work = (await session.execute(text("SELECT subject, state FROM work_items"))).all()
    assert [tuple(row) for row in ledger] == [("load", 0, 100)]
    assert [tuple(row) for row in work] == [(execution, "done")]


async def test_the_log_holds_the_events_as_lines(ready: Bench) -> None:
    execution, _ = await ready.run(DIAMOND)
    (found,) = await rows(ready, "SELECT logs_location FROM pipeline_executions WHERE id = :id", execution)
    lines, end = read_log(ready.folder / "artifacts", found.logs_location)
    assert lines[0]["kind"] == "execution_started"
    assert lines[-1]["kind"] == "execution_completed"
    assert read_log(ready.folder / "artifacts", found.logs_location, end) == ([], end)
