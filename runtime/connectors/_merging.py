"""Upsert for tables of files: which keys are there already, and the rows that a load does not replace."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.errors import Terminal
from runtime.batches.engine import Engine

Positions: TypeAlias = npt.NDArray[np.int64]
Rows: TypeAlias = Callable[[], pa.RecordBatchReader]

POSITION = "__position"


@dataclass(frozen=True, slots=True)
class Merge:
    """A load's rows over a table's rows, joined on keys; each callable streams its rows anew."""

    engine: Engine
    keys: Sequence[str]
    loaded: Rows
    table: Rows

    def check_loaded(self) -> int:
        """How many rows are loaded; raises `Terminal` where a key is null or there twice, for which row would win?"""
        rows, distinct, without = self._counts("loaded", self.loaded)
        if without:
            raise Terminal(
                f"{without} rows have no value in a key column ({', '.join(self.keys)})",
                hint="filter them out, or choose other key_columns",
                code="null_key",
            )
        if rows != distinct:
            raise Terminal(
                f"{rows - distinct} rows repeat a key of the same load, such as {self._repeated()}",
                hint="add a deduplicate step before the load",
                code="duplicate_key",
            )
        return rows

    def replaced(self) -> Positions:
        """The positions of the table's rows that the load replaces, in order.

        Raises `Terminal` where the table has a key of the load more than once.
        """
        pairs_of = f"SELECT current.{POSITION} AS old, loaded.{POSITION} AS new"
        query = f"{pairs_of} FROM current JOIN loaded USING ({self._key_list})"
        inputs = {"current": _numbered(self.table(), self.keys), "loaded": _numbered(self.loaded(), self.keys)}
        with self.engine.stream(query, inputs) as rows:
            pairs = rows.read_all()
        if pc.count_distinct(pairs.column("new")).as_py() < pairs.num_rows:
            raise Terminal(
                f"the table has several rows of one key ({', '.join(self.keys)}) that is loaded",
                hint="overwrite the table with rows of distinct keys first",
                code="duplicate_key",
            )
        return np.sort(pairs.column("old").to_numpy())

    def kept(self, replaced: Positions) -> Iterator[pa.RecordBatch]:
        """The rows of the table at all other positions, as they are."""
        start = 0
        for batch in self.table():
            first, end = np.searchsorted(replaced, [start, start + batch.num_rows])
            kept = np.ones(batch.num_rows, dtype=bool)
            kept[replaced[first:end] - start] = False
            yield batch.filter(pa.array(kept))
            start += batch.num_rows

    @property
    def _key_list(self) -> str:
        return ", ".join(_quoted(key) for key in self.keys)

    def _counts(self, name: str, rows: Rows) -> tuple[int, ...]:
        absent = " OR ".join(f"{_quoted(key)} IS NULL" for key in self.keys)
        query = f"SELECT count(*), count(DISTINCT ({self._key_list})), count(*) FILTER (WHERE {absent}) FROM {name}"
        return self._row(query, {name: rows()})

    def _repeated(self) -> str:
        query = f"SELECT {self._key_list} FROM loaded GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
        found = self.engine.table(query, {"loaded": self.loaded()}).to_pylist()[0]
        return ", ".join(f"{name} = {value}" for name, value in found.items())

    def _row(self, query: str, inputs: dict[str, pa.Table | pa.RecordBatchReader]) -> tuple[int, ...]:
        return tuple(cast(int, column[0].as_py()) for column in self.engine.table(query, inputs).columns)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _numbered(rows: pa.RecordBatchReader, keys: Sequence[str]) -> pa.RecordBatchReader:
    """The key columns of a stream, with each row's position in it."""
    schema = pa.schema([*(rows.schema.field(key) for key in keys), pa.field(POSITION, pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        start = 0
        for batch in rows:
            positions = pa.array(np.arange(start, start + batch.num_rows))
            yield pa.RecordBatch.from_arrays([*(batch.column(key) for key in keys), positions], schema=schema)
            start += batch.num_rows

    return pa.RecordBatchReader.from_batches(schema, batches())
