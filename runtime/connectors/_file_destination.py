"""What all file destinations share: staging, one atomic commit with its ledger, merges on keys, and backups."""

import shutil
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import pyarrow as pa
from pydantic import Field, field_validator

from models.base import StrictModel
from models.destinations import DestinationType
from models.errors import Invalid, Terminal
from runtime.connectors._contract import (
    CursorMove,
    Destination,
    Health,
    LoadCounts,
    ReadRequest,
    Receipt,
    Restorable,
    RunKey,
    Split,
    TableVersion,
    Target,
    cursor_moved,
)
from runtime.connectors._file_backups import backup_of, restored
from runtime.connectors._files import FileSource
from runtime.connectors._fitting import divided, table_schema
from runtime.connectors._folder_writer import RowWriter, fill_folder
from runtime.connectors._publication import Publication, TableFormat, linked, staged
from runtime.connectors._table_folder import (
    HIDDEN,
    TableFolder,
    Version,
    disk_errors,
    replace_folder,
    write_durably,
)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


class FileDestinationConfig(StrictModel):
    """The folder that tables of files live under; it must be on a disk of this machine or one it mounts.

    Object stores have no atomic switch of several files: load there through a table format instead.
    """

    root: str = Field(min_length=1)

    @field_validator("root")
    @classmethod
    def _is_local(cls, root: str) -> str:
        if not Path(root).is_absolute():
            raise ValueError("must be an absolute path of a folder, such as /data/exports")
        return root


def _divided(target: Target, schema: pa.Schema, current: Version | None) -> Target:
    return divided(target, schema.names, current.manifest if current else None)


D_co = TypeVar("D_co", bound=FileDestinationConfig, covariant=True)


class FileDestination(Destination[D_co], Restorable):
    """Writes tables of files. A subclass knows one format: how a file is written and read, and what it cannot hold."""

    destination_type = DestinationType.FILE
    lost_types: ClassVar[tuple[Callable[[pa.DataType], bool], ...]] = (pa.types.is_interval, pa.types.is_duration)

    def __init__(self, config: D_co, clock: Clock = utc_now) -> None:
        super().__init__(config)
        self.root = Path(config.root)
        self._clock = clock

    @abstractmethod
    def _open_file(self, stem: Path, schema: pa.Schema) -> RowWriter:
        """A new file whose path is `stem` and the format's suffix."""

    @abstractmethod
    def _source(self) -> FileSource[Any]:
        """A source of the same format over the same root."""

    def check(self) -> Health:
        """Write and remove a file below the root."""
        began = monotonic()
        if not self.root.parent.is_dir():
            raise Invalid(f"there is no folder {self.root.parent}", hint="create it, or correct `root`", path="root")
        try:
            self.root.mkdir(exist_ok=True)
            probe = self.root / f".wedsync-probe-{uuid4().hex}"
            write_durably(probe, b"probe")
            probe.unlink()
        except OSError as error:
            hint = "grant the runtime access, or free space"
            raise Invalid(f"{self.root} cannot be written: {error.strerror}", hint=hint, path="root") from error
        return Health(True, f"{self.root} can be written", (monotonic() - began) * 1000)

    def discover(self) -> dict[str, pa.Schema]:
        """The schema of each table that a load has made."""
        return {table.table: version.manifest.schema for table, version in self._tables()}

    def fit(self, target: Target, schema: pa.Schema) -> None:
        """Raise `Terminal` naming each column that the table cannot take."""
        current = self._table(target).current()
        self._fitted(_divided(target, schema, current), schema, current)

    def prepare(self, target: Target, schema: pa.Schema, run: RunKey) -> None:
        """Make the staging folder of this run."""
        self.fit(target, schema)
        table = self._table(target)
        with disk_errors(table.home):
            table.staging(run).mkdir(parents=True, exist_ok=True)

    def write(self, target: Target, run: RunKey, partition: int, rows: pa.RecordBatchReader) -> Receipt:
        """Land one partition as a folder of files, in place of what an earlier attempt landed."""
        table = self._table(target)
        current = table.current()
        target = _divided(target, rows.schema, current)
        schema = self._fitted(target, rows.schema, current)
        folder = table.staging(run) / f"part-{partition:05d}"
        building = folder.with_name(f".{folder.name}-{uuid4().hex}")
        try:
            with disk_errors(self.root / target.table):
                building.mkdir(parents=True)
                stem = f"{table.stem(run)}-{partition:05d}"
                written = fill_folder(building, stem, rows, schema, target.partition_by, self._open_file)
                replace_folder(building, folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return Receipt(partition, written, str(folder.relative_to(table.home)))

    def commit(self, target: Target, run: RunKey, receipts: Sequence[Receipt], cursor: CursorMove | None) -> LoadCounts:
        """Publish all partitions, the ledger and the cursor by one rename."""
        table = self._table(target)
        with disk_errors(self.root / target.table), table.locked():
            current = table.current()
            done = current.manifest.commit_of(run) if current else None
            if done is None:
                if cursor is not None and self.cursor(run.pipeline_id, run.step) != cursor.before:
                    raise cursor_moved(run.step)
                parts = [staged(table, receipt) for receipt in receipts]
                target = replace(target, partition_by=parts[0].manifest.partition_by) if parts else target
                schema = self._schema_of(target, parts, current)
                publication = Publication(table, self._format(), target, run, self._clock())
                done = publication.publish(parts, schema, cursor.after if cursor else None)
            table.discard_staging(run)
        return done.counts

    def abort(self, target: Target, run: RunKey) -> None:
        """Remove the run's staging."""
        self._table(target).discard_staging(run)

    def cursor(self, pipeline_id: UUID, step: str) -> str | None:
        """The cursor that the step's last load left with the table it wrote."""
        kept = [version.manifest.cursor_of(pipeline_id, step) for _, version in self._tables()]
        latest = max((one for one in kept if one), key=lambda one: one.committed_at, default=None)
        return None if latest is None else latest.cursor

    def versions(self, table: str) -> list[TableVersion]:
        """The earlier versions of a table that are kept, newest first."""
        folder = TableFolder(self.root, table)
        current = folder.current()
        kept = [version for version in folder.versions() if current and version.folder != current.folder]
        return [backup for backup in map(backup_of, reversed(kept)) if backup]

    def restore(self, table: str, version: str) -> int:
        """Make a kept version the current one again, with its columns and rows; the ledger goes on."""
        folder = TableFolder(self.root, table)
        with disk_errors(folder.link), folder.locked():
            manifest, source = restored(folder, version)
            folder.publish(manifest.version, lambda building: linked(building, [source], manifest))
        return manifest.rows

    def _format(self) -> TableFormat:
        def rows_of(folder: Path) -> pa.RecordBatchReader:
            return self._source().read(ReadRequest(dataset=str(folder.relative_to(self.root))), Split(0))

        return TableFormat(self._open_file, rows_of)

    def _schema_of(self, target: Target, parts: Sequence[Version], current: Version | None) -> pa.Schema:
        """The schema of the version to come; raises `Terminal` when the table changed under the load."""
        if not parts:
            return current.manifest.schema if current else pa.schema([])
        schema = self._fitted(target, parts[0].manifest.schema, current)
        if any(part.manifest.schema != schema for part in parts):
            raise Terminal(
                f"the columns of {target.table} changed while it was loaded", hint="run again", code="schema_changed"
            )
        return schema

    def _fitted(self, target: Target, schema: pa.Schema, current: Version | None) -> pa.Schema:
        lost = [field.name for field in schema if any(is_lost(field.type) for is_lost in self.lost_types)]
        if lost:
            raise Terminal(
                f"{self.kind} files cannot hold the type of {', '.join(lost)}",
                hint="cast it to VARCHAR or BIGINT before the load",
                code="schema_mismatch",
            )
        return table_schema(target, schema, current.manifest if current else None)

    def _table(self, target: Target) -> TableFolder:
        return TableFolder(self.root, target.table)

    def _tables(self) -> list[tuple[TableFolder, Version]]:
        home = self.root / HIDDEN
        tables = [TableFolder(self.root, path.name) for path in sorted(home.iterdir())] if home.is_dir() else []
        known = ((table, table.current()) for table in tables if table.link.is_symlink())
        return [(table, version) for table, version in known if version]
