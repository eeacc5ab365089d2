"""A run is published once, by nobody of an older generation, and a run that breaks leaves nothing."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from models.destinations import WriteMode
from models.errors import Cancelled, Retryable, RunError, Terminal
from runtime.connectors._contract import CursorMove, LoadCounts, Receipt, RunKey, Target
from runtime.connectors._postgres_session import Session
from tests.runtime.connectors.postgres_place import Place, a_run, broken

APPEND = Target("guests", WriteMode.APPEND)
ROWS = pa.table({"id": range(5000), "name": [f"guest {n}" for n in range(5000)]})


@pytest.fixture
def place(scratch: str) -> Place:
    return Place(scratch)


def guests(place: Place) -> int:
    found: int = place.fetch("SELECT count(*) FROM guests")[0][0]
    return found


@pytest.mark.parametrize("mode", list(WriteMode))
def test_a_load_that_is_repeated_answers_its_recorded_counts(place: Place, mode: WriteMode) -> None:
    run, target = a_run(), Target("guests", mode, ("id",) if mode is WriteMode.UPSERT else ())
    destination = place.destination()
    first = destination.load(target, run, ROWS.to_reader(), CursorMove("c1"))
    again = destination.load(target, run, broken(ROWS, Cancelled("never read")), CursorMove("c2"))
    assert first == again == LoadCounts(inserted=5000)
    assert guests(place) == 5000
    assert destination.cursor(run.pipeline_id, run.step) == "c1"


def test_two_that_publish_the_same_run_at_once_publish_it_once(place: Place) -> None:
    place.load(ROWS.slice(0, 1))
    run, gate = a_run(), threading.Barrier(3)

    def slow() -> pa.RecordBatchReader:
        def batches() -> "object":
            gate.wait(timeout=30)
            yield from ROWS.to_batches()

        return pa.RecordBatchReader.from_batches(ROWS.schema, batches())

    with ThreadPoolExecutor(3) as threads:
        loads = [threads.submit(place.destination().load, APPEND, run, slow(), None) for _ in range(3)]
        counts = [one.result(timeout=60) for one in loads]
    assert counts == [LoadCounts(inserted=5000)] * 3
    assert guests(place) == 5001


def test_an_older_generation_may_neither_write_nor_commit_nor_abort(place: Place) -> None:
    old, destination = a_run(), place.destination()
    young = replace(old, generation=1)
    destination.prepare(APPEND, ROWS.schema, old)
    landed = destination.write(APPEND, old, 0, ROWS.to_reader())
    destination.prepare(APPEND, ROWS.schema, young)
    for attempt in (
        lambda: destination.prepare(APPEND, ROWS.schema, old),
        lambda: destination.write(APPEND, old, 1, ROWS.to_reader()),
        lambda: destination.commit(APPEND, old, [landed], None),
        lambda: destination.load(APPEND, old, ROWS.to_reader(), None),
    ):
        with pytest.raises(Terminal, match="taken over") as raised:
            attempt()
        assert raised.value.specific_code == "superseded"
    destination.abort(APPEND, old)
    assert destination.commit(APPEND, young, [landed], None) == LoadCounts(inserted=5000)
    with pytest.raises(Terminal, match="taken over"):
        destination.commit(APPEND, old, [landed], None)
    assert guests(place) == 5000
    assert place.leftovers() == []


def test_an_older_generation_that_hangs_in_its_load_hinders_nobody_and_commits_nothing(place: Place) -> None:
    old = a_run(generation=1)
    hanging, going_on = threading.Event(), threading.Event()

    def stopped() -> "object":
        yield from ROWS.to_batches(max_chunksize=1000)
        hanging.set()
        going_on.wait(timeout=60)

    reader = pa.RecordBatchReader.from_batches(ROWS.schema, stopped())
    with ThreadPoolExecutor(1) as thread:
        zombie = thread.submit(place.destination().load, APPEND, old, reader, None)
        assert hanging.wait(timeout=30)
        young = replace(old, generation=2)
        assert place.destination(lock_timeout_seconds=20).load(APPEND, young, ROWS.to_reader(), None).inserted == 5000
        going_on.set()
        with pytest.raises(RunError):
            zombie.result(timeout=60)
    assert guests(place) == 5000
    assert place.leftovers() == []


def test_a_write_that_ends_after_the_abort_leaves_nothing(place: Place) -> None:
    run, destination = a_run(), place.destination()
    destination.prepare(APPEND, ROWS.schema, run)

    def aborting() -> "object":
        yield from ROWS.to_batches(max_chunksize=1000)
        place.destination(lock_timeout_seconds=0.2).abort(APPEND, run)

    with pytest.raises(RunError) as raised:
        destination.write(APPEND, run, 0, pa.RecordBatchReader.from_batches(ROWS.schema, aborting()))
    assert raised.value.specific_code in ("superseded", "locked")
    destination.abort(APPEND, run)
    with pytest.raises(Terminal, match="never prepared"):
        destination.commit(APPEND, run, [Receipt(0, 5000, "gone")], None)
    assert place.leftovers() == []


def test_a_run_that_was_aborted_may_be_prepared_again(place: Place) -> None:
    run, destination = a_run(), place.destination()
    destination.prepare(APPEND, ROWS.schema, run)
    lost = destination.write(APPEND, run, 0, ROWS.to_reader())
    destination.abort(APPEND, run)
    destination.prepare(APPEND, ROWS.schema, run)
    with pytest.raises(Terminal) as raised:
        destination.commit(APPEND, run, [lost], None)
    assert raised.value.specific_code == "lost_staging"
    landed = destination.write(APPEND, run, 0, ROWS.to_reader())
    assert destination.commit(APPEND, run, [landed], None).inserted == 5000
    assert place.leftovers() == []


def test_a_run_without_parts_publishes_an_empty_table(place: Place) -> None:
    run, destination = a_run(), place.destination()
    for mode in WriteMode:
        target = Target(f"guests_{mode}", mode, ("id",) if mode is WriteMode.UPSERT else ())
        key = replace(run, step=mode.value)
        destination.prepare(target, ROWS.schema, key)
        assert destination.commit(target, key, [], None) == LoadCounts()
        assert place.fetch(f"SELECT count(*) FROM guests_{mode}") == [(0,)]


def test_a_new_schema_replaces_what_an_earlier_attempt_staged(place: Place) -> None:
    run, destination = a_run(), place.destination()
    destination.prepare(APPEND, ROWS.schema, run)
    destination.write(APPEND, run, 0, ROWS.to_reader())
    other = pa.table({"id": ["x"]})
    destination.prepare(APPEND, other.schema, run)
    landed = destination.write(APPEND, run, 0, other.to_reader())
    assert destination.commit(APPEND, run, [landed], None).inserted == 1
    assert place.leftovers() == []


@pytest.mark.parametrize("mode", list(WriteMode))
def test_a_connection_killed_amid_a_load_leaves_the_table_as_it_was(place: Place, mode: WriteMode) -> None:
    keys = ("id",) if mode is WriteMode.UPSERT else ()
    place.load(ROWS.slice(0, 10), WriteMode.UPSERT, key_columns=("id",))
    wide = pa.table({"id": range(200_000), "name": ["x" * 200] * 200_000})

    def killing() -> "object":
        for number, batch in enumerate(wide.slice(10).to_batches(max_chunksize=10_000)):
            if number == 10:
                place.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            yield batch

    run, destination = a_run(), place.destination()
    target = Target("guests", mode, keys)
    with pytest.raises(Retryable):
        destination.load(target, run, pa.RecordBatchReader.from_batches(wide.schema, killing()), CursorMove("lost"))
    assert guests(place) == 10
    assert place.leftovers() == []
    assert destination.cursor(run.pipeline_id, run.step) is None
    counts = destination.load(target, run, wide.slice(10).to_reader(), CursorMove("kept"))
    assert counts.inserted == 199_990
    assert destination.cursor(run.pipeline_id, run.step) == "kept"


RESET_AMID_A_COPY = r"""
import asyncio, sys, threading
import uvloop
from models.errors import Retryable
from models.fields import parse
from runtime.connectors._postgres_config import PostgresConfig
from runtime.connectors._postgres_session import Session
from tests.kit.faults import LOOPBACK, FaultProxy, to_socket
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
socket, database, user = sys.argv[1:]
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
proxy = FaultProxy(to_socket(socket))
asyncio.run_coroutine_threadsafe(proxy.start(), loop).result()
config = parse(PostgresConfig, {"host": LOOPBACK, "port": proxy.port, "database": database, "user": user})
def chunks():
    yield memoryview(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    for number in range(400):
        if number == 200:
            loop.call_soon_threadsafe(proxy.reset)
        yield memoryview(b"\0\1\0\0\3\xe8" + b"x" * 1000)
try:
    with Session(config) as session:
        session.execute("CREATE TEMP TABLE arriving (value text)")
        session.copy("arriving", ["value"], chunks())
except Retryable as error:
    print(error.message)
"""


def test_a_link_that_is_reset_amid_a_load_is_told_as_such_under_uvloop_too(place: Place) -> None:
    parts = place.config().parts
    socket = f"{parts['host']}/.s.PGSQL.{parts['port']}"
    done = subprocess.run(
        [sys.executable, "-c", RESET_AMID_A_COPY, socket, parts["dbname"], parts["user"]],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout.endswith("cannot be reached: the connection was reset\n"), done.stderr


def test_loads_into_a_new_database_do_not_trip_over_each_other(place: Place) -> None:
    def load(number: int) -> LoadCounts:
        return place.load(ROWS.slice(number * 100, 100), table=f"guests_{number % 2}")

    with ThreadPoolExecutor(4) as threads:
        counts = list(threads.map(load, range(8)))
    assert counts == [LoadCounts(inserted=100)] * 8
    assert place.fetch("SELECT count(*) FROM guests_0") == place.fetch("SELECT count(*) FROM guests_1") == [(400,)]


def test_a_table_that_is_locked_too_long_is_tried_again_later(place: Place) -> None:
    place.load(ROWS.slice(0, 1))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Session(place.config()) as session:
            session.execute("LOCK TABLE guests IN ACCESS EXCLUSIVE MODE")
            held.set()
            release.wait(timeout=30)

    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        held.wait(timeout=30)
        destination = place.destination(lock_timeout_seconds=0.2)
        with pytest.raises(Retryable) as raised:
            destination.load(APPEND, a_run(), ROWS.to_reader(), None)
        release.set()
        holding.result(timeout=30)
    assert raised.value.specific_code == "locked"


def test_a_load_that_breaks_gives_its_locks_back(place: Place) -> None:
    place.load(ROWS.slice(0, 1))
    with pytest.raises(Cancelled):
        place.destination().load(APPEND, a_run(), broken(ROWS, Cancelled("asked to stop")), None)

    place.execute("BEGIN; LOCK TABLE guests IN ACCESS EXCLUSIVE MODE; ROLLBACK")
    assert guests(place) == 1


def test_the_ledger_tells_what_was_published(place: Place) -> None:
    run, destination = a_run(), place.destination()
    destination.prepare(APPEND, ROWS.schema, run)
    receipts = [destination.write(APPEND, run, part, ROWS.slice(part * 10, 10).to_reader()) for part in range(3)]
    destination.commit(APPEND, run, receipts, CursorMove("c9"))
    assert place.fetch(
        "SELECT partition, state, rows, inserted FROM _wedsync_ledger WHERE execution_id = $1 ORDER BY partition",
        run.execution_id,
    ) == [(-1, "published", 30, 30), (0, "published", 10, 0), (1, "published", 10, 0), (2, "published", 10, 0)]
    assert set(destination.discover()) == {"guests"}
    assert destination.cursor(run.pipeline_id, "load_guests") == "c9"
    assert RunKey(run.pipeline_id, run.execution_id, "other") != run


def test_a_ledger_that_was_dropped_is_made_again(place: Place) -> None:
    place.load(ROWS)
    place.load(ROWS)
    place.execute("DROP TABLE _wedsync_ledger")
    with pytest.raises(Retryable):
        place.load(ROWS)
    assert place.load(ROWS) == LoadCounts(inserted=5000)
    assert guests(place) == 15_000
