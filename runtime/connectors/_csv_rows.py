"""CSV parsing in blocks: raw rows as binary columns, rows of another width set apart, and records found by line."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa
import pyarrow.csv as pcsv
from pydantic import Field

from models.base import StrictModel
from models.errors import Invalid, Terminal
from runtime.connectors._contract import Rejections
from runtime.connectors._datasets import Part
from runtime.connectors._places import Place, reached

END = b"wedsync-end-of-file-9c41e7"
EMPTY = "Empty CSV file"
TOO_LONG = "straddling object"


class CsvReader(Protocol):
    """What `csv.reader` gives: records, and the number of lines read so far."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


class CsvDialect(StrictModel):
    """How a CSV file is written.

    `multiline` lets quoted fields hold line breaks; without it, large files are divided among partitions. A field
    that is one of `null_values` and not quoted is null. Without a header, columns take `column_names` in order.
    """

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quote: str | None = Field(default='"', min_length=1, max_length=1)
    escape: str | None = Field(default=None, min_length=1, max_length=1)
    header: bool = True
    column_names: tuple[str, ...] = ()
    encoding: str = "utf-8"
    null_values: tuple[str, ...] = ("",)
    multiline: bool = True

    @property
    def is_divisible(self) -> bool:
        """Whether a line break always ends a row."""
        return not self.multiline and self.encoding.lower() in ("utf-8", "utf8", "ascii", "latin-1")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be taken: its record number in its part (blank lines not counted), why, and its text."""

    record: int
    reason: str
    text: str


class _MarkedStream(io.RawIOBase):
    """A stream with a record of its own after the end, which an open quote swallows: the parser would not tell."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._last = b"\n"
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        block: bytes = self._stream.read(None if size < 0 else size)
        if block:
            self._last = block[-1:]
        elif not self._ended:
            self._ended = True
            block = (b"" if self._last == b"\n" else b"\n") + END + b"\n"
        return block

    def readable(self) -> bool:
        return True


@dataclass(slots=True)
class CsvRows:
    """The raw rows of one part. `bad` grows with the rows whose width is wrong; the parser runs a block ahead.

    Without a header in the file its columns are called `names`, or `f0`, `f1`, … where there are none.
    """

    place: Place
    dialect: CsvDialect
    part: Part
    names: Sequence[str]
    block_bytes: int
    stops: bool
    bad: list[BadRow] = field(default_factory=list)
    read: int = 0

    def header(self) -> list[str]:
        """The names of the file's columns in order; raises `Terminal` for an empty file and for a name used twice."""
        file = self.part.file.path
        with reached(file), understood(file), closing(self.place.open(file)) as stream:
            first = next((record for _, record in self._records(stream)), None)
        if first is None:
            raise Terminal(f"{file} is empty, without even a header", hint="deliver it again", code="empty_file")
        if not self.dialect.header:
            return list(self.names) or [f"f{at}" for at in range(len(first))]
        twice = sorted({name for name in first if first.count(name) > 1})
        if twice:
            raise Terminal(
                f"{file} has the column {', '.join(twice)} more than once", hint="rename one", code="duplicate_column"
            )
        return first

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Blocks of rows, each column binary; raises `Terminal` where the file is no CSV."""
        file, names = self.part.file.path, self.header()
        with reached(file), understood(file), closing(self._stream()) as stream:
            try:
                reader = pcsv.open_csv(
                    self._marked(stream), self._reading(names), self._parsing(names), _converting(self.dialect)
                )
            except pa.ArrowInvalid as error:
                if EMPTY in str(error):
                    return
                raise
            for batch in reader:
                rows = self._without_end(batch) if batch.num_rows else batch
                yield rows.rename_columns(names)
                self.read += rows.num_rows

    def record(self, position: int) -> int:
        """The record number of a row of the current batch; the header and rows of a wrong width count too."""
        number = self.read + position + 1 + self._begins_with_header
        for row in self.bad:
            if row.record > number:
                break
            number += 1
        return number

    def lines(self, records: Sequence[int]) -> dict[int, int]:
        """The line of the file at which each of these records begins; reads the part again."""
        wanted, found = set(records), dict[int, int]()
        with reached(self.part.file.path), closing(self._stream()) as stream:
            before = self._lines_before()
            for number, (line, _) in enumerate(self._records(stream), 1):
                if number in wanted:
                    found[number] = before + line
                    if len(found) == len(wanted):
                        break
        return found

    def _without_end(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch without the end mark; raises `Terminal` where a field has swallowed it, for its quote is open."""
        last = [column[-1].as_py() for column in batch.columns]
        if last == [END]:
            return batch.slice(0, batch.num_rows - 1)
        if any(value is not None and value.endswith(END + b"\n") for value in last):
            record = self.record(batch.num_rows - 1)
            place = f"{self.part.file.path}, line {self.lines([record])[record]}"
            told = f"{place}: a quote is opened and never closed"
            raise Terminal(told, hint="close it, or set `quote` to null", code="bad_row")
        return batch

    @property
    def _begins_with_header(self) -> bool:
        return self.dialect.header and self.part.end is None

    @property
    def _keeps_blank_lines(self) -> bool:
        """Whether a blank line is a null, as it is in a file of one column; elsewhere it is nothing."""
        return len(self.names) == 1

    def _records(self, stream: pa.NativeFile) -> Iterator[tuple[int, list[str]]]:
        """Each record with the line of the stream at which it begins, counted from 1."""
        records = self._reader(io.TextIOWrapper(stream, self._encoding, errors="replace", newline=""))
        begins = 1
        for record in records:
            if record or self._keeps_blank_lines:
                yield begins, record
            begins = records.line_num + 1

    @property
    def _encoding(self) -> str:
        return "utf-8-sig" if self.dialect.encoding.lower() in ("utf-8", "utf8") else self.dialect.encoding

    def _reader(self, lines: Iterable[str]) -> CsvReader:
        csv.field_size_limit(sys.maxsize)
        return csv.reader(
            lines,
            delimiter=self.dialect.delimiter,
            quotechar=self.dialect.quote,
            quoting=csv.QUOTE_MINIMAL if self.dialect.quote else csv.QUOTE_NONE,
            escapechar=self.dialect.escape,
        )

    def _stream(self) -> pa.NativeFile:
        return self.place.open(self.part.file.path, self.part.start, self.part.end)

    def _lines_before(self) -> int:
        if self.part.start == 0:
            return 0
        with closing(self.place.open(self.part.file.path, 0, self.part.start)) as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(self.block_bytes), b""))

    def _reading(self, names: Sequence[str]) -> pcsv.ReadOptions:
        options = pcsv.ReadOptions(use_threads=False, block_size=self.block_bytes, encoding=self.dialect.encoding)
        if not self._begins_with_header:
            options.column_names = list(names)
        return options

    def _parsing(self, names: Sequence[str]) -> pcsv.ParseOptions:
        return pcsv.ParseOptions(
            delimiter=self.dialect.delimiter,
            quote_char=self.dialect.quote or False,
            double_quote=self.dialect.quote is not None,
            escape_char=self.dialect.escape or False,
            newlines_in_values=self.dialect.multiline,
            ignore_empty_lines=not self._keeps_blank_lines,
            invalid_row_handler=self._set_apart,
        )

    def _marked(self, stream: pa.NativeFile) -> pa.NativeFile | _MarkedStream:
        """The stream with an end mark, where quotes can be left open and a line break is one byte."""
        has_mark = self.dialect.quote is not None and "\n".encode(self.dialect.encoding) == b"\n"
        return _MarkedStream(stream) if has_mark else stream

    def _set_apart(self, row: pcsv.InvalidRow) -> str:
        if row.text == END.decode():
            return "skip"
        reason = f"{row.actual_columns} fields instead of {row.expected_columns}"
        self.bad.append(BadRow(row.number, reason, row.text if len(self.bad) < Rejections.KEPT else ""))
        return "error" if self.stops else "skip"


def _converting(dialect: CsvDialect) -> pcsv.ConvertOptions:
    return pcsv.ConvertOptions(
        default_column_type=pa.binary(),
        null_values=list(dialect.null_values),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        check_utf8=False,
    )


@contextmanager
def understood(file: str) -> Iterator[None]:
    """Turn what the parser says of a file as a whole into typed errors that name it."""
    try:
        yield
    except LookupError as error:
        raise Invalid(str(error), hint="write it as Python does, such as utf-8 or latin-1", path="encoding") from error
    except UnicodeError as error:
        raise Terminal(f"{file}: {error}", hint="set `encoding` to the file's own", code="bad_encoding") from error
    except pa.ArrowInvalid as error:
        hint = "raise block_bytes above the longest row" if TOO_LONG in str(error) else "check delimiter and quote"
        raise Terminal(f"{file}: {error}", hint=f"{hint}, or mend the file", code="bad_file") from error
