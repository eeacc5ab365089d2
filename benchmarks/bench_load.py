"""How many rows a second go from PostgreSQL through a filter and a derived column to PostgreSQL?"""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.environments import environment
from benchmarks.headline import Headline, seconds
from benchmarks.rows import CONDITION, GROSS, copy_with_psql, make_source, make_target, moving, rows_in
from benchmarks.server import SOURCE, TARGET, Server
from benchmarks.sizes import Sized
from models.destinations import WriteMode
from models.fields import JsonObject

ROWS: Final = 5_000_000
ROUNDS: Final = 3
DLT_ROWS: Final = 300_000
DLT: Final = ("dlt[postgres,sql_database]==1.31.0", "psycopg2-binary==2.9.13")
PEER: Final = Path(__file__).parent / "peers" / "copy_with_dlt.py"


def prepared(server: Server, rows: int, mode: WriteMode) -> JsonObject:
    """A pipeline in that mode that has run once over a few rows, its source filled, its target empty."""
    made = moving(f"bench_{mode.value}", "narrow", mode)
    name = str(made["pipeline_name"])
    make_source(server, "narrow", 1_000)
    make_target(server, name, keyed=mode is WriteMode.UPSERT)
    server.save(made)
    server.execute(name)
    make_source(server, "narrow", rows)
    return made


def kept(rows: int) -> int:
    """How many rows pass the filter."""
    return rows - rows // 10


def per_second(rows: int, times: list[float]) -> int:
    """Rows read per second, by the median of the times."""
    return round(rows / statistics.median(times))


def test_rows_appended(server: Server, benchmark: BenchmarkFixture, sized: Sized) -> None:
    rows = sized(ROWS)
    prepared(server, rows, WriteMode.APPEND)
    copied: list[float] = []

    def copy_first() -> None:
        make_target(server, "copied")
        began = time.perf_counter()
        copy_with_psql(server, "narrow", "copied")
        copied.append(time.perf_counter() - began)
        make_target(server, "bench_append")

    ours = seconds(benchmark, lambda: server.execute("bench_append"), rounds=ROUNDS, before=copy_first)
    assert rows_in(server, "bench_append") == rows_in(server, "copied") == kept(rows)
    ratio = statistics.median(theirs / mine for theirs, mine in zip(copied, ours, strict=True))
    headline = Headline(
        value=round(ratio, 2),
        unit=f"of the rows/s of psql, at {per_second(rows, ours):,} rows/s",
        against=f"psql COPY | COPY of the same query, binary: {per_second(rows, copied):,} rows/s",
        target=">= 0.7",
    )
    headline.on(benchmark, rows=rows)


@pytest.mark.parametrize("mode", [WriteMode.OVERWRITE, WriteMode.UPSERT])
def test_rows_written_otherwise(server: Server, benchmark: BenchmarkFixture, sized: Sized, mode: WriteMode) -> None:
    """The target holds the rows of the first half of the ids already."""
    rows = sized(ROWS)
    name = str(prepared(server, rows, mode)["pipeline_name"])

    def fill() -> None:
        make_target(server, name, keyed=mode is WriteMode.UPSERT, filled=rows // 2)

    ours = seconds(benchmark, lambda: server.execute(name), rounds=1, before=fill)
    left = rows // 2 // 10 if mode is WriteMode.UPSERT else 0
    assert rows_in(server, name) == kept(rows) + left
    headline = Headline(
        value=f"{per_second(rows, ours):,}",
        unit=f"rows/s, {mode.value}",
        against=f"a target that holds {rows // 2:,} rows",
        target="reported",
    )
    headline.on(benchmark, rows=rows)


def test_rows_appended_beside_dlt(server: Server, benchmark: BenchmarkFixture, sized: Sized) -> None:
    rows, fewer = sized(ROWS), sized(DLT_ROWS)
    prepared(server, rows, WriteMode.APPEND)
    make_source(server, "few", fewer)
    python = environment("dlt", *DLT) / "python"
    copied: list[float] = []

    def copy_first() -> None:
        server.sql(TARGET, "DROP SCHEMA IF EXISTS dlt CASCADE", "DROP SCHEMA IF EXISTS dlt_staging CASCADE", "SELECT 1")
        copied.append(copy_with_dlt(server, python))
        assert rows_in(server, "dlt.few") == kept(fewer)
        make_target(server, "bench_append")

    ours = seconds(benchmark, lambda: server.execute("bench_append"), rounds=ROUNDS, before=copy_first)
    assert rows_in(server, "bench_append") == kept(rows)
    ratios = [rows / mine / (fewer / theirs) for theirs, mine in zip(copied, ours, strict=True)]
    headline = Headline(
        value=round(statistics.median(ratios), 1),
        unit=f"x the rows/s of dlt, at {per_second(rows, ours):,} rows/s",
        against=f"{DLT[0]}, sql_table with its defaults, the same query over {fewer:,} rows: "
        f"{per_second(fewer, copied):,} rows/s",
        target=">= 10",
    )
    headline.on(benchmark, rows=rows)


def copy_with_dlt(server: Server, python: Path) -> float:
    """Do the same with dlt, warm; seconds. It insists on a host and a password, though the socket asks for neither."""
    folder = server.postgres.folder
    source = f"postgresql+psycopg2://postgres@/{SOURCE}?host={folder}"
    target = f"postgresql://postgres:any@localhost/{TARGET}?host={folder}"
    with tempfile.TemporaryDirectory() as place:
        words = [str(python), str(PEER), source, target, "few", CONDITION, GROSS, place]
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=place)
    return float(done.stdout.split()[-1])
