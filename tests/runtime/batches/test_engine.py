"""The engine streams, spills, stays locked down, and keeps typed errors as they were."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from models.errors import Retryable, Terminal
from runtime.batches.engine import Engine, EngineLimits

NUMBERS = pa.table({"n": list(range(10))})
MEGABYTE = 1024 * 1024


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(EngineLimits(threads=2, memory_mb=200, spill_folder=tmp_path))
    yield made
    made.close()


def test_a_query_sees_its_inputs(engine: Engine) -> None:
    answer = engine.table("SELECT sum(n) AS total FROM numbers WHERE n > 7", {"numbers": NUMBERS})
    assert answer.to_pylist() == [{"total": 17}]


def total(engine: Engine, rows: pa.Table, sql: str = "SELECT sum(n)::BIGINT AS total FROM numbers") -> object:
    return engine.table(sql, {"numbers": rows}).to_pylist()[0]["total"]


def test_a_query_that_runs_again_sees_the_rows_of_that_run(engine: Engine) -> None:
    assert [total(engine, pa.table({"n": [n, n]})) for n in range(5)] == [0, 2, 4, 6, 8]


def test_a_query_over_other_columns_of_the_same_name_is_another(engine: Engine) -> None:
    sql = "SELECT typeof(any_value(n)) AS total FROM numbers"
    tables = [pa.table({"n": pa.array([1], kind)}) for kind in (pa.int8(), pa.int64(), pa.int8(), pa.float64())]
    assert [total(engine, one, sql) for one in tables] == ["TINYINT", "BIGINT", "TINYINT", "DOUBLE"]


def test_a_query_that_leaves_rows_unread_runs_again(engine: Engine) -> None:
    sql = "SELECT n AS total FROM numbers LIMIT 1"
    assert [total(engine, pa.table({"n": range(n, 500_000)}), sql) for n in range(3)] == [0, 1, 2]


def test_a_query_runs_beside_itself_and_after_it_was_left(engine: Engine) -> None:
    sql, many = "SELECT n FROM numbers", pa.table({"n": range(300_000)})
    with engine.stream(sql, {"numbers": many}, batch_rows=1000) as outer:
        assert outer.read_next_batch().num_rows == 1000
        assert engine.table(sql, {"numbers": pa.table({"n": [7]})}).to_pylist() == [{"n": 7}]
        assert outer.read_next_batch()["n"][0].as_py() == 1000
    assert engine.table(sql, {"numbers": many}).num_rows == 300_000


def test_a_query_that_failed_runs_again(engine: Engine) -> None:
    sql = "SELECT 10 / (CASE WHEN n = 'x' THEN CAST(n AS INTEGER) ELSE 5 END) AS total FROM numbers"
    with pytest.raises(Terminal):
        total(engine, pa.table({"n": ["x"]}), sql)
    assert total(engine, pa.table({"n": ["y"]}), sql) == 2.0


def test_a_table_may_be_read_twice_by_a_query_and_a_stream_once(engine: Engine) -> None:
    sql = "SELECT count(*) AS total FROM numbers AS a, numbers AS b"
    assert total(engine, NUMBERS, sql) == NUMBERS.num_rows**2
    with pytest.raises(Terminal, match="read twice"):
        engine.table(sql, {"numbers": NUMBERS.to_reader()})


def test_a_query_sees_nothing_of_another_ones_inputs(engine: Engine) -> None:
    engine.table("SELECT * FROM numbers", {"numbers": NUMBERS})
    with pytest.raises(Terminal, match="numbers") as raised:
        engine.table("SELECT * FROM numbers", {})
    assert raised.value.specific_code == "bad_sql"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "ATTACH '/tmp/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SELECT * FROM NUMBERS_OF_PYTHON",
        "SELECT getenv('HOME')",
    ],
)
def test_the_outside_is_out_of_reach(engine: Engine, sql: str) -> None:
    with pytest.raises(Terminal):
        engine.table(sql, {"numbers": NUMBERS})


def stream(count: int, rows: int) -> pa.RecordBatchReader:
    schema = pa.schema([("n", pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        for part in range(count):
            yield pa.record_batch({"n": pa.array(range(part * rows, (part + 1) * rows), pa.int64())})

    return pa.RecordBatchReader.from_batches(schema, batches())


def test_a_stream_longer_than_memory_passes_in_bounded_memory(engine: Engine) -> None:
    process = psutil.Process()
    total, peak, before = 0, 0, process.memory_info().rss
    with engine.stream("SELECT n, n * 2 AS twice FROM input WHERE n % 2 = 0", {"input": stream(80, 100_000)}) as out:
        for batch in out:
            total += batch.num_rows
            peak = max(peak, process.memory_info().rss)
    assert total == 4_000_000
    assert peak - before < 300 * MEGABYTE


def test_a_wide_step_larger_than_its_memory_spills(engine: Engine) -> None:
    sql = "SELECT n % 1500000 AS k, count(*) AS rows, min(n) AS least FROM input GROUP BY ALL ORDER BY least DESC"
    with engine.stream(sql, {"input": stream(30, 100_000)}) as out:
        assert sum(batch.num_rows for batch in out) == 1_500_000


def test_a_typed_error_of_a_source_comes_out_as_it_was(engine: Engine) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"n": pa.array([1], pa.int64())})
        raise Retryable("the source went away", retry_after=7.0)

    reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), broken())
    with pytest.raises(Retryable, match="went away") as raised:
        engine.table("SELECT * FROM input", {"input": reader})
    assert raised.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT CAST(n * 100 AS TINYINT) FROM numbers", "overflow"),
        ("SELECT CAST('x' || n AS INTEGER) FROM numbers", "bad_value"),
        ("SELECT strptime('1.5.2026' || n, '%Y-%m-%d') FROM numbers", "bad_value"),
        ("SELECT missing FROM numbers", "bad_sql"),
        ("SELEC 1", "bad_sql"),
        ("SELECT ('a' || n) + 1 FROM numbers", "bad_sql"),
        ("SELECT json_extract_string('c' || n, '$.name') FROM numbers", "bad_value"),
    ],
)
def test_what_duckdb_refuses_has_a_code_and_a_remedy(engine: Engine, sql: str, code: str) -> None:
    with pytest.raises(Terminal) as raised:
        engine.table(sql, {"numbers": NUMBERS})
    assert raised.value.specific_code == code
    assert raised.value.hint


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "SELECT upper(n, 2) FROM numbers",
            "'upper(BIGINT, INTEGER_LITERAL)'. You might need to add explicit type casts.",
        ),
        ("SELECT n FROM numbers WHERE n > 'abc'", "INT64, at: SELECT n FROM numbers WHERE n > 'abc'"),
        ("SELECT uper('a') FROM numbers", 'uper does not exist! Did you mean "upper"?'),
    ],
)
def test_what_duckdb_refuses_is_told_in_one_line_with_its_place(engine: Engine, sql: str, told: str) -> None:
    with pytest.raises(Terminal) as raised:
        engine.table(sql, {"numbers": NUMBERS})
    assert raised.value.message.endswith(told), raised.value.message
    assert "\n" not in raised.value.message


def test_a_failure_that_shows_only_while_reading_is_typed_too(engine: Engine) -> None:
    sql = "SELECT CAST(n AS TINYINT) AS small FROM input"

    def read() -> int:
        with engine.stream(sql, {"input": stream(3, 100_000)}, batch_rows=1000) as out:
            return sum(batch.num_rows for batch in out)

    with pytest.raises(Terminal) as raised:
        read()
    assert raised.value.specific_code in ("overflow", "bad_value")


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(EngineLimits(threads=1, memory_mb=20, spill_mb=1, spill_folder=tmp_path))
    yield made
    made.close()


def test_an_engine_out_of_memory_before_its_first_row_says_so(cramped: Engine) -> None:
    with pytest.raises(Terminal, match="Out of Memory") as raised:
        cramped.table("SELECT list(n) AS all_of_them FROM input", {"input": stream(30, 100_000)})
    assert raised.value.specific_code == "memory_limit"
    assert raised.value.hint


def test_an_engine_out_of_memory_amid_its_rows_says_so(cramped: Engine) -> None:
    sql = "SELECT n, 0 AS rows FROM numbers UNION ALL SELECT n, count(*) AS rows FROM input GROUP BY n"
    with cramped.stream(sql, {"numbers": stream(3, 100_000), "input": stream(30, 100_000)}) as out:
        assert out.read_next_batch().num_rows
        with pytest.raises(Terminal, match="Out of Memory") as raised:
            out.read_all()
    assert raised.value.specific_code == "memory_limit"


@pytest.mark.parametrize(
    ("late", "code"),
    [("CAST('x' || n AS BIGINT)", "bad_value"), ("1 << n", "overflow"), ("error('no such seat')", "engine")],
)
def test_what_breaks_the_engine_amid_its_rows_is_typed_as_it_is_at_once(engine: Engine, late: str, code: str) -> None:
    sql = f"SELECT CASE WHEN n < 900000 THEN n ELSE {late} END AS seat FROM input"
    with engine.stream(sql, {"input": stream(10, 100_000)}) as out:
        assert out.read_next_batch().num_rows
        with pytest.raises(Terminal) as raised:
            out.read_all()
    assert raised.value.specific_code == code
    assert raised.value.hint
