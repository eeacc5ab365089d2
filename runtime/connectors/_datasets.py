"""What a dataset of files is made of: its files, the columns they hold, and the columns their paths give."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import pyarrow as pa

from models.errors import Invalid, Terminal
from models.fields import Json
from runtime.connectors._contract import ReadRequest
from runtime.connectors._places import FileEntry, hive_values
from runtime.connectors._selection import Condition, conditions, conjunction
from runtime.connectors._text_values import cast_text, infer_type

FILE_COLUMN = "_file"
MODIFIED_COLUMN = "_modified"
FILE_FIELDS = pa.schema([(FILE_COLUMN, pa.string()), (MODIFIED_COLUMN, pa.timestamp("us", "UTC"))])


@dataclass(frozen=True, slots=True)
class Part:
    """A file, or of a large one the bytes `[start, end)` or some row groups."""

    file: FileEntry
    start: int = 0
    end: int | None = None
    groups: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Bytes, for sharing parts out evenly."""
        return self.file.size if self.end is None else self.end - self.start


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that a dataset delivers, in order, and those of them that its files hold."""

    schema: pa.Schema
    stored: pa.Schema

    def complete(self, rows: pa.RecordBatch, constants: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of one file with the columns that its path gives."""
        columns = [
            rows.column(field.name)
            if field.name in self.stored.names
            else pa.repeat(constants.column(field.name)[0], rows.num_rows)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def constants(self, file: FileEntry) -> pa.RecordBatch:
        """One row of what the file's path and date give, and its name and date in any case."""
        given = hive_values(file.listed)
        fields, columns = [], []
        for field in self.schema:
            if field.name in given and field.name not in self.stored.names:
                value, bad = cast_text(pa.array([given[field.name]], pa.string()), field.type)
                if bad:
                    raise Terminal(
                        f"the folder {field.name}={given[field.name]} of {file.listed} is not a {field.type}",
                        hint="rename the folder, or declare the column VARCHAR",
                        code="bad_value",
                    )
                fields.append(field)
                columns.append(value)
        about = [pa.array([file.listed]), pa.array([file.modified], FILE_FIELDS.field(MODIFIED_COLUMN).type)]
        return pa.RecordBatch.from_arrays(columns + about, schema=pa.schema([*fields, *FILE_FIELDS]))


def path_columns(files: Sequence[FileEntry], known: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns that folders named `column=value` give, typed as known or as all their values are written."""
    values: dict[str, list[str]] = {}
    for file in files:
        for name, value in hive_values(file.listed).items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return pa.schema([(name, known.get(name) or infer_type(texts)) for name, texts in values.items()])


def layout_of(stored: pa.Schema, of_paths: pa.Schema, order: Sequence[str], *, with_files: bool) -> Layout:
    """Put the files' columns, the paths' and, where asked, the files' names and dates in order."""
    held = pa.schema(
        [field for field in stored if field.name not in of_paths.names and field.name not in FILE_FIELDS.names]
    )
    fields = {field.name: field for field in (*held, *of_paths, *(FILE_FIELDS if with_files else ()))}
    first = [name for name in order if name in fields]
    return Layout(pa.schema([fields[name] for name in (*first, *(name for name in fields if name not in first))]), held)


def prune(parts: Sequence[Part], layout: Layout, request: ReadRequest) -> list[Part]:
    """The parts that may have rows which meet the request, told by the files' paths, names and dates."""
    cursor = request.cursor
    kept: list[Part] = []
    for part in parts:
        constants = layout.constants(part.file)
        known = [name for name in request.filters if name in constants.schema.names and name in layout.schema.names]
        tests: list[Condition] = conditions(
            constants.schema,
            ReadRequest(
                filters={name: request.filters[name] for name in known},
                cursor=cursor if cursor and cursor.column in constants.schema.names else None,
            ),
        )
        met = conjunction(tests)
        if met is None or constants.filter(met).num_rows:
            kept.append(part)
    return kept


def share_out(parts: Sequence[Part], count: int) -> list[list[Part]]:
    """The parts in at most `count` runs of similar size, in order; at least one run, which may be empty."""
    total = sum(part.size for part in parts)
    runs: list[list[Part]] = [[]]
    taken = 0
    for part in parts:
        due = total * len(runs) / count
        if runs[-1] and len(runs) < count and taken + part.size / 2 > due:
            runs.append([])
        runs[-1].append(part)
        taken += part.size
    return runs


def token_of(layout: Layout, parts: Sequence[Part]) -> Json:
    """A split's token: the layout, so that all partitions agree on it, and the parts."""
    return {
        "schema": base64.b64encode(layout.schema.serialize().to_pybytes()).decode(),
        "stored": list(layout.stored.names),
        "parts": [
            {
                "path": part.file.path,
                "listed": part.file.listed,
                "size": part.file.size,
                "modified": part.file.modified.isoformat(),
                "range": None if part.end is None else [part.start, part.end],
                "groups": None if part.groups is None else list(part.groups),
            }
            for part in parts
        ],
    }


def from_token(token: Json) -> tuple[Layout, list[Part]]:
    """What `token_of` made."""
    try:
        return _from_token(token)
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid("this split was not made by a file source", hint="split the read again", path="split") from error


def _from_token(token: Json) -> tuple[Layout, list[Part]]:
    known = cast(dict[str, Json], token)
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(cast(str, known["schema"]))))
    stored = pa.schema([schema.field(name) for name in cast(list[str], known["stored"])])
    return Layout(schema, stored), [_part(cast(dict[str, Json], one)) for one in cast(list[Json], known["parts"])]


def _part(token: dict[str, Json]) -> Part:
    file = FileEntry(
        cast(str, token["path"]),
        cast(str, token["listed"]),
        cast(int, token["size"]),
        datetime.fromisoformat(cast(str, token["modified"])),
    )
    start, end = cast(list[int], token["range"]) if token["range"] else (0, None)
    groups = token["groups"]
    return Part(file, start, end, None if groups is None else tuple(cast(list[int], groups)))
