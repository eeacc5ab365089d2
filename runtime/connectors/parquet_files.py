"""Parquet files as a source, by row groups, and as a destination."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import Terminal
from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.connectors._datasets import Part
from runtime.connectors._file_destination import FileDestination, FileDestinationConfig
from runtime.connectors._files import FileConfig, FileSource, match_columns
from runtime.connectors._folder_writer import RowWriter
from runtime.connectors._places import FileEntry, reached
from runtime.connectors._row_writers import ParquetFileWriter

BATCH_ROWS = 65_536


class ParquetConfig(FileConfig):
    """Parquet files below a root."""


class ParquetSource(FileSource[ParquetConfig]):
    """Reads Parquet; the first file of a dataset tells its columns, the others are cast to them without loss."""

    kind = "parquet"
    Config = ParquetConfig
    suffixes = (".parquet", ".pq")

    def _infer(self, files: Sequence[FileEntry], types: Mapping[str, pa.DataType]) -> pa.Schema:
        with self._opened(files[0].path) as file:
            stored = file.schema_arrow.remove_metadata()
        return pa.schema([field.with_type(types.get(field.name, field.type)) for field in stored])

    def _rows(self, part: Part, stored: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._opened(part.file.path) as file:
            names = file.schema_arrow.names
            match_columns(self.config, part.file.path, names, stored)
            held = [name for name in stored.names if name in names]
            groups = list(range(file.num_row_groups)) if part.groups is None else list(part.groups)
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=held, use_threads=False):
                yield _as_stored(batch, stored, part.file.path)

    def _divide(self, file: FileEntry, count: int) -> list[Part]:
        with self._opened(file.path) as opened:
            groups = opened.num_row_groups
        count = min(count, groups) or 1
        ends = [groups * index // count for index in range(count + 1)]
        size = file.size // count
        return [Part(file, 0, size, tuple(range(start, end))) for start, end in pairwise(ends)]

    @contextmanager
    def _opened(self, path: str) -> Iterator[pq.ParquetFile]:
        with reached(path):
            try:
                with self.place.random(path) as stream, pq.ParquetFile(stream) as file:
                    yield file
            except pa.ArrowInvalid as error:
                raise Terminal(
                    f"{path}: {error}", hint="the file is damaged; deliver it again", code="bad_file"
                ) from error


def _as_stored(batch: pa.RecordBatch, stored: pa.Schema, file: str) -> pa.RecordBatch:
    columns = []
    for field in stored:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        values = batch.column(field.name)
        try:
            columns.append(values if values.type == field.type else values.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Terminal(
                f"{file}, column {field.name}: {values.type} does not fit {field.type}: {error}",
                hint="declare a wider type in `types`, or mend the file",
                code="type_conflict",
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=stored)


class ParquetDestinationConfig(FileDestinationConfig):
    """Tables of Parquet files."""

    compression: Literal["none", "snappy", "gzip", "zstd", "lz4"] = "zstd"


class ParquetDestination(FileDestination[ParquetDestinationConfig]):
    """Writes Parquet."""

    kind = "parquet"
    Config = ParquetDestinationConfig

    def _open_file(self, stem: Path, schema: pa.Schema) -> RowWriter:
        return ParquetFileWriter(stem.with_name(stem.name + ".parquet"), schema, self.config.compression)

    def _source(self) -> ParquetSource:
        return ParquetSource(ParquetConfig(root=self.config.root))


SOURCES.register(ParquetSource)
DESTINATIONS.register(ParquetDestination)
