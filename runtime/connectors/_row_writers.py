"""Writes Arrow batches as CSV, JSON lines or Parquet files that are on the disk when they are closed."""

import base64
import os
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from runtime.connectors._text_values import text_of

ROW_GROUP_ROWS = 131_072


class CsvWriter:
    """A CSV file in UTF-8 with a header: text in quotes, null as nothing, empty text as `""`."""

    def __init__(self, path: Path, schema: pa.Schema, delimiter: str) -> None:
        self._path = path
        self._stream = _output(path)
        self._schema = pa.schema([(field.name, text_of(pa.nulls(0, field.type)).type) for field in schema])
        self._writer = pcsv.CSVWriter(
            self._stream, self._schema, write_options=pcsv.WriteOptions(delimiter=delimiter, include_header=True)
        )

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        columns = [text_of(column) for column in rows.columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """Finish the file and have it on the disk."""
        self._writer.close()
        _finish(self._stream, self._path)

    def abandon(self) -> None:
        """Let go of the file."""
        _let_go(self._writer, self._stream)


class JsonLinesWriter:
    """A file of JSON objects, one a line.

    Decimals and integers keep all their digits; moments are ISO 8601, bytes base64; NaN and infinity, which JSON
    does not have, are text.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._stream = _output(path)
        self._names = schema.names

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        columns = [_json_values(column) for column in rows.columns]
        lines = [_line(dict(zip(self._names, values, strict=True))) for values in zip(*columns, strict=True)]
        self._stream.write(b"".join(lines))

    def close(self) -> None:
        """Finish the file and have it on the disk."""
        _finish(self._stream, self._path)

    def abandon(self) -> None:
        """Let go of the file."""
        _let_go(self._stream)


class ParquetFileWriter:
    """A Parquet file in row groups of at most 131,072 rows."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str) -> None:
        self._path = path
        self._stream = _output(path)
        self._schema = schema
        self._writer = pq.ParquetWriter(self._stream, schema, compression=compression, store_decimal_as_integer=False)
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        self._waiting.append(rows)
        self._rows += rows.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Finish the file and have it on the disk."""
        self._flush()
        self._writer.close()
        _finish(self._stream, self._path)

    def abandon(self) -> None:
        """Let go of the file."""
        self._waiting = []
        _let_go(self._writer, self._stream)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema), ROW_GROUP_ROWS)
        self._waiting, self._rows = [], 0


def _output(path: Path) -> pa.NativeFile:
    return pa.CompressedOutputStream(str(path), "gzip") if path.suffix == ".gz" else pa.OSFile(str(path), "wb")


def _let_go(*opened: pcsv.CSVWriter | pq.ParquetWriter | pa.NativeFile) -> None:
    for one in opened:
        with suppress(OSError, pa.ArrowException):
            one.close()


def _finish(stream: pa.NativeFile, path: Path) -> None:
    stream.close()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(record: dict[str, object]) -> bytes:
    return orjson.dumps(record, default=_json_default, option=orjson.OPT_APPEND_NEWLINE)


def _json_values(column: pa.Array) -> list[object]:
    kind = column.type
    if isinstance(kind, pa.JsonType):
        return [None if text is None else orjson.Fragment(text) for text in column.storage.to_pylist()]
    if pa.types.is_floating(kind) and not pc.all(pc.is_finite(column)).as_py():
        return [_finite(value) for value in column.to_pylist()]
    if pa.types.is_map(kind):
        return [None if pairs is None else [list(pair) for pair in pairs] for pairs in column.to_pylist()]
    values: list[object] = column.to_pylist()
    return values


def _finite(value: float | None) -> float | str | None:
    if value is None or value - value == 0:
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _json_default(value: object) -> object:
    match value:
        case Decimal() if value.is_finite():
            return orjson.Fragment(f"{value:f}")
        case int():
            return orjson.Fragment(str(value))
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            raise TypeError(f"{type(value).__name__} has no place in JSON")
