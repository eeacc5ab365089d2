"""Outputs of finished tasks: what is written, when, for how long, and what if it cannot be."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pyarrow as pa
import pytest
from sqlalchemy import text

from models.errors import Retryable
from models.executions import ExecutionState, Keeping
from models.parsing import parse
from runtime.executions.checkpoints import (
    FOLDER,
    LOST_INPUT,
    Place,
    Shelf,
    StoredBlocks,
    clear_shelves,
    old_shelves,
    write_blocks,
)
from runtime.executions.executor import TaskResult
from runtime.executions.journal import Pace
from runtime.executions.keeper import Keeper, Keeps
from runtime.executions.retention import prune_checkpoints
from runtime.executions.state import ReadRange, SetAside, StepReport, TaskReport
from tests.kit.definitions import DIAMOND, READ, load, only, pipeline, transform
from tests.kit.engine import Bench
from tests.kit.eventually import eventually
from tests.kit.held import HeldExecutor, kill, supervising
from tests.kit.identities import RUNTIME

BLOCKS = [pa.table({"id": pa.array(range(start, start + 10), pa.int64())}) for start in (0, 10, 20)]
JOINED = "SELECT CAST(city AS INTEGER) AS n FROM big JOIN small USING (city)"
BROKEN = pipeline(
    READ,
    only("big", "amount > 20"),
    only("small", "amount <= 20"),
    transform("narrow", "sql", {"query": JOINED}, "big", "small"),
    load("narrow"),
)
AT_ONCE = Pace(gather_seconds=0.0)


async def kept(bench: Bench, execution: UUID) -> dict[str, Any]:
    async with bench.database.transaction(RUNTIME) as session:
        query = text("SELECT * FROM checkpoints WHERE execution_id = :id")
        return {row.task_name: row for row in await session.execute(query, {"id": execution})}


def files(bench: Bench, execution: UUID) -> list[str]:
    folder = bench.artifacts / FOLDER / str(execution)
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


def shelf(folder: Path) -> Shelf:
    made = Shelf(folder, uuid4())
    made.file("any", 1, 1)
    return made


def test_blocks_come_back_as_often_as_they_are_read(tmp_path: Path) -> None:
    place = write_blocks(tmp_path, shelf(tmp_path).file("t", 1, 1), BLOCKS)
    stored = StoredBlocks(tmp_path, place)
    for _ in range(2):
        assert [block.num_rows for block in stored] == [10, 10, 10]
    assert pa.concat_tables(stored).equals(pa.concat_tables(BLOCKS))
    assert place.batches == 3


def test_an_output_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    place = write_blocks(tmp_path, shelf(tmp_path).file("t", 1, 1), [BLOCKS[0].schema.empty_table()])
    (block,) = StoredBlocks(tmp_path, place)
    assert block.schema == BLOCKS[0].schema


@pytest.mark.parametrize("size", [0, 5, 400])
def test_a_damaged_file_is_told_and_not_read(tmp_path: Path, size: int) -> None:
    place = write_blocks(tmp_path, shelf(tmp_path).file("t", 1, 1), BLOCKS)
    (tmp_path / place.file).write_bytes((tmp_path / place.file).read_bytes()[:size])
    with pytest.raises(Retryable, match="gone or damaged"):
        list(StoredBlocks(tmp_path, place))
    assert not Shelf(tmp_path, uuid4()).whole([place])


def test_a_file_whose_rows_were_changed_is_told_and_not_read(tmp_path: Path) -> None:
    place = write_blocks(tmp_path, shelf(tmp_path).file("t", 1, 1), BLOCKS)
    stored, path = StoredBlocks(tmp_path, place), tmp_path / place.file
    assert len(list(stored)) == 3
    written = path.read_bytes()
    middle = len(written) // 2
    path.write_bytes(written[:middle] + bytes([written[middle] ^ 1]) + written[middle + 1 :])
    os.utime(path, ns=(0, 0))
    with pytest.raises(Retryable, match="gone or damaged") as lost:
        list(stored)
    assert lost.value.error_type == LOST_INPUT


def test_a_write_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    place = shelf(tmp_path).file("t", 1, 1)

    def breaking() -> Any:
        yield BLOCKS[0]
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_blocks(tmp_path, place, breaking())
    assert list((tmp_path / place).parent.iterdir()) == []


def test_who_writes_into_a_shelf_that_was_cleared_leaves_nothing(tmp_path: Path) -> None:
    cleared = shelf(tmp_path)
    place = cleared.file("t", 1, 1)

    def late() -> Any:
        yield BLOCKS[0]
        cleared.clear()
        yield BLOCKS[1]

    with pytest.raises(OSError, match="No such file"):
        write_blocks(tmp_path, place, late())
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_another_execution_has_files_of_its_own(tmp_path: Path) -> None:
    first, second = shelf(tmp_path), Shelf(tmp_path, uuid4())
    place = write_blocks(tmp_path, first.file("t", 1, 1), BLOCKS)
    adopted = second.adopt([place])
    first.clear()
    assert second.whole(adopted)
    assert second.adopt([Place("checkpoints/gone.arrow", 1, 1)]) == ()


def test_old_shelves_are_found_and_cleared(tmp_path: Path) -> None:
    old, new = uuid4(), uuid4()
    for one in (old, new):
        Shelf(tmp_path, one).file("t", 1, 1)
    then = (datetime.now(UTC) - timedelta(days=9)).timestamp()
    os.utime(tmp_path / FOLDER / str(old), (then, then))
    assert old_shelves(tmp_path, 7, 10, datetime.now(UTC)) == [old]
    clear_shelves(tmp_path, [old])
    assert [entry.name for entry in (tmp_path / FOLDER).iterdir()] == [str(new)]


def test_a_report_comes_back_from_json() -> None:
    step = StepReport("s", 1, 2, 3, output_sample=[{"a": None}], stats={"rows_removed": 1}, shared_with=("t",))
    report = TaskReport((step,), 1, 2, 3, 4, 5.5, {"e": ReadRange(None, "9", {"l": None})}, (SetAside("s", {}, "why"),))
    assert parse(TaskReport, orjson.loads(orjson.dumps(report))) == report


async def test_an_execution_that_ends_while_the_journal_gathers_writes_no_file(ready: Bench) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    ending = await ready.supervisor(await ready.take(), pace=Pace(gather_seconds=60.0)).supervise()
    assert ending.state is ExecutionState.COMPLETED
    assert not (ready.artifacts / FOLDER).exists()
    assert await kept(ready, execution) == {}


async def test_what_is_told_to_be_done_is_told_with_its_checkpoint(ready: Bench) -> None:
    saved, _ = await ready.pipeline(DIAMOND)
    execution, executor = await ready.submit(saved), HeldExecutor(ready, before={"load"})
    work = supervising(ready.supervisor(await ready.take(), executor, AT_ONCE))

    async def told() -> set[str]:
        async with ready.database.transaction(RUNTIME) as session:
            query = text("""
                SELECT step_name, EXISTS (SELECT 1 FROM checkpoints
                    WHERE execution_id = :id AND task_name = step.step_name) AS kept
                FROM step_executions AS step WHERE pipeline_execution_id = :id AND state = 'completed'
            """)
            rows = (await session.execute(query, {"id": execution})).all()
        assert all(row.kept for row in rows)
        return {row.step_name for row in rows}

    async def all_told() -> bool:
        return await told() == {"read", "big", "small"}

    await eventually(all_told, because="the journal tells them")
    found = await kept(ready, execution)
    assert {(row.kept, row.generation, row.attempt) for row in found.values()} == {("until_success", 1, 1)}
    (block,) = found["big"].blocks
    assert pa.concat_tables(StoredBlocks(ready.artifacts, Place(**block))).num_rows == 86
    await kill(work)


async def test_a_failed_execution_keeps_what_a_retry_needs(ready: Bench) -> None:
    execution, ending = await ready.run(BROKEN)
    assert ending.state is ExecutionState.FAILED
    assert set(await kept(ready, execution)) == {"read", "big", "small"}
    assert files(ready, execution) == ["big-1-1.arrow", "read-1-1.arrow", "small-1-1.arrow"]


@pytest.mark.parametrize(
    ("keeping", "left", "with_file"), [("always", {"read", "big", "small", "load"}, 3), ("until_success", set(), 0)]
)
async def test_how_long_checkpoints_are_kept(ready: Bench, keeping: str, left: set[str], with_file: int) -> None:
    execution, ending = await ready.run({**DIAMOND, "checkpoints": keeping})
    assert ending.state is ExecutionState.COMPLETED
    assert set(await kept(ready, execution)) == left
    assert len(files(ready, execution)) == with_file


async def test_a_pipeline_that_keeps_nothing_runs_its_pure_steps_again(ready: Bench) -> None:
    saved, _ = await ready.pipeline({**DIAMOND, "checkpoints": "never"})
    execution, executor = await ready.submit(saved), HeldExecutor(ready, before={"load"})
    work = supervising(ready.supervisor(await ready.take(), executor, AT_ONCE))
    await executor.reached.wait()
    await kill(work)
    assert files(ready, execution) == []
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE work_items SET state = 'queued'"))
    second = HeldExecutor(ready)
    ending = await ready.supervisor(await ready.take(), second).supervise()
    assert set(second.ran) == {"read", "big", "small", "load"}
    assert ending.totals["inserted"] == 100


async def test_a_plan_that_keeps_nothing_keeps_the_reports_of_its_loads(ready: Bench) -> None:
    _, plan = await ready.pipeline({**DIAMOND, "checkpoints": "never"})
    assert plan.checkpoints is Keeping.NEVER
    assert Keeps.of(plan, dry_run=False) == Keeps(Keeping.NEVER, frozenset(), frozenset({"load"}))
    assert Keeps.of(plan, dry_run=True) == Keeps(Keeping.NEVER, frozenset(), frozenset())


async def test_a_disk_that_takes_no_checkpoint_does_not_stop_the_execution(ready: Bench) -> None:
    ready.artifacts.mkdir()
    (ready.artifacts / FOLDER).write_text("in the way")
    saved, _ = await ready.pipeline(DIAMOND)
    execution = await ready.submit(saved)
    ending = await ready.supervisor(await ready.take(), pace=AT_ONCE).supervise()
    assert (ending.state, ending.totals["inserted"]) == (ExecutionState.COMPLETED, 100)
    assert await kept(ready, execution) == {}


async def test_what_takes_long_to_write_follows_later(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def save(_: TaskResult, file: str) -> Place:
        await gate.wait()
        return Place(file, 1, 1)

    keeps = Keeps(Keeping.UNTIL_SUCCESS, frozenset({"t"}), frozenset())
    keeper = Keeper(save, Shelf(tmp_path, uuid4()), keeps, 1)
    keeper.done("t", 1, TaskResult(TaskReport(())))
    assert await keeper.kept(0.01) == []
    assert keeper.is_saving
    gate.set()
    (found,) = await keeper.kept()
    assert (found.task, found.attempt) == ("t", 1)
    assert not keeper.is_saving


async def test_what_is_done_while_others_are_written_is_told_the_next_time(tmp_path: Path) -> None:
    writing, gate = asyncio.Event(), asyncio.Event()

    async def save(_: TaskResult, file: str) -> Place:
        writing.set()
        await gate.wait()
        return Place(file, 1, 1)

    keeper = Keeper(save, Shelf(tmp_path, uuid4()), Keeps(Keeping.ALWAYS, frozenset({"t"}), frozenset({"load"})), 1)
    keeper.done("t", 1, TaskResult(TaskReport(())))
    first = asyncio.create_task(keeper.kept())
    await writing.wait()
    keeper.done("load", 1, TaskResult(TaskReport(())))
    gate.set()
    assert [one.task for one in await first] == ["t"]
    assert [one.task for one in await keeper.kept()] == ["load"]


async def test_checkpoints_are_dropped_when_their_retention_is_over(ready: Bench) -> None:
    saved, _ = await ready.pipeline({**BROKEN, "pipeline_name": "broken"})
    (old, _), (new, _) = await ready.again(saved), await ready.again(saved)
    running, executor = await ready.submit(saved), HeldExecutor(ready, before={"load"})
    work = supervising(ready.supervisor(await ready.take(), executor, AT_ONCE))
    await executor.reached.wait()
    then = datetime.now(UTC) - timedelta(days=9)
    async with ready.database.transaction(RUNTIME) as session:
        await session.execute(text("UPDATE checkpoints SET created_at = :at"), {"at": then})
        ended = text("UPDATE pipeline_executions SET completed_at = :at WHERE id = :id")
        await session.execute(ended, {"at": then, "id": old})
    lost = uuid4()
    for one in (old, new, running, lost):
        Shelf(ready.artifacts, one).file("t", 1, 1)
        os.utime(ready.artifacts / FOLDER / str(one), (then.timestamp(), then.timestamp()))
    await prune_checkpoints(ready.database, ready.artifacts, 7)
    assert await kept(ready, old) == {}
    assert set(await kept(ready, new)) == {"read", "big", "small"}
    assert {entry.name for entry in (ready.artifacts / FOLDER).iterdir()} == {str(new), str(running)}
    await kill(work)
