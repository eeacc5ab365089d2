"""Counts the rows between the steps of a task's chain, batch by batch, and keeps those that the steps set aside."""

from collections.abc import Iterator, Mapping

import orjson
import pyarrow as pa

from models.fields import JsonObject
from runtime.batches.engine import Engine
from runtime.connectors._contract import RejectedRow, Rejections
from runtime.executions.meters import plain_rows
from runtime.executions.program import Member, TaskProgram
from runtime.executions.state import SetAside


class Chain:
    """What a task's query did between its ends: rows after its steps, summed over batches, and those set aside."""

    def __init__(self, program: TaskProgram, engine: Engine) -> None:
        self.rows: dict[str, int] = {}
        self.aside: dict[str, list[SetAside]] = {member.name: [] for member in program.members if member.set_aside}
        self._program = program
        self._engine = engine

    def count(self, inputs: Mapping[str, pa.Table | pa.RecordBatchReader]) -> dict[str, int]:
        """Count the rows of these inputs after each member that changes their number, as far as that must be asked."""
        if self._program.counting is None:
            return {}
        (row,) = self._engine.table(self._program.counting, inputs).to_pylist()
        counted = {name: int(rows) for name, rows in row.items()}
        for name, rows in counted.items():
            self.rows[name] = self.rows.get(name, 0) + rows
        return counted

    def reader(self, sql: str, name: str, stream: pa.RecordBatchReader) -> pa.RecordBatchReader:
        """The result of the query over the stream that it knows by this name, made batch by batch."""
        schema = self._engine.table(sql, {name: stream.schema.empty_table()}).schema

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in stream:
                rows = {name: pa.Table.from_batches([batch])}
                made = self._engine.table(sql, rows)
                self._set_aside(rows, batch.num_rows, made.num_rows, self.count(rows))
                yield from made.cast(schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _set_aside(self, rows: Mapping[str, pa.Table], before: int, after: int, counted: Mapping[str, int]) -> None:
        """Keep what the members leave out of these rows, while there is room; most batches have nothing of that."""
        if not self.aside or before == after:
            return
        through = rows_through(self._program.members, before, after, counted)
        for member, (given, kept) in zip(self._program.members, through, strict=True):
            room = Rejections.KEPT - len(self.aside.get(member.name, ()))
            if member.set_aside is not None and given > kept and room > 0:
                found = self._engine.table(member.set_aside, rows)
                self.aside[member.name] += set_aside_rows(member.name, found.slice(0, room))


def rows_through(
    members: tuple[Member, ...], rows_in: int, rows_out: int, counted: Mapping[str, int]
) -> list[tuple[int, int]]:
    """Rows into and out of each member; only members that change the number need a count."""
    through, current = list[tuple[int, int]](), rows_in
    last = max((index for index, member in enumerate(members) if member.changes_rows), default=-1)
    for index, member in enumerate(members):
        after = current
        if member.changes_rows:
            after = rows_out if index == last else counted.get(member.name, current)
        through.append((current, after))
        current = after
    return through


def set_aside_rows(step: str, found: pa.Table) -> list[SetAside]:
    """Rows of which the first column says why a step set them aside."""
    reasons, rows = found.column(0).to_pylist(), plain_rows(found.select(range(1, found.num_columns)))
    return [SetAside(step, _bounded(row), str(reason)) for row, reason in zip(rows, reasons, strict=True)]


def rejected_rows(step: str, rows: list[RejectedRow]) -> list[SetAside]:
    """Rows that a source could not take."""
    return [SetAside(step, {"place": row.place, "text": row.text}, row.reason) for row in rows]


def _bounded(row: JsonObject) -> JsonObject:
    """The row, or where it is too long, the beginning of its text."""
    text = orjson.dumps(row).decode()
    return row if len(text) <= Rejections.LONGEST else {"text": text[: Rejections.LONGEST]}
