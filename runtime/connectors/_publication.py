"""One load of a table of files becomes its next version: which files make it up, and what that does to the rows."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from models.destinations import WriteMode
from models.errors import Terminal
from runtime.batches.engine import Engine, EngineLimits
from runtime.connectors._contract import LoadCounts, Receipt, RunKey, Target
from runtime.connectors._file_backups import keep_backup, prune
from runtime.connectors._folder_writer import OpenFile, fill_folder
from runtime.connectors._manifest import MANIFEST, Commit, Manifest, read_manifest, table_columns
from runtime.connectors._merging import Merge
from runtime.connectors._table_folder import TableFolder, Version, link_files


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How a format writes one file, and reads all files of a folder that has a manifest."""

    open_file: OpenFile
    rows_of: Callable[[Path], pa.RecordBatchReader]


@dataclass(frozen=True, slots=True)
class Publication:
    """The commit of one run to one table, whose lock is held."""

    table: TableFolder
    format: TableFormat
    target: Target
    run: RunKey
    now: datetime

    def publish(self, parts: Sequence[Version], schema: pa.Schema, cursor: str | None) -> Commit:
        """Make the next version of what is there and what was staged, and switch to it."""
        current = self.table.current()
        with self._plan(parts, current) as (folders, counts):
            commit = self._commit(counts)
            manifest = self._manifest(current, schema, commit, cursor)
            if current is not None and self.target.write_mode is not WriteMode.APPEND:
                keep_backup(current, self.target.backup, self.run, self.now)
            self.table.publish(manifest.version, lambda building: self._filled(building, folders, manifest))
        prune(self.table, manifest.version, self.target.backup, self.now)
        return commit

    def _commit(self, counts: LoadCounts) -> Commit:
        return Commit(
            pipeline_id=self.run.pipeline_id,
            execution_id=self.run.execution_id,
            step=self.run.step,
            inserted=counts.inserted,
            updated=counts.updated,
            deleted=counts.deleted,
            committed_at=self.now,
        )

    def _manifest(self, current: Version | None, schema: pa.Schema, commit: Commit, cursor: str | None) -> Manifest:
        base = current.manifest if current else Manifest(version=1, columns=())
        commits, cursors = base.ledger(commit, cursor)
        return Manifest(
            version=max((version.manifest.version for version in self.table.versions()), default=0) + 1,
            columns=table_columns(schema),
            partition_by=self.target.partition_by,
            rows=base.rows + commit.inserted - commit.deleted,
            commits=commits,
            cursors=cursors,
        )

    def _filled(self, building: Path, folders: Sequence[Path], manifest: Manifest) -> Manifest:
        linked(building, folders, manifest)
        if not any(building.iterdir()) and manifest.columns and not manifest.partition_by:
            self.format.open_file(building / f"part-{self.table.stem(self.run)}-empty", manifest.schema).close()
        return manifest

    @contextmanager
    def _plan(self, parts: Sequence[Version], current: Version | None) -> Iterator[tuple[list[Path], LoadCounts]]:
        """The folders whose files make up the next version, and what the load does to the rows."""
        loaded, rows = [part.folder for part in parts], sum(part.manifest.rows for part in parts)
        match self.target.write_mode:
            case WriteMode.APPEND:
                yield ([current.folder] if current else []) + loaded, LoadCounts(inserted=rows)
            case WriteMode.OVERWRITE:
                yield loaded, LoadCounts(inserted=rows, deleted=current.manifest.rows if current else 0)
            case WriteMode.UPSERT:
                working = self.table.home / f".building-{uuid4().hex}"
                try:
                    yield self._merged(working, loaded, current)
                finally:
                    shutil.rmtree(working, ignore_errors=True)

    def _merged(self, working: Path, loaded: list[Path], current: Version | None) -> tuple[list[Path], LoadCounts]:
        """The load's files and, rewritten, the rows of the table that they do not replace."""
        if not loaded:
            return [current.folder] if current else [], LoadCounts()
        engine = Engine(EngineLimits(spill_folder=working / "spill"))
        try:
            merge = Merge(
                engine,
                self.target.key_columns,
                loaded=lambda: self._rows_of(loaded),
                table=lambda: self._rows_of([current.folder] if current else []),
            )
            rows = merge.check_loaded()
            if current is None:
                return loaded, LoadCounts(inserted=rows)
            replaced = merge.replaced()
            if not len(replaced):
                return [current.folder, *loaded], LoadCounts(inserted=rows)
            kept = working / "kept"
            kept.mkdir()
            schema, stem = current.manifest.schema, f"{self.table.stem(self.run)}-kept"
            remaining = pa.RecordBatchReader.from_batches(schema, merge.kept(replaced))
            fill_folder(kept, stem, remaining, schema, self.target.partition_by, self.format.open_file)
            return [kept, *loaded], LoadCounts(inserted=rows - len(replaced), updated=len(replaced))
        finally:
            engine.close()

    def _rows_of(self, folders: Sequence[Path]) -> pa.RecordBatchReader:
        """All rows of folders of one schema as one stream."""
        readers = [self.format.rows_of(folder) for folder in folders]
        return pa.RecordBatchReader.from_batches(readers[0].schema, chain.from_iterable(readers))


def linked(building: Path, folders: Sequence[Path], manifest: Manifest) -> Manifest:
    """Fill a version with the files of these folders."""
    for folder in folders:
        link_files(folder, building)
    return manifest


def staged(table: TableFolder, receipt: Receipt) -> Version:
    """What a receipt says has landed; raises `Terminal` where it is not there."""
    folder = table.home / receipt.token
    if not (folder / MANIFEST).is_file():
        raise Terminal(
            f"partition {receipt.partition} of the load is not in staging",
            hint="run the load again from its first partition",
            code="lost_staging",
        )
    return Version(folder, read_manifest((folder / MANIFEST).read_bytes()))
