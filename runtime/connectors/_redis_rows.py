"""Entries of a Redis stream as rows: columns declared or shown by the first entries, and what does not fit them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import pyarrow as pa

from models.errors import Terminal
from runtime.batches.types import arrow_type
from runtime.connectors._contract import Rejections
from runtime.connectors._files import OnBadRow, declared_schema
from runtime.connectors._json_schema import infer_schema
from runtime.connectors._json_values import Misfit, Record, batch_of, record_of
from runtime.connectors._redis_config import RedisConfig
from runtime.connectors._redis_entries import Entry, Position
from runtime.connectors._text_values import typed_text, without

ID: Final = "_id"
AT: Final = "_at"
_ENTRY: Final = pa.schema([(ID, pa.string()), (AT, pa.timestamp("ms", "UTC"))])
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StreamRows:
    """The rows of one stream; `rejections` takes those that do not fit."""

    def __init__(self, name: str, config: RedisConfig, rejections: Rejections) -> None:
        dataset = config.streams[name]
        self.key = dataset.key or name
        self.declared = _declared(name, config)
        self._name = name
        self._config = config
        self._json_field = dataset.json_field
        self._rejections = rejections

    def whole(self, columns: pa.Schema) -> pa.Schema:
        """The columns, behind those of the entry where they are asked for; raises `Terminal` for two of a name."""
        if not self._config.entry_columns:
            return columns
        if clash := [name for name in _ENTRY.names if name in columns.names]:
            hint = "set entry_columns to false: what is new is read by the entry's id all the same"
            raise Terminal(
                f"{self._name} has columns of its own named {', '.join(clash)}", hint=hint, code="two_columns"
            )
        return pa.schema([*_ENTRY, *columns])

    def inferred(self, sample: Sequence[Entry]) -> pa.Schema:
        """The columns that a sample shows; raises `Terminal` where it shows none."""
        if self._json_field is not None:
            schema = infer_schema(self._objects(sample, self._json_field))
        else:
            names = dict.fromkeys(field.decode("utf-8", "replace") for _, fields in sample for field in fields)
            schema = pa.schema([(column, pa.string()) for column in names])
        if not schema.names:
            hint = f"declare them in streams.{self._name}.columns, or wait for an entry"
            raise Terminal(f"{self._name} has no entry that shows its columns", hint=hint, code="no_columns")
        return schema

    def batch(self, page: Sequence[Entry], schema: pa.Schema) -> pa.RecordBatch:
        """Entries in the stream's columns, less those that do not fit."""
        about = len(_ENTRY) if self._config.entry_columns else 0
        columns = pa.schema([schema.field(at) for at in range(about, len(schema))])
        if self._json_field is not None:
            entries, rows = self._parsed(page, columns, self._json_field)
        else:
            entries, rows = self._typed(page, columns)
        first = [_ids(entries), _moments(entries)] if about else []
        return pa.RecordBatch.from_arrays([*first, *rows.columns], schema=schema)

    def _objects(self, sample: Sequence[Entry], field: str) -> Iterator[tuple[str, Record]]:
        """The objects of a sample with their places."""
        for entry in sample:
            try:
                yield self._place(entry), _object(entry[1], field)
            except Misfit as misfit:
                if self._config.on_bad_row is OnBadRow.FAIL:
                    raise self._bad(entry, misfit.reason) from None

    def _typed(self, page: Sequence[Entry], columns: pa.Schema) -> tuple[list[Entry], pa.RecordBatch]:
        """The entries whose fields are of their types, and their columns."""
        values = {column.name: [fields.get(column.name.encode()) for _, fields in page] for column in columns}
        raw = pa.RecordBatch.from_arrays([pa.array(one, pa.binary()) for one in values.values()], names=list(values))
        batch, bad = typed_text(raw, columns)
        for at, reason in bad:
            self._reject(page[at], reason)
        if not bad:
            return list(page), batch
        unfit = {at for at, _ in bad}
        return [entry for at, entry in enumerate(page) if at not in unfit], without(batch, sorted(unfit))

    def _parsed(self, page: Sequence[Entry], columns: pa.Schema, field: str) -> tuple[list[Entry], pa.RecordBatch]:
        """The entries whose JSON fits, and its fields as columns; those that the stream does not have are left out."""
        entries: list[Entry] = []
        records: list[Record] = []
        for entry in page:
            try:
                records.append(_object(entry[1], field))
                entries.append(entry)
            except Misfit as misfit:
                self._reject(entry, misfit.reason)
        batch, unfit = batch_of(records, columns)
        for one in unfit:
            self._reject(entries[one.position], f"{one.field}: {one.reason}")
        bad = {one.position for one in unfit}
        return [entry for at, entry in enumerate(entries) if at not in bad], batch

    def _reject(self, entry: Entry, reason: str) -> None:
        if self._config.on_bad_row is OnBadRow.FAIL:
            raise self._bad(entry, reason)
        keep = self._config.on_bad_row is OnBadRow.QUARANTINE
        text = " ".join(f"{_shown(field)}: {_shown(value)}" for field, value in entry[1].items())
        self._rejections.add(self._place(entry), reason, text, keep=keep)

    def _bad(self, entry: Entry, reason: str) -> Terminal:
        hint = "mend what writes it, declare the column's type, or set on_bad_row to skip or quarantine"
        return Terminal(f"{self._place(entry)}: {reason}", hint=hint, code="bad_row")

    def _place(self, entry: Entry) -> str:
        return f"{self._name}, entry {entry[0].decode()}"


def _declared(name: str, config: RedisConfig) -> pa.Schema | None:
    columns, definition = config.streams[name].columns, config.schema_config.datasets.get(name)
    if columns:
        return pa.schema([(column, arrow_type(kind)) for column, kind in columns.items()])
    return None if definition is None else declared_schema(definition)


def _object(fields: Mapping[bytes, bytes], field: str) -> Record:
    """The object that an entry's field holds; raises `Misfit` where it holds none."""
    text = fields.get(field.encode())
    if text is None:
        raise Misfit(f"it has no field {field}")
    return record_of(text, field)


def _ids(entries: Sequence[Entry]) -> pa.Array:
    return pa.array([identity.decode() for identity, _ in entries], pa.string())


def _moments(entries: Sequence[Entry]) -> pa.Array:
    passed = (timedelta(milliseconds=Position.of_id(identity).milliseconds) for identity, _ in entries)
    return pa.array([_EPOCH + one for one in passed], _ENTRY.field(AT).type)


def _shown(value: bytes) -> str:
    return value.decode("utf-8", "replace")
