"""Queries prepared once and run again over other rows of the same columns.

To register a table and to bind a query costs DuckDB as much as to run it over a hundred rows (1.3 of 2.8 ms, measured).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import duckdb
import pyarrow as pa

MOST_KEPT: Final = 256

Rows: TypeAlias = Callable[[], pa.RecordBatchReader]
Key: TypeAlias = tuple[str, tuple[tuple[str, bytes], ...]]


class Slot:
    """A table that a prepared query reads: whatever its `rows` give at each scan."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.rows: Rows
        self.empty()

    def empty(self) -> None:
        """Hold no rows."""
        self.rows = self._schema.empty_table().to_reader

    def __arrow_c_schema__(self) -> object:
        """The columns."""
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows."""
        return self.rows().__arrow_c_stream__(requested_schema)


class Prepared:
    """One query over inputs of known columns, on a connection of its own; one run at a time."""

    def __init__(self, database: duckdb.DuckDBPyConnection, sql: str, inputs: Mapping[str, pa.Schema]) -> None:
        self._connection = database.cursor()
        self._slots = {name: Slot(schema) for name, schema in inputs.items()}
        try:
            for name, slot in self._slots.items():
                self._connection.register(name, slot)
            self._relation = self._connection.sql(sql)
        except BaseException:
            self._connection.close()
            raise

    def run(self, inputs: Mapping[str, Rows], batch_rows: int) -> pa.RecordBatchReader:
        """The result over these rows, in batches of at most `batch_rows` rows; raises what DuckDB raises."""
        for name, rows in inputs.items():
            self._slots[name].rows = rows
        return self._relation.to_arrow_reader(batch_rows)

    def rest(self) -> None:
        """Let go of the last run's rows."""
        for slot in self._slots.values():
            slot.empty()

    def interrupt(self) -> None:
        """Make the run end with an error soon; from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Give back the connection, also amid a run."""
        self._connection.close()


class Preparations:
    """The prepared queries of a database that nobody runs now, the last used kept longest."""

    def __init__(self, database: duckdb.DuckDBPyConnection, most: int = MOST_KEPT) -> None:
        self._database = database
        self._most = most
        self._kept: OrderedDict[Key, Prepared] = OrderedDict()

    def take(self, sql: str, schemas: Mapping[str, pa.Schema]) -> tuple[Key, Prepared]:
        """A query ready to run over inputs of these names and columns; raises what DuckDB raises."""
        key = (sql, tuple((name, schema.serialize().to_pybytes()) for name, schema in schemas.items()))
        return key, self._kept.pop(key, None) or Prepared(self._database, sql, schemas)

    def give_back(self, key: Key, prepared: Prepared) -> None:
        """Keep a query whose run was read to its end."""
        prepared.rest()
        earlier = self._kept.pop(key, None)
        self._kept[key] = prepared
        if earlier is not None:
            earlier.close()
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)[1].close()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def close(self) -> None:
        """Close all."""
        while self._kept:
            self._kept.popitem()[1].close()
