"""What all file sources share: datasets below a root, typed columns, splits by file, cursors, and bad rows."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from time import monotonic
from typing import Annotated, ClassVar, Final, TypeAlias, TypeVar

import pyarrow as pa
import structlog
from pydantic import AfterValidator, Field, field_validator

from models.base import StrictModel
from models.errors import Invalid, RunError, Terminal
from models.schemas import SchemaConfig, SchemaDefinition
from models.sources import SourceType
from runtime.batches.types import arrow_type
from runtime.connectors._contract import Health, ReadRequest, Source, Split, Watchable, with_primary_key
from runtime.connectors._datasets import (
    FILE_FIELDS,
    MODIFIED_COLUMN,
    Layout,
    Part,
    from_token,
    layout_of,
    path_columns,
    prune,
    share_out,
    token_of,
)
from runtime.connectors._manifest import MANIFEST, Manifest, read_manifest
from runtime.connectors._places import FileEntry, Place, Storage
from runtime.connectors._selection import after, before_all, greatest, select

logger = structlog.get_logger(__name__)

SETTLING: Final = timedelta(seconds=2)
"""A file that changed so lately may still be written."""


class OnBadRow(StrEnum):
    """What a broken row does: end the step, go unread but counted, or be counted and kept for review."""

    FAIL = "fail"
    SKIP = "skip"
    QUARANTINE = "quarantine"


class MissingColumns(StrEnum):
    """What a file without one of the dataset's columns does: end the step, or give nulls."""

    FAIL = "fail"
    NULL = "null"


class ExtraColumns(StrEnum):
    """What a file with a column that the dataset does not have does: end the step, or lose the column."""

    FAIL = "fail"
    IGNORE = "ignore"


class FileConfig(StrictModel):
    """Where the files are and what they hold.

    `datasets` gives names to paths, folders or globs below `root`; without it, any of those is a dataset's name.
    `types` sets the DuckDB types of single columns by dataset; `schema_config` sets a dataset's columns as a whole,
    and nothing is inferred. `file_columns` adds `_file` and `_modified` to each row; as a cursor column both work
    anyway. Files of `divide_bytes` and more are divided among partitions where their format allows. All files of a
    dataset have the same columns, unless `missing_columns` reads absent ones as null or `extra_columns` leaves out
    those that were not expected.
    """

    root: str = Field(min_length=1)
    storage: Storage | None = None
    datasets: dict[str, str] = Field(default_factory=dict)
    types: dict[str, dict[str, str]] = Field(default_factory=dict)
    schema_config: SchemaConfig = Field(default_factory=SchemaConfig)
    file_columns: bool = False
    divide_bytes: int = Field(default=32 * 1024 * 1024, ge=1)
    missing_columns: MissingColumns = MissingColumns.FAIL
    extra_columns: ExtraColumns = ExtraColumns.FAIL

    @field_validator("types")
    @classmethod
    def _types_are_known(cls, types: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for dataset, columns in types.items():
            for column, name in columns.items():
                declared_type(name, f"{dataset}.{column}")
        return types

    @field_validator("schema_config")
    @classmethod
    def _schemas_are_known(cls, schema_config: SchemaConfig) -> SchemaConfig:
        for dataset, definition in schema_config.datasets.items():
            for column in definition.columns:
                declared_type(column.type, f"{dataset}.{column.name}")
        return schema_config


class RowFileConfig(FileConfig):
    """Files of text rows: `sample_bytes` of up to `sample_files` files tell the types that are not declared."""

    on_bad_row: OnBadRow = OnBadRow.FAIL
    sample_bytes: int = Field(default=1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    sample_files: int = Field(default=16, ge=1, le=1000)
    block_bytes: int = Field(default=1024 * 1024, ge=1024, le=256 * 1024 * 1024)


F_co = TypeVar("F_co", bound=FileConfig, covariant=True)


class FileSource(Source[F_co], Watchable):
    """Reads files below a root. A subclass knows one format: its schema, its rows, and how a large file divides."""

    source_type = SourceType.FILE
    incremental = True
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, config: F_co) -> None:
        super().__init__(config)
        self.place = Place(config.root, config.storage)
        self._layouts: dict[str, Layout] = {}

    @abstractmethod
    def _infer(self, files: Sequence[FileEntry], types: Mapping[str, pa.DataType]) -> pa.Schema:
        """The columns that the files hold; those in `types` have that type."""

    @abstractmethod
    def _rows(self, part: Part, stored: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of one part in bounded memory, in exactly the stored schema."""

    def _divide(self, file: FileEntry, count: int) -> list[Part]:
        """A large file in at most `count` parts; one where it cannot be divided."""
        return [Part(file)]

    def check(self) -> Health:
        """Reach the root and say what is there."""
        began = monotonic()
        self.place.reach()
        datasets = self._names()
        for name in self.config.datasets:
            self._files(name)
        message = f"{self.config.root}: {len(datasets)} datasets"
        return Health(True, message, (monotonic() - began) * 1000)

    def discover(self) -> dict[str, pa.Schema]:
        """The schema of each named dataset; without names, of each file and folder at the root that can be read."""
        self.place.reach()
        found: dict[str, pa.Schema] = {}
        for name in self._names():
            try:
                definition = self.config.schema_config.datasets.get(name)
                keys = definition.primary_key if definition else ()
                found[name] = with_primary_key(self._layout(name).schema, keys)
            except RunError as error:
                if name in self.config.datasets:
                    raise
                logger.warning("file_not_understood", dataset=name, reason=str(error))
        return found

    def schema(self, request: ReadRequest) -> pa.Schema:
        """The dataset's columns: declared, recorded by whoever wrote the table, or told by a sample."""
        return self._layout(self._name(request)).schema

    def watermark(self, request: ReadRequest, cursor_column: str | None) -> str:
        """Just past the greatest value of the column, so that the range up to it has every row that is there now.

        `_file` and `_modified` (taken without a column) look at the files' names and dates alone; another column is
        read.
        """
        column = cursor_column or MODIFIED_COLUMN
        layout = self._layout(self._name(request))
        if column in FILE_FIELDS.names:
            files = self._files(self._name(request))
            most = greatest([layout.constants(file) for file in files], column)
            return before_all(FILE_FIELDS.field(column).type) if most is None else after(most)
        if column not in layout.schema.names:
            raise Invalid(
                f"there is no column {column!r}", hint=f"columns: {', '.join(layout.schema.names)}", path="cursor"
            )
        with closing(type(self)(self.config)) as scout:
            most = greatest(scout.read(ReadRequest(dataset=request.dataset), Split(0)), column)
        return before_all(layout.schema.field(column).type) if most is None else after(most)

    def marks(self, subject: str, most: int) -> Mapping[str, str]:
        """The size and date of each file that a glob, a folder or a dataset's name means, once it rests."""
        self.place.reach()
        rests = datetime.now(UTC) - SETTLING
        try:
            found = self._files(subject)
        except Terminal:
            return {}
        if len(found) > most:
            hint = "name fewer, by a narrower glob"
            raise Invalid(f"{subject!r} means {len(found):,} files, more than {most:,}", hint=hint, path="expression")
        return {file.listed: f"{file.size} {file.modified.isoformat()}" for file in found if file.modified <= rests}

    def split(self, request: ReadRequest, count: int) -> list[Split]:
        """Whole files by size; fewer files than `count` are divided where their format allows. One when limited."""
        layout, parts = self._parts(request, 1 if request.limit is not None else count)
        runs = share_out(parts, 1 if request.limit is not None else count)
        return [Split(index, token_of(layout, run)) for index, run in enumerate(runs)]

    def read(self, request: ReadRequest, split: Split) -> pa.RecordBatchReader:
        """Stream the rows of the split's files that meet the request."""
        layout, parts = from_token(split.token) if split.token is not None else self._parts(request, 1)
        if request.cursor and request.cursor.column in FILE_FIELDS.names:
            request = replace(request, cursor=None)

        def batches() -> Iterator[pa.RecordBatch]:
            for part in parts:
                constants = layout.constants(part.file)
                for rows in self._rows(part, layout.stored):
                    yield layout.complete(rows, constants)

        return select(batches(), layout.schema, request)

    def _parts(self, request: ReadRequest, count: int) -> tuple[Layout, list[Part]]:
        name = self._name(request)
        layout = self._layout(name)
        whole = prune([Part(file) for file in self._files(name)], layout, request)
        if len(whole) >= count:
            return layout, whole
        total = sum(part.size for part in whole) or 1
        parts: list[Part] = []
        for part in whole:
            share = -(-count * part.size // total)
            parts += self._divide(part.file, share) if share > 1 and part.size >= self.config.divide_bytes else [part]
        return layout, parts

    def _name(self, request: ReadRequest) -> str:
        if request.query is not None:
            raise Invalid(
                "files have no query language", hint="name a dataset, and add a `sql` step after it", path="query"
            )
        if request.dataset is not None:
            return request.dataset
        if len(self.config.datasets) == 1:
            return next(iter(self.config.datasets))
        raise Invalid("is required", hint="name a file, a folder or a glob below the root", path="dataset")

    def _names(self) -> list[str]:
        if self.config.datasets:
            return list(self.config.datasets)
        tops = {entry.listed.split("/")[0] for entry in self.place.files("", self.suffixes)}
        return sorted(tops)

    def _files(self, name: str) -> list[FileEntry]:
        return self.place.files(self.config.datasets.get(name, name), self.suffixes)

    def _layout(self, name: str) -> Layout:
        if name not in self._layouts:
            self._layouts[name] = self._new_layout(name)
        return self._layouts[name]

    def _new_layout(self, name: str) -> Layout:
        files = self._files(name)
        overrides = {column: arrow_type(kind) for column, kind in self.config.types.get(name, {}).items()}
        declared = self._declared(name)
        if declared is not None:
            declared = pa.schema([f.with_type(overrides.get(f.name, f.type)) for f in declared])
            overrides = {**{field.name: field.type for field in declared}, **overrides}
        elif not files:
            raise Terminal(
                f"no file belongs to the dataset {name!r} in {self.config.root}",
                hint="wait for a file, correct the name, or declare its columns in schema_config",
                code="no_such_dataset",
            )
        of_paths = path_columns(files, overrides)
        stored = declared if declared is not None else self._infer(files, overrides)
        return layout_of(stored, of_paths, stored.names, with_files=self.config.file_columns)

    def _declared(self, name: str) -> pa.Schema | None:
        definition = self.config.schema_config.datasets.get(name)
        if definition is not None:
            return declared_schema(definition)
        manifest = self.manifest(name)
        return None if manifest is None else manifest.schema

    def manifest(self, name: str) -> Manifest | None:
        """What a destination of ours recorded about the folder that this dataset is."""
        folder = self.config.datasets.get(name, name)
        if any(mark in folder for mark in "*?["):
            return None
        content = self.place.folder_file(folder, MANIFEST)
        return None if content is None else read_manifest(content)


def declared_schema(definition: SchemaDefinition) -> pa.Schema:
    """The columns that a configuration declares of a dataset."""
    return pa.schema([(column.name, arrow_type(column.type), column.nullable) for column in definition.columns])


def declared_type(name: str, path: str) -> pa.DataType:
    """The Arrow type that a configuration names; raises ValueError, which pydantic reports, for what is no type."""
    try:
        return arrow_type(name)
    except Invalid as error:
        raise ValueError(f"{path}: {error.message} ({error.hint})") from None


def _declared(columns: dict[str, str]) -> dict[str, str]:
    for name, kind in columns.items():
        declared_type(kind, name)
    return columns


DeclaredColumns: TypeAlias = Annotated[dict[str, str], AfterValidator(_declared)]
"""DuckDB types by the names of columns."""


def sample_of(files: Sequence[FileEntry], count: int) -> list[FileEntry]:
    """Up to `count` files, evenly spaced, the first and the last among them: the same ones for the same files."""
    if len(files) <= count:
        return list(files)
    step = (len(files) - 1) / max(count - 1, 1)
    return [files[round(index * step)] for index in range(count)]


def divided(place: Place, file: FileEntry, count: int, *, has_header: bool) -> list[Part]:
    """A file of lines in at most `count` byte ranges that begin and end with lines; a header belongs to none."""
    with place.random(file.path) as stream:
        begins = _line_end(stream, 0) if has_header else 0
        ends = [file.size]
        for index in range(count - 1, 0, -1):
            end = _line_end(stream, begins + (file.size - begins) * index // count)
            if begins < end < ends[-1]:
                ends.append(end)
    ends.reverse()
    return [Part(file, start, end) for start, end in zip([begins, *ends], ends, strict=False)]


def _line_end(stream: pa.NativeFile, position: int) -> int:
    """The position after the first line break at or after `position`."""
    stream.seek(position)
    while True:
        block: bytes = stream.read(64 * 1024)
        if not block:
            return position
        at = block.find(b"\n")
        if at >= 0:
            return position + at + 1
        position += len(block)


def match_columns(config: FileConfig, file: str, names: Sequence[str], stored: pa.Schema) -> None:
    """Refuse a file whose columns are not the dataset's, unless the configuration lets them differ."""
    missing = [name for name in stored.names if name not in names]
    extra = [name for name in names if name not in stored.names]
    if missing and config.missing_columns is MissingColumns.FAIL:
        raise Terminal(
            f"{file} has no column {', '.join(missing)}; it has {', '.join(names)}",
            hint="mend the file, or set missing_columns to null",
            code="missing_column",
        )
    if extra and config.extra_columns is ExtraColumns.FAIL:
        raise Terminal(
            f"{file} has the column {', '.join(extra)}, which the dataset does not have",
            hint="declare it in schema_config, or set extra_columns to ignore",
            code="extra_column",
        )
