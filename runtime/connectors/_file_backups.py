"""Earlier versions of a table of files: which are kept, until when, and how one comes back."""

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from models.base import StrictModel
from models.destinations import BackupConfig
from models.fields import Json, parse
from runtime.connectors._contract import RunKey, TableVersion, no_version
from runtime.connectors._json_values import exact_loads
from runtime.connectors._manifest import Manifest
from runtime.connectors._table_folder import BACKUP, TableFolder, Version, write_durably


class Retention(StrictModel):
    """When and by which execution a version was replaced, and until when it is kept."""

    replaced_at: datetime
    replaced_by: UUID
    expires_at: datetime


def backup_of(version: Version) -> TableVersion | None:
    """What can be restored of a version; None where it is kept for readers alone."""
    path = version.folder / BACKUP
    if not path.is_file():
        return None
    kept, manifest = parse(Retention, exact_loads(path.read_bytes()), BACKUP), version.manifest
    return TableVersion(str(manifest.version), manifest.rows, kept.replaced_at, kept.replaced_by, kept.expires_at)


def keep_backup(replaced: Version, backup: Mapping[str, Json], run: RunKey, now: datetime) -> None:
    """Mark the version that an overwrite or upsert replaced, where the destination keeps backups."""
    config = parse(BackupConfig, dict(backup), "backup_config")
    if config.enabled:
        expires = now + timedelta(days=config.retention_days)
        retention = Retention(replaced_at=now, replaced_by=run.execution_id, expires_at=expires)
        write_durably(replaced.folder / BACKUP, retention.model_dump_json().encode())


def prune(table: TableFolder, current: int, backup: Mapping[str, Json], now: datetime) -> None:
    """Remove versions but the current one, the one before it (readers may be in it), and backups in retention."""
    config = parse(BackupConfig, dict(backup), "backup_config")
    earlier = [version for version in table.versions() if version.manifest.version != current][::-1]
    kept = 0
    for position, version in enumerate(earlier):
        known = backup_of(version)
        is_retained = known is not None and known.expires_at > now and kept < config.keep_versions
        kept += is_retained
        if position and not is_retained:
            shutil.rmtree(version.folder, ignore_errors=True)


def restored(table: TableFolder, version: str) -> tuple[Manifest, Path]:
    """The manifest of the version that brings back `version`, and the folder with its files."""
    versions, current = table.versions(), table.current()
    wanted = next((known for known in versions if str(known.manifest.version) == version and backup_of(known)), None)
    if wanted is None or current is None:
        raise no_version(table.table, version)
    ledger = {"commits": current.manifest.commits, "cursors": current.manifest.cursors}
    newest = max(known.manifest.version for known in versions)
    return wanted.manifest.model_copy(update={**ledger, "version": newest + 1}), wanted.folder
