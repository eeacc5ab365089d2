"""CSV files as a source and as a destination: typed columns, and broken rows named by file and line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from models.errors import Terminal
from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.connectors._csv_rows import BadRow, CsvDialect, CsvRows
from runtime.connectors._datasets import Part
from runtime.connectors._file_destination import FileDestination, FileDestinationConfig
from runtime.connectors._files import (
    FileSource,
    MissingColumns,
    OnBadRow,
    RowFileConfig,
    divided,
    match_columns,
    sample_of,
)
from runtime.connectors._folder_writer import RowWriter
from runtime.connectors._places import FileEntry, is_compressed
from runtime.connectors._row_writers import CsvWriter
from runtime.connectors._text_values import TextFormats, infer_type, typed_text, without


class CsvConfig(CsvDialect, RowFileConfig):
    """CSV files below a root. Dates and timestamps are ISO 8601 unless `strptime` formats are given."""

    date_formats: tuple[str, ...] = ()
    timestamp_formats: tuple[str, ...] = ()


class CsvSource(FileSource[CsvConfig]):
    """Reads CSV.

    Types that are not declared come from a sample, the first block of several files, so they are the same for the
    same files; a later value that does not fit is a bad row.
    """

    kind = "csv"
    Config = CsvConfig
    suffixes = (".csv", ".tsv", ".txt")

    def _infer(self, files: Sequence[FileEntry], types: Mapping[str, pa.DataType]) -> pa.Schema:
        written: dict[str, set[str]] = {}
        for file in sample_of(files, self.config.sample_files):
            rows = self._open(Part(file), self.config.column_names, self.config.sample_bytes, stops=False)
            names = rows.header()
            if not written or self.config.missing_columns is MissingColumns.NULL:
                written.update({name: set() for name in names if name not in written})
            else:
                match_columns(self.config, file.path, names, pa.schema([(name, pa.string()) for name in written]))
            for name, values in _texts(next(rows.batches(), None)).items():
                written.get(name, set()).update(values)
        return pa.schema([(name, types.get(name) or infer_type(sorted(texts))) for name, texts in written.items()])

    def _rows(self, part: Part, stored: pa.Schema) -> Iterator[pa.RecordBatch]:
        stops = self.config.on_bad_row is OnBadRow.FAIL
        rows = self._open(part, self.config.column_names or stored.names, self.config.block_bytes, stops=stops)
        match_columns(self.config, part.file.path, rows.header(), stored)
        formats = TextFormats(self.config.date_formats, self.config.timestamp_formats)
        unfit: list[BadRow] = []
        try:
            for batch in rows.batches():
                typed, bad = typed_text(batch, stored, self.config.encoding, formats)
                unfit += [BadRow(rows.record(at), reason, _text_of(batch, at)) for at, reason in bad]
                if stops and unfit:
                    break
                yield without(typed, [at for at, _ in bad]) if bad else typed
        except Terminal:
            if not (stops and rows.bad):
                raise
        finally:
            self._account(rows, unfit)
        if stops and (rows.bad or unfit):
            raise self._broken(rows, min([*rows.bad, *unfit], key=lambda row: row.record))

    def _divide(self, file: FileEntry, count: int) -> list[Part]:
        if not self.config.is_divisible or is_compressed(file.path):
            return [Part(file)]
        return divided(self.place, file, count, has_header=self.config.header)

    def _open(self, part: Part, names: Sequence[str], block_bytes: int, *, stops: bool) -> CsvRows:
        return CsvRows(self.place, self.config, part, names, block_bytes, stops)

    def _account(self, rows: CsvRows, unfit: Sequence[BadRow]) -> None:
        """Count the bad rows of a part that was read, and keep them with their lines where they are asked for."""
        if self.config.on_bad_row is OnBadRow.FAIL:
            return
        bad = sorted([*rows.bad, *unfit], key=lambda row: row.record)
        keep = self.config.on_bad_row is OnBadRow.QUARANTINE
        room = max(self.rejections.KEPT - len(self.rejections.rows), 0) if keep else 0
        lines = rows.lines([row.record for row in bad[:room]]) if bad[:room] else {}
        for row in bad:
            place = f"{rows.part.file.path}, line {lines.get(row.record, '?')}"
            self.rejections.add(place, row.reason, row.text, keep=keep)

    def _broken(self, rows: CsvRows, row: BadRow) -> Terminal:
        line = rows.lines([row.record]).get(row.record, "?")
        return Terminal(
            f"{rows.part.file.path}, line {line}: {row.reason}",
            hint="mend the row, declare the column's type, or set on_bad_row to skip or quarantine",
            code="bad_row",
        )


def _texts(batch: pa.RecordBatch | None) -> dict[str, list[str]]:
    """The distinct values of each column of a sample that are not empty; bytes that are no text count as text."""
    if batch is None:
        return {}
    distinct = {name: pc.unique(batch.column(name)).to_pylist() for name in batch.schema.names}
    return {
        name: [text for value in values if value and (text := value.decode("utf-8", "replace").strip())]
        for name, values in distinct.items()
    }


def _text_of(batch: pa.RecordBatch, at: int) -> str:
    values = (column[at].as_py() for column in batch.columns)
    return ",".join("" if value is None else value.decode("utf-8", "replace") for value in values)


class CsvDestinationConfig(FileDestinationConfig):
    """Tables of CSV files in UTF-8, each file with a header."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    compression: Literal["none", "gzip"] = "none"


class CsvDestination(FileDestination[CsvDestinationConfig]):
    """Writes CSV: nested values as JSON text, bytes as base64; the manifest beside the files keeps the types."""

    kind = "csv"
    Config = CsvDestinationConfig

    def _open_file(self, stem: Path, schema: pa.Schema) -> RowWriter:
        suffix = ".csv.gz" if self.config.compression == "gzip" else ".csv"
        return CsvWriter(stem.with_name(stem.name + suffix), schema, self.config.delimiter)

    def _source(self) -> CsvSource:
        return CsvSource(CsvConfig(root=self.config.root, delimiter=self.config.delimiter))


SOURCES.register(CsvSource)
DESTINATIONS.register(CsvDestination)
