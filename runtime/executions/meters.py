"""Counts, times and samples of the batches that flow through a task, taken as they pass."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import orjson
import psutil
import pyarrow as pa

from models.fields import Json, JsonObject
from runtime.access.mask import mask_row

SAMPLE_ROWS = 5
MEGABYTE = 1024 * 1024


class Meter:
    """Watches one stream: its rows, the ns spent waiting for it, its first rows, and whether it broke.

    `keep` is the number of its latest batches that stay at hand: as many as whoever reads it may have in work.
    """

    def __init__(self, on_batch: Callable[[], None] | None = None, *, keep: int = 0) -> None:
        self.rows = 0
        self.waited_ns = 0
        self.first: pa.RecordBatch | None = None
        self.latest: deque[pa.RecordBatch] = deque(maxlen=keep)
        self.broke = False
        self._on_batch = on_batch

    def reader(self, stream: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The same stream, watched."""
        return pa.RecordBatchReader.from_batches(stream.schema, self.batches(stream))

    def batches(self, stream: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, watched."""
        source = iter(stream)
        while True:
            began = time.perf_counter_ns()
            try:
                batch = next(source, None)
            except Exception:
                self.broke = True
                raise
            self.waited_ns += time.perf_counter_ns() - began
            if batch is None:
                return
            self.rows += batch.num_rows
            self.latest.append(batch)
            if self.first is None and batch.num_rows:
                self.first = batch.slice(0, SAMPLE_ROWS * 4)
            if self._on_batch is not None:
                self._on_batch()
            yield batch


@lru_cache(maxsize=1)
def _process(number: int) -> psutil.Process:
    """Made once: it looks up when the process began, which costs more than to ask for its memory."""
    return psutil.Process(number)


class Usage:
    """The memory (peak MB of this process) and CPU (percent of one core) used between its making and `stop`."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()
        self._lock = threading.Lock()
        self.peak_mb = 0
        self.sample()

    def sample(self) -> None:
        """Take the memory now into the peak."""
        resident = _process(os.getpid()).memory_info().rss // MEGABYTE
        with self._lock:
            self.peak_mb = max(self.peak_mb, resident)

    @property
    def elapsed_ms(self) -> int:
        """Wall time since the start."""
        return round((time.perf_counter() - self._wall) * 1000)

    @property
    def cpu_percent(self) -> float:
        """CPU time over wall time since the start; above 100 when several threads worked."""
        wall = time.perf_counter() - self._wall
        return round(100 * (time.process_time() - self._cpu) / wall, 1) if wall > 0 else 0.0


def sample_of(rows: pa.RecordBatch | pa.Table | None) -> Json:
    """The first rows as masked JSON objects; None where there are none."""
    if rows is None or rows.num_rows == 0:
        return None
    return masked_rows(rows, SAMPLE_ROWS)


def masked_rows(rows: pa.RecordBatch | pa.Table, most: int) -> list[Json]:
    """At most the first `most` rows as masked JSON objects."""
    return [mask_row(row) for row in plain_rows(rows.slice(0, most))]


def plain_rows(rows: pa.RecordBatch | pa.Table) -> list[JsonObject]:
    """The rows as JSON objects; decimals, moments and bytes become text."""
    plain: list[JsonObject] = orjson.loads(orjson.dumps(rows.to_pylist(), default=str, option=orjson.OPT_NON_STR_KEYS))
    return plain
