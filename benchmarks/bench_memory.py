"""Does the runtime's memory stay the same, however many rows go through?"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.headline import Headline, seconds
from benchmarks.rows import make_source, make_target, moving, rows_in
from benchmarks.server import Server
from benchmarks.sizes import Sized
from models.destinations import WriteMode

FEW: Final = 2_000_000
MANY: Final = 10_000_000
SAMPLE_SECONDS: Final = 0.1
MIB: Final = 2**20


class Peak:
    """The largest sum of the runtime's proportional set sizes (shared pages count once), and the largest; bytes."""

    def __init__(self) -> None:
        self.value = 0
        self.largest_process = 0

    def sample(self, server: Server) -> None:
        """Look once; a process that ends meanwhile is left out."""
        sizes: list[int] = []
        for process in server.processes():
            with suppress(psutil.Error):
                sizes.append(process.memory_full_info().pss)
        self.value = max(self.value, sum(sizes))
        self.largest_process = max(self.largest_process, *sizes)


@contextmanager
def watched(server: Server) -> Iterator[Peak]:
    """The peak of the runtime's memory while the block lasts, looked at ten times a second."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peak.sample(server)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        over.set()
        watching.join()
    assert peak.value, "no sample was taken"


def moved(server: Server, table: str, rows: int) -> Peak:
    """The peak while so many rows go through a pipeline whose processes are warm."""
    name = f"bench_memory_{table}"
    make_source(server, table, rows)
    make_target(server, name)
    server.save(moving(name, table, WriteMode.APPEND))
    with watched(server) as peak:
        server.execute(name)
    assert rows_in(server, name) == rows - rows // 10
    return peak


def test_peak_memory_of_many_rows(server: Server, benchmark: BenchmarkFixture, sized: Sized) -> None:
    """The few rows go through twice; the first time only warms, so that both peaks are those of warm processes."""
    few, many = sized(FEW), sized(MANY)
    moved(server, "warm", few)
    small = moved(server, "few", few)
    large: list[Peak] = []
    seconds(benchmark, lambda: large.append(moved(server, "many", many)))
    headline = Headline(
        value=round(large[0].value / small.value, 2),
        unit=f"x, {large[0].value // MIB:,} MiB at {many:,} rows",
        against=f"{small.value // MIB:,} MiB at {few:,} rows",
        target="<= 1.2",
    )
    processes = (small.largest_process // MIB, large[0].largest_process // MIB)
    headline.on(benchmark, largest_process_mib_few=processes[0], largest_process_mib_many=processes[1])
