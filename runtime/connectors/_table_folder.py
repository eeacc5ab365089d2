"""A table as a folder of files whose versions are switched by one atomic rename, so that all files appear at once.

`<root>/<table>` is a link to `.wedsync/<table>/v-<n>`, a folder with the files of one version and its manifest, the
ledger included. A commit builds the next folder (files that stay are hard links), makes it durable, and renames a
new link over the old one. Until that rename nothing has changed; after it everything has.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from models.errors import Invalid, Retryable, Terminal
from runtime.connectors._contract import RunKey
from runtime.connectors._manifest import MANIFEST, Manifest, read_manifest

HIDDEN = ".wedsync"
BACKUP = "_backup.json"
LOCK_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.02
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a table: its folder and what is recorded about it."""

    folder: Path
    manifest: Manifest


class TableFolder:
    """The versions, the staging and the lock of one table below a root."""

    def __init__(self, root: Path, table: str) -> None:
        if not re.fullmatch(r"[^./\x00_][^/\x00]{0,199}", table):
            raise Invalid(
                f"{table!r} cannot be the name of a table of files",
                hint="use one name without slashes that begins with a letter or digit",
                path="table",
            )
        self.root = root
        self.table = table
        self.link = root / table
        self.home = root / HIDDEN / table

    def current(self) -> Version | None:
        """The version that readers see; None before the first load."""
        if not self.link.is_symlink():
            if self.link.exists():
                raise Terminal(
                    f"{self.link} is there already and was not written by a load",
                    hint="load into a table of another name, or move the files away",
                    code="foreign_table",
                )
            return None
        folder = self.root / os.readlink(self.link)
        return Version(folder, read_manifest((folder / MANIFEST).read_bytes()))

    def versions(self) -> list[Version]:
        """All versions that are still kept, oldest first."""
        folders = sorted(self.home.glob("v-*")) if self.home.is_dir() else []
        return [Version(folder, read_manifest((folder / MANIFEST).read_bytes())) for folder in folders]

    def staging(self, run: RunKey) -> Path:
        """Where this generation of the run lands its partitions."""
        return self._staging_of_run(run) / str(run.generation)

    def discard_staging(self, run: RunKey) -> None:
        """Remove what this run landed, in its own and in earlier generations."""
        folder = self._staging_of_run(run)
        for generation in list(folder.iterdir()) if folder.is_dir() else []:
            if int(generation.name) <= run.generation:
                shutil.rmtree(generation, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def stem(self, run: RunKey) -> str:
        """The beginning of the names of the files that this run publishes."""
        return f"{run.execution_id.hex[:12]}-{sha256(run.step.encode()).hexdigest()[:8]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the table against other commits; raises `Retryable` where another holds it for a minute."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            until = monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if monotonic() > until:
                        raise Retryable(
                            f"another load holds the table {self.table}", hint="try again later", code="table_busy"
                        ) from None
                    sleep(LOCK_POLL_SECONDS)
            self._clear()
            yield

    def _clear(self) -> None:
        """Remove what a crash left behind: folders half built, and those built but never switched to."""
        shown = (self.root / os.readlink(self.link)).name if self.link.is_symlink() else ""
        for abandoned in [*self.home.glob(".building-*"), *self.home.glob(".link-*"), *self.home.glob("v-*")]:
            if abandoned.is_symlink():
                abandoned.unlink()
            elif abandoned.name.startswith(".") or abandoned.name > shown:
                shutil.rmtree(abandoned, ignore_errors=True)

    def publish(self, number: int, build: Callable[[Path], Manifest]) -> Manifest:
        """Make version `number` as `build` fills it, and switch readers to it; the lock is held.

        When it fails anywhere before the switch, readers see what they saw before.
        """
        building = self.home / f".building-{uuid4().hex}"
        building.mkdir()
        try:
            manifest = build(building)
            write_durably(building / MANIFEST, manifest.model_dump_json().encode())
            fsync_tree(building)
            folder = self.home / f"v-{number:08d}"
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
            fsync_folder(self.home)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        self._switch(folder)
        return manifest

    def _switch(self, folder: Path) -> None:
        new_link = self.home / f".link-{uuid4().hex}"
        new_link.symlink_to(folder.relative_to(self.root))
        new_link.replace(self.link)
        fsync_folder(self.root)

    def _staging_of_run(self, run: RunKey) -> Path:
        return self.home / "staging" / self.stem(run)


def link_files(source: Path, target: Path) -> None:
    """Put the data files of a folder into another as hard links, or as copies where links cannot be made."""
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and not path.name.startswith("_"):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target / relative)
            except OSError as error:
                if error.errno in FULL:
                    raise
                shutil.copy2(path, target / relative)


def replace_folder(building: Path, folder: Path) -> None:
    """Put a finished folder in the place of an earlier one."""
    if folder.exists():
        shutil.rmtree(folder)
    building.rename(folder)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file and have it on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Have a folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Have the names of a folder and of all folders in it on the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            fsync_folder(path)
    fsync_folder(folder)


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Turn what the disk says into typed errors that name the place."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            hint = "free space or raise the quota, then run again; the table is as it was"
            raise Terminal(f"no space left for {place}", hint=hint, code="disk_full") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Terminal(f"{place} cannot be written", hint="grant the runtime access", code="file_denied") from error
        raise Retryable(f"{place}: {error}", hint="check the storage", code="storage_error") from error
