"""Earlier versions of a table of files: which are kept, until when, and how one comes back."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from models.base import StrictModel
from models.destinations import BackupConfig
from models.errors import NotFound
from models.fields import Json, parse
from runtime.connectors._json_values import exact_loads
from runtime.connectors._manifest import Manifest
from runtime.connectors._table_folder import BACKUP, TableFolder, Version, write_durably


class Retention(StrictModel):
    """When a version was replaced, and until when it is kept."""

    replaced_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Backup:
    """A kept version of a table: its number, its rows, when it was replaced and until when it is kept."""

    version: int
    rows: int
    replaced_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, version: Version) -> "Backup | None":
        """The backup that a version is; None where it is none."""
        path = version.folder / BACKUP
        if not path.is_file():
            return None
        retention = parse(Retention, exact_loads(path.read_bytes()), BACKUP)
        manifest = version.manifest
        return cls(manifest.version, manifest.rows, retention.replaced_at, retention.expires_at)


def keep_backup(replaced: Version, backup: Mapping[str, Json], now: datetime) -> None:
    """Mark the version that an overwrite or upsert replaced, where the destination keeps backups."""
    config = parse(BackupConfig, dict(backup), "backup_config")
    if config.enabled:
        retention = Retention(replaced_at=now, expires_at=now + timedelta(days=config.retention_days))
        write_durably(replaced.folder / BACKUP, retention.model_dump_json().encode())


def prune(table: TableFolder, current: int, backup: Mapping[str, Json], now: datetime) -> None:
    """Remove versions but the current one, the one before it (readers may be in it), and backups in retention."""
    config = parse(BackupConfig, dict(backup), "backup_config")
    earlier = [version for version in table.versions() if version.manifest.version != current][::-1]
    kept = 0
    for position, version in enumerate(earlier):
        known = Backup.of(version)
        is_retained = known is not None and known.expires_at > now and kept < config.keep_versions
        kept += is_retained
        if position and not is_retained:
            shutil.rmtree(version.folder, ignore_errors=True)


def restored(table: TableFolder, number: int) -> tuple[Manifest, Path]:
    """The manifest of the version that brings back version `number`, and the folder with its files."""
    versions, current = table.versions(), table.current()
    wanted = next((v for v in versions if v.manifest.version == number and Backup.of(v)), None)
    if wanted is None or current is None:
        raise NotFound(
            f"the table {table.table} has no backup {number}", hint="list the backups; retention may have ended"
        )
    ledger = {"commits": current.manifest.commits, "cursors": current.manifest.cursors}
    newest = max(version.manifest.version for version in versions)
    return wanted.manifest.model_copy(update={**ledger, "version": newest + 1}), wanted.folder
