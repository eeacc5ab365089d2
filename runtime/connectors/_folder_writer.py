"""Writes Arrow batches into the files of one folder, divided into `column=value` folders where asked."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import Terminal
from runtime.batches.types import sql_type
from runtime.connectors._manifest import MANIFEST, Manifest, table_columns
from runtime.connectors._places import HIVE_NULL
from runtime.connectors._table_folder import fsync_tree, write_durably
from runtime.connectors._text_values import text_of

MOST_OPEN = 64


class RowWriter(Protocol):
    """One open file of a format."""

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file and have it on the disk."""

    def abandon(self) -> None:
        """Let go of a file that will not be used; raises nothing."""


OpenFile = Callable[[Path, pa.Schema], RowWriter]


class FolderWriter:
    """The files of one partition of a load; no file is made for no rows. `rows` counts what was written."""

    def __init__(
        self, folder: Path, stem: str, schema: pa.Schema, partition_by: Sequence[str], opens: OpenFile
    ) -> None:
        self.rows = 0
        self._folder = folder
        self._stem = stem
        self._schema = schema
        self._keys = list(partition_by)
        self._stored = pa.schema([field for field in schema if field.name not in self._keys])
        self._opens = opens
        self._open: OrderedDict[str, RowWriter] = OrderedDict()
        self._files = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows of exactly the schema."""
        self.rows += rows.num_rows
        for place, piece in self._by_folder(rows):
            self._writer(place).write(piece.select(self._stored.names))

    def close(self) -> None:
        """Finish all files."""
        while self._open:
            place = next(iter(self._open))
            self._open[place].close()
            del self._open[place]

    def abandon(self) -> None:
        """Let go of all files."""
        while self._open:
            self._open.popitem()[1].abandon()

    def _writer(self, place: str) -> RowWriter:
        if place in self._open:
            self._open.move_to_end(place)
            return self._open[place]
        if len(self._open) >= MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        folder = self._folder / place
        folder.mkdir(parents=True, exist_ok=True)
        self._open[place] = self._opens(folder / f"part-{self._stem}-{self._files:05d}", self._stored)
        self._files += 1
        return self._open[place]

    def _by_folder(self, rows: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        if not rows.num_rows:
            return
        if not self._keys:
            yield "", rows
            return
        names = [_folder_names(rows.column(key), key) for key in self._keys]
        places = pc.binary_join_element_wise(*names, "/").dictionary_encode()
        ordered = rows.take(pc.sort_indices(places.indices))
        start = 0
        counts = {one["values"]: one["counts"] for one in pc.value_counts(places.indices).to_pylist()}
        for index, place in enumerate(places.dictionary.to_pylist()):
            yield place, ordered.slice(start, counts[index])
            start += counts[index]


def _folder_names(values: pa.Array, key: str) -> pa.Array:
    texts = text_of(values).cast(pa.string()).dictionary_encode()
    names = [f"{quote(key)}={quote(text, safe=' ')}" for text in texts.dictionary.to_pylist()]
    return pa.array(names, pa.string()).take(texts.indices).fill_null(f"{quote(key)}={HIVE_NULL}")


def fill_folder(
    folder: Path, stem: str, rows: pa.RecordBatchReader, schema: pa.Schema, partition_by: Sequence[str], opens: OpenFile
) -> int:
    """Write all rows into a folder with its manifest, durably; gives their number."""
    writer = FolderWriter(folder, stem, schema, partition_by, opens)
    try:
        for batch in rows:
            writer.write(aligned(batch, schema))
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    manifest = Manifest(version=1, columns=table_columns(schema), partition_by=tuple(partition_by), rows=writer.rows)
    write_durably(folder / MANIFEST, manifest.model_dump_json().encode())
    fsync_tree(folder)
    return writer.rows


def aligned(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in a table's columns and types; columns it lacks are null.

    Raises `Terminal` that names the column whose values do not fit its type, or are null where none may be.
    """
    columns = []
    for field in schema:
        if field.name in rows.schema.names:
            column = _cast(rows.column(field.name), field)
        else:
            column = pa.nulls(rows.num_rows, field.type)
        if column.null_count and not field.nullable:
            raise Terminal(
                f"column {field.name} has no value in some rows, and needs one",
                hint="filter those rows out, or give them a value in a derive step",
                code="null_value",
            )
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(values: pa.Array, field: pa.Field) -> pa.Array:
    kind = field.type
    if values.type == kind:
        return values
    try:
        if isinstance(values.type, pa.BaseExtensionType):
            values = values.storage
        if isinstance(kind, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(kind, values.cast(kind.storage_type))
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise Terminal(
            f"column {field.name}: a value does not fit {sql_type(kind)}: {error}",
            hint="cast the column before the load, or filter the value out",
            code="overflow",
        ) from error
