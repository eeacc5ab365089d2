"""JSON lines as a source and as a destination: one object a line, nested objects as structs, broken lines named."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.json as pjson
import structlog

from models.errors import Terminal
from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.connectors._datasets import Part
from runtime.connectors._file_destination import FileDestination, FileDestinationConfig
from runtime.connectors._files import ExtraColumns, FileSource, OnBadRow, RowFileConfig, divided, sample_of
from runtime.connectors._folder_writer import RowWriter
from runtime.connectors._json_schema import infer_schema
from runtime.connectors._json_values import Misfit, Record, batch_of, record_of
from runtime.connectors._places import FileEntry, is_compressed, reached
from runtime.connectors._row_writers import JsonLinesWriter
from runtime.connectors._text_values import cast_text

logger = structlog.get_logger(__name__)

UNEXPECTED = "unexpected field"
LONGEST_LINE = 64 * 1024 * 1024


class JsonLinesConfig(RowFileConfig):
    """JSON lines below a root. Fields that the dataset does not have are left out unless `extra_columns` is `fail`."""

    extra_columns: ExtraColumns = ExtraColumns.IGNORE


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file; `line` is the number of the first, counted from 1."""

    text: bytes
    line: int

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, with its number."""
        for offset, text in enumerate(self.text.split(b"\n")):
            if text.strip():
                yield self.line + offset, text


class JsonLinesSource(FileSource[JsonLinesConfig]):
    """Reads JSON lines.

    Undeclared types come from the first lines of several files (`infer_schema`); a later value of another type makes
    its line a bad row. Declared DECIMAL columns keep the digits as they are written.
    """

    kind = "jsonl"
    Config = JsonLinesConfig
    suffixes = (".jsonl", ".ndjson", ".json")

    def __init__(self, config: JsonLinesConfig) -> None:
        super().__init__(config)
        self._told_extra = False

    def _infer(self, files: Sequence[FileEntry], types: Mapping[str, pa.DataType]) -> pa.Schema:
        sample = (one for file in sample_of(files, self.config.sample_files) for one in self._sample(Part(file), types))
        inferred = infer_schema(sample)
        known = {**{field.name: field.type for field in inferred}, **types}
        return pa.schema(list(known.items()))

    def _sample(self, part: Part, types: Mapping[str, pa.DataType]) -> Iterator[tuple[str, Record]]:
        """The records of a part's first block; fields whose types are declared show no value."""
        block = next(self._blocks(part, self.config.sample_bytes), None)
        for line, text in block.records() if block else ():
            place = f"{part.file.path}, line {line}"
            try:
                record = record_of(text)
            except Misfit as misfit:
                if self.config.on_bad_row is OnBadRow.FAIL:
                    raise _broken(place, misfit.reason) from None
                continue
            yield place, {name: None if name in types else value for name, value in record.items()}

    def _rows(self, part: Part, stored: pa.Schema) -> Iterator[pa.RecordBatch]:
        for block in self._blocks(part, self.config.block_bytes):
            quick = self._quick(block, stored)
            yield quick if quick is not None else self._careful(block, part, stored)

    def _divide(self, file: FileEntry, count: int) -> list[Part]:
        return [Part(file)] if is_compressed(file.path) else divided(self.place, file, count, has_header=False)

    def _blocks(self, part: Part, size: int) -> Iterator[Block]:
        """The part's lines in blocks of about `size` bytes; raises `Terminal` for an endless line."""
        line, rest = 1, b""
        with reached(part.file.path), closing(self.place.open(part.file.path, part.start, part.end)) as stream:
            if part.start:
                line += self._lines_before(part)
            while read := stream.read(size):
                head, newline, rest_of_read = read.rpartition(b"\n")
                if not newline:
                    rest += read
                    if len(rest) > LONGEST_LINE:
                        raise _broken(f"{part.file.path}, line {line}", f"longer than {LONGEST_LINE} bytes")
                    continue
                block = Block(rest + head + newline, line)
                yield block
                line += block.text.count(b"\n")
                rest = rest_of_read
            if rest:
                yield Block(rest, line)

    def _lines_before(self, part: Part) -> int:
        with closing(self.place.open(part.file.path, 0, part.start)) as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(self.config.block_bytes), b""))

    def _quick(self, block: Block, stored: pa.Schema) -> pa.RecordBatch | None:
        """The block by Arrow's own parser; None where anything in it needs a closer look."""
        try:
            table = self._parsed(block, pa.schema([field.with_type(_parsed_as(field.type)) for field in stored]))
            if table.num_rows != sum(1 for _ in block.records()):
                return None
            columns = []
            for field in stored:
                values, bad = _retyped(table.column(field.name).combine_chunks(), field.type)
                if bad or (values.null_count and not field.nullable):
                    return None
                columns.append(values)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError):
            return None
        return pa.RecordBatch.from_arrays(columns, schema=stored)

    def _parsed(self, block: Block, parsed: pa.Schema) -> pa.Table:
        options = pjson.ReadOptions(use_threads=False, block_size=len(block.text) + 1)
        if not self._told_extra:
            strict = pjson.ParseOptions(explicit_schema=parsed, unexpected_field_behavior="error")
            try:
                return pjson.read_json(pa.BufferReader(block.text), options, strict)
            except pa.ArrowInvalid as error:
                if UNEXPECTED not in str(error) or self.config.extra_columns is ExtraColumns.FAIL:
                    raise
                self._told_extra = True
                logger.warning("fields_left_out", line=block.line, reason=str(error))
        lenient = pjson.ParseOptions(explicit_schema=parsed, unexpected_field_behavior="ignore")
        return pjson.read_json(pa.BufferReader(block.text), options, lenient)

    def _careful(self, block: Block, part: Part, stored: pa.Schema) -> pa.RecordBatch:
        """The block line by line: which lines do not fit, and why."""
        records: list[Record] = []
        lines: list[tuple[int, bytes]] = []
        for line, text in block.records():
            try:
                record = record_of(text)
            except Misfit as misfit:
                self._reject(part, line, misfit.reason, text)
                continue
            self._check_fields(part, line, record, stored)
            records.append(record)
            lines.append((line, text))
        batch, unfit = batch_of(records, stored)
        for one in unfit:
            self._reject(part, lines[one.position][0], f"{one.field}: {one.reason}", lines[one.position][1])
        return batch

    def _check_fields(self, part: Part, line: int, record: Record, stored: pa.Schema) -> None:
        if self.config.extra_columns is ExtraColumns.IGNORE:
            return
        extra = [name for name in record if name not in stored.names]
        if extra:
            raise Terminal(
                f"{part.file.path}, line {line} has the field {', '.join(extra)}, which the dataset does not have",
                hint="declare it in schema_config, or set extra_columns to ignore",
                code="extra_column",
            )

    def _reject(self, part: Part, line: int, reason: str, text: bytes) -> None:
        place = f"{part.file.path}, line {line}"
        if self.config.on_bad_row is OnBadRow.FAIL:
            raise _broken(place, reason)
        keep = self.config.on_bad_row is OnBadRow.QUARANTINE
        self.rejections.add(place, reason, text.decode("utf-8", "replace"), keep=keep)


def _broken(place: str, reason: str) -> Terminal:
    return Terminal(
        f"{place}: {reason}",
        hint="mend the line, declare the column's type, or set on_bad_row to skip or quarantine",
        code="bad_row",
    )


def _parsed_as(kind: pa.DataType) -> pa.DataType:
    """The type that Arrow's parser is to give: text for what it would take in other forms than we do."""
    is_plain = (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_list(kind)
        or pa.types.is_struct(kind)
    )
    return kind if is_plain else pa.string()


def _retyped(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    return (values, []) if values.type == kind else cast_text(values, kind)


class JsonLinesDestinationConfig(FileDestinationConfig):
    """Tables of JSON lines."""

    compression: Literal["none", "gzip"] = "none"


class JsonLinesDestination(FileDestination[JsonLinesDestinationConfig]):
    """Writes JSON lines; the manifest beside the files keeps the types."""

    kind = "jsonl"
    Config = JsonLinesDestinationConfig

    def _open_file(self, stem: Path, schema: pa.Schema) -> RowWriter:
        suffix = ".jsonl.gz" if self.config.compression == "gzip" else ".jsonl"
        return JsonLinesWriter(stem.with_name(stem.name + suffix), schema)

    def _source(self) -> JsonLinesSource:
        return JsonLinesSource(JsonLinesConfig(root=self.config.root))


SOURCES.register(JsonLinesSource)
DESTINATIONS.register(JsonLinesDestination)
