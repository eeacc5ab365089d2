"""What all file destinations share: staging, one atomic commit with its ledger, merges on keys, and backups."""

import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, TypeVar
from uuid import UUID, uuid4

import pyarrow as pa
from pydantic import Field, field_validator

from models.base import StrictModel
from models.destinations import DestinationType, WriteMode
from models.errors import Invalid, Terminal
from runtime.batches.engine import Engine, EngineLimits
from runtime.connectors._contract import (
    Destination,
    Health,
    LoadCounts,
    ReadRequest,
    Receipt,
    RunKey,
    Split,
    Target,
)
from runtime.connectors._file_backups import Backup, keep_backup, prune, restored
from runtime.connectors._files import FileSource
from runtime.connectors._fitting import table_schema
from runtime.connectors._folder_writer import FolderWriter, RowWriter, aligned
from runtime.connectors._manifest import MANIFEST, Commit, Manifest, read_manifest, table_columns
from runtime.connectors._merging import Merge
from runtime.connectors._table_folder import (
    HIDDEN,
    TableFolder,
    Version,
    disk_errors,
    fsync_tree,
    link_files,
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


D_co = TypeVar("D_co", bound=FileDestinationConfig, covariant=True)


class FileDestination(Destination[D_co]):
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
        self._fitted(target, schema, current)

    def prepare(self, target: Target, schema: pa.Schema, run: RunKey) -> None:
        """Make the staging folder of this run."""
        self.fit(target, schema)
        table = self._table(target)
        with disk_errors(table.home):
            table.staging(run).mkdir(parents=True, exist_ok=True)

    def write(self, target: Target, run: RunKey, partition: int, rows: pa.RecordBatchReader) -> Receipt:
        """Land one partition as a folder of files, in place of what an earlier attempt landed."""
        table = self._table(target)
        schema = self._fitted(target, rows.schema, table.current())
        folder = table.staging(run) / f"part-{partition:05d}"
        building = folder.with_name(f".{folder.name}-{uuid4().hex}")
        try:
            with disk_errors(self.root / target.table):
                building.mkdir(parents=True)
                written = self._fill(building, f"{table.stem(run)}-{partition:05d}", target, schema, rows)
                _replace(building, folder)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return Receipt(partition, written, str(folder.relative_to(table.home)))

    def commit(self, target: Target, run: RunKey, receipts: Sequence[Receipt], cursor: str | None) -> LoadCounts:
        """Publish all partitions, the ledger and the cursor by one rename."""
        table = self._table(target)
        with disk_errors(self.root / target.table), table.locked():
            current = table.current()
            done = current.manifest.commit_of(run) if current else None
            if done is None:
                parts = [_staged(table, receipt) for receipt in receipts]
                done = self._publish(table, target, run, parts, cursor)
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

    def backups(self, table: str) -> list[Backup]:
        """The earlier versions of a table that are kept, newest first."""
        folder = TableFolder(self.root, table)
        current = folder.current()
        kept = [version for version in folder.versions() if current and version.folder != current.folder]
        return [backup for backup in map(Backup.of, reversed(kept)) if backup]

    def restore(self, table: str, version: int) -> None:
        """Make a kept version the current one again, with its columns and rows; the ledger goes on."""
        folder = TableFolder(self.root, table)
        with disk_errors(folder.link), folder.locked():
            manifest, source = restored(folder, version)
            folder.publish(manifest.version, lambda building: _linked(building, [source], manifest))

    def _publish(
        self, table: TableFolder, target: Target, run: RunKey, parts: Sequence[Version], cursor: str | None
    ) -> Commit:
        current = table.current()
        schema = self._schema_of(target, parts, current)
        base = current.manifest if current else Manifest(version=1, columns=table_columns(schema))
        with self._plan(table, target, run, parts, current) as (folders, counts):
            commit = Commit(
                pipeline_id=run.pipeline_id,
                execution_id=run.execution_id,
                step=run.step,
                inserted=counts.inserted,
                updated=counts.updated,
                deleted=counts.deleted,
                committed_at=self._clock(),
            )
            commits, cursors = base.ledger(commit, cursor)
            before = current.manifest.rows if current else 0
            manifest = Manifest(
                version=max((v.manifest.version for v in table.versions()), default=0) + 1,
                columns=table_columns(schema),
                partition_by=target.partition_by,
                rows=before + counts.inserted - counts.deleted,
                commits=commits,
                cursors=cursors,
            )
            if current is not None and target.write_mode is not WriteMode.APPEND:
                keep_backup(current, target.backup, self._clock())
            table.publish(manifest.version, lambda building: _linked(building, folders, manifest))
        prune(table, manifest.version, target.backup, self._clock())
        return commit

    @contextmanager
    def _plan(
        self, table: TableFolder, target: Target, run: RunKey, parts: Sequence[Version], current: Version | None
    ) -> Iterator[tuple[list[Path], LoadCounts]]:
        """The folders whose files make up the next version, and what the load does to the rows."""
        loaded, rows = [part.folder for part in parts], sum(part.manifest.rows for part in parts)
        match target.write_mode:
            case WriteMode.APPEND:
                yield ([current.folder] if current else []) + loaded, LoadCounts(inserted=rows)
            case WriteMode.OVERWRITE:
                yield loaded, LoadCounts(inserted=rows, deleted=current.manifest.rows if current else 0)
            case WriteMode.UPSERT:
                working = table.home / f".building-{uuid4().hex}"
                try:
                    yield self._merged(working, table.stem(run), target, parts, current)
                finally:
                    shutil.rmtree(working, ignore_errors=True)

    def _merged(
        self, working: Path, stem: str, target: Target, parts: Sequence[Version], current: Version | None
    ) -> tuple[list[Path], LoadCounts]:
        """The load's files and, rewritten, the rows of the table that they do not replace."""
        loaded = [part.folder for part in parts]
        if not parts:
            return [current.folder] if current else [], LoadCounts()
        engine = Engine(EngineLimits(spill_folder=working / "spill"))
        try:
            merge = Merge(
                engine,
                target.key_columns,
                loaded=lambda: self._rows_of([part.folder for part in parts]),
                table=lambda: self._rows_of([current.folder] if current else []),
            )
            rows = merge.check_loaded()
            if current is None:
                return loaded, LoadCounts(inserted=rows)
            replaced = merge.replaced()
            if not len(replaced):
                return [current.folder, *loaded], LoadCounts(inserted=rows)
            kept, schema = working / "kept", current.manifest.schema
            kept.mkdir()
            remaining = pa.RecordBatchReader.from_batches(schema, merge.kept(replaced))
            self._fill(kept, f"{stem}-kept", target, schema, remaining)
            return [kept, *loaded], LoadCounts(inserted=rows - len(replaced), updated=len(replaced))
        finally:
            engine.close()

    def _fill(self, folder: Path, stem: str, target: Target, schema: pa.Schema, rows: pa.RecordBatchReader) -> int:
        """Write all rows into a folder with its manifest, durably; gives their number."""
        writer = FolderWriter(folder, stem, schema, target.partition_by, self._open_file)
        try:
            for batch in rows:
                writer.write(aligned(batch, schema))
        finally:
            writer.close()
        manifest = Manifest(
            version=1, columns=table_columns(schema), partition_by=target.partition_by, rows=writer.rows
        )
        write_durably(folder / MANIFEST, manifest.model_dump_json().encode())
        fsync_tree(folder)
        return writer.rows

    def _rows_of(self, folders: Sequence[Path]) -> pa.RecordBatchReader:
        """All rows of folders of one schema as one stream."""
        readers = [
            self._source().read(ReadRequest(dataset=str(folder.relative_to(self.root))), Split(0)) for folder in folders
        ]
        return pa.RecordBatchReader.from_batches(readers[0].schema, chain.from_iterable(readers))

    def _schema_of(self, target: Target, parts: Sequence[Version], current: Version | None) -> pa.Schema:
        """The schema of the version to come; raises `Terminal` when the table changed under the load."""
        if not parts:
            return current.manifest.schema if current else pa.schema([])
        schema = parts[0].manifest.schema
        kept = self._fitted(target, schema, current)
        if any(part.manifest.schema != kept for part in parts):
            raise Terminal(
                f"the columns of {target.table} changed while it was loaded", hint="run again", code="schema_changed"
            )
        return kept

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


def _linked(building: Path, folders: Sequence[Path], manifest: Manifest) -> Manifest:
    for folder in folders:
        link_files(folder, building)
    return manifest


def _replace(building: Path, folder: Path) -> None:
    """Put a finished folder in the place of an earlier one."""
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)


def _staged(table: TableFolder, receipt: Receipt) -> Version:
    folder = table.home / receipt.token
    if not (folder / MANIFEST).is_file():
        raise Terminal(
            f"partition {receipt.partition} of the load is not in staging",
            hint="run the load again from its first partition",
            code="lost_staging",
        )
    return Version(folder, read_manifest((folder / MANIFEST).read_bytes()))
