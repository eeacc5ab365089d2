"""A dataset as it truly is and as it is delivered, with the defects that tell the two apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from runtime.demo.columns import Integers


class DefectKind(StrEnum):
    """What is wrong with a dirty row."""

    MISSING_VALUE = "missing_value"
    INVALID_EMAIL = "invalid_email"
    NEGATIVE_AMOUNT = "negative_amount"
    UNREADABLE_AMOUNT = "unreadable_amount"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_STATUS = "unknown_status"
    DATE_FORMAT = "date_format"
    DUPLICATE = "duplicate"


DEFECTS = pa.schema([("row", pa.int64()), ("column", pa.string()), ("defect", pa.string())])

Change: TypeAlias = Callable[[pa.Array, np.random.Generator], pa.Array]


@dataclass(frozen=True, slots=True)
class Flaw:
    """A way to spoil a row: `change` gives other values for the picked ones of `column`.

    A duplicate has no change: the row comes a second time, at the end; `column` is then the identifier that the
    second one gets anew, or empty where it is repeated in full.
    """

    kind: DefectKind
    column: str = ""
    change: Change | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows in two forms. `clean`: as they truly are, in exact types; `delivered`: as the platform gives them out.

    Row i of both is the same; what `delivered` has beyond are duplicates. `defects` has one row (row, column, defect)
    for each dirty row of `delivered`; no row has two.
    """

    name: str
    clean: pa.Table
    delivered: pa.Table
    defects: pa.Table

    @property
    def rows(self) -> int:
        """How many rows are delivered."""
        return int(self.delivered.num_rows)

    @property
    def dirty_rows(self) -> pa.Table:
        """The delivered rows that carry a defect, with `column` and `defect` behind them as `_column` and `_defect`."""
        found = self.delivered.take(self.defects["row"])
        return found.append_column("_column", self.defects["column"]).append_column("_defect", self.defects["defect"])

    @property
    def sound_rows(self) -> pa.Table:
        """The delivered rows without a defect."""
        sound = np.ones(self.rows, dtype=bool)
        sound[self.defects["row"].to_numpy()] = False
        return self.delivered.filter(pa.array(sound))

    def with_defect(self, kind: DefectKind) -> Integers:
        """The positions, among the delivered rows, of those with this defect."""
        found: Integers = self.defects.filter(pc.field("defect") == kind.value)["row"].to_numpy()
        return found


def spoil(
    name: str,
    clean: pa.Table,
    written: pa.Table,
    flaws: Sequence[Flaw],
    share: float,
    random: np.random.Generator,
) -> Dataset:
    """Deliver `written` (the clean rows in the platform's own writing) with `share` of its rows spoilt.

    The dirty rows are dealt evenly to the flaws, one each.
    """
    hit = random.permutation(written.num_rows)[: round(share * written.num_rows)]
    dealt = [np.sort(part) for part in np.array_split(hit, len(flaws))]
    end, found = written.num_rows, list[pa.Table]()
    repeated = [written.slice(0, 0)]
    for flaw, rows in zip(flaws, dealt, strict=True):
        if flaw.change is None:
            repeated.append(_repeat(written, rows, flaw.column, end))
            found.append(_defects(np.arange(end, end + len(rows)), flaw))
            end += len(rows)
        else:
            found.append(_defects(rows, flaw))
    for flaw, rows in zip(flaws, dealt, strict=True):
        if flaw.change is not None:
            written = _replace(written, rows, flaw.column, flaw.change, random)
    delivered = pa.concat_tables([written, *repeated]).combine_chunks()
    return Dataset(name, clean, delivered, pa.concat_tables(found).combine_chunks())


def _defects(rows: Integers, flaw: Flaw) -> pa.Table:
    columns = [pa.array(rows, pa.int64()), pa.repeat(flaw.column, len(rows)), pa.repeat(flaw.kind.value, len(rows))]
    return pa.Table.from_arrays(columns, schema=DEFECTS)


def _repeat(table: pa.Table, rows: Integers, identifier: str, beyond: int) -> pa.Table:
    """The rows again; identifiers that count up from 1 go on after the last of the table."""
    again = table.take(pa.array(rows))
    if not identifier:
        return again
    at = table.schema.get_field_index(identifier)
    fresh = pa.array(np.arange(beyond + 1, beyond + 1 + len(rows)), table.schema.field(at).type)
    return again.set_column(at, table.schema.field(at), fresh)


def _replace(table: pa.Table, rows: Integers, name: str, change: Change, random: np.random.Generator) -> pa.Table:
    at = table.schema.get_field_index(name)
    column = table.column(at).combine_chunks()
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[rows] = True
    changed = change(column.take(pa.array(rows)), random).cast(column.type)
    return table.set_column(at, table.schema.field(at), pc.replace_with_mask(column, pa.array(mask), changed))
