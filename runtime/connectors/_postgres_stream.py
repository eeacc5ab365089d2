"""Streams a selection: one thread reads ahead by two batches, so that the server, DuckDB and the load overlap."""

import queue
import threading
from collections.abc import Iterator

import pyarrow as pa

from models.errors import Terminal
from runtime.connectors._postgres_columns import MULTIDIMENSIONAL, special_value
from runtime.connectors._postgres_names import quoted
from runtime.connectors._postgres_reading import Reading, reading
from runtime.connectors._postgres_select import Selection, scaled_columns
from runtime.connectors._selection import slices

AHEAD = 2
NOTICE_SECONDS = 0.1


class _End:
    """After the last batch."""


class Stream:
    """One running read; owns its transaction, and gives it back when its rows end or when it is closed."""

    def __init__(self, transaction: Reading, selection: Selection, batch_rows: int) -> None:
        self.selection = selection
        self._transaction = transaction
        self._batch_rows = batch_rows
        self._ready: queue.Queue[pa.RecordBatch | BaseException | type[_End]] = queue.Queue(AHEAD)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fetch, name="postgres-read", daemon=True)

    def reader(self) -> pa.RecordBatchReader:
        """The rows, in batches of at most `batch_rows`; to be read once."""
        self._thread.start()
        return pa.RecordBatchReader.from_batches(self.selection.schema, self._batches())

    def close(self) -> None:
        """Stop reading; safe to call twice and after the end."""
        self._stopped.set()
        while self._thread.is_alive():
            self._transaction.cancel()
            self._drain()
            self._thread.join(NOTICE_SECONDS)
        self._transaction.finish(reusable=False)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            while (item := self._ready.get()) is not _End:
                if isinstance(item, BaseException):
                    raise item
                yield from slices(self._finished(item), self._batch_rows)
        finally:
            self.close()

    def _finished(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [column.convert(values) for column, values in zip(self.selection.columns, batch.columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self.selection.schema)

    def _fetch(self) -> None:
        try:
            for batch in self._transaction.batches(self.selection.sql):
                if not self._offer(batch):
                    return
            self._transaction.finish()
            self._offer(_End)
        except Exception as error:
            self._transaction.finish(reusable=False)
            self._offer(self._explained(error))

    def _offer(self, item: pa.RecordBatch | BaseException | type[_End]) -> bool:
        while not self._stopped.is_set():
            try:
                self._ready.put(item, timeout=NOTICE_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self) -> None:
        try:
            while True:
                self._ready.get_nowait()
        except queue.Empty:
            return

    def _explained(self, error: Exception) -> Exception:
        """The same failure, naming the column where the server could not."""
        text = str(error)
        if MULTIDIMENSIONAL in text:
            column = text.partition(MULTIDIMENSIONAL)[2].partition(":")[0]
            return Terminal(
                f"column {column} holds an array of more than one dimension",
                hint=f"take it apart in the query, or cast it: to_jsonb({quoted(column)})",
                code="special_value",
            )
        if "cannot convert NaN" in text or "cannot convert infinity" in text:
            return special_value(f"column {self._holding_nan()}", "NaN")
        return error

    def _holding_nan(self) -> str:
        names = scaled_columns(self.selection.columns)
        tests = ", ".join(f"bool_or({quoted(name)} = 'NaN')" for name in names)
        with reading(self._transaction.config) as again:
            again.set(self._transaction.applied)
            (found,) = again.answer(f"SELECT {tests} FROM (\n{self.selection.source}\n) AS source")
        return next((name for name, holds in zip(names, found, strict=True) if holds), ", ".join(names))
