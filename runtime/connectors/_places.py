"""Where files are: one root, local or in an object store, that no dataset, link or `..` leaves."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs
from pydantic import Field, SecretStr

from models.base import StrictModel
from models.errors import Invalid, Retryable, Terminal

SCHEMES = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure"}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".br")


class S3Storage(StrictModel):
    """How to reach an S3 bucket; without keys, as the machine's own role does."""

    type: Literal["s3"] = "s3"
    access_key: str | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    region: str | None = None
    endpoint: str | None = None


class GcsStorage(StrictModel):
    """How to reach a Google Cloud Storage bucket; without a token, as the machine's own account does."""

    type: Literal["gcs"] = "gcs"
    access_token: SecretStr | None = None
    token_expires_at: datetime | None = None
    project_id: str | None = None
    anonymous: bool = False


class AzureStorage(StrictModel):
    """How to reach an Azure container."""

    type: Literal["azure"] = "azure"
    account_name: str
    account_key: SecretStr | None = None
    sas_token: SecretStr | None = None


Storage = Annotated[S3Storage | GcsStorage | AzureStorage, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file: its path below the root, its path as listed (through links), bytes, and when it last changed."""

    path: str
    listed: str
    size: int
    modified: datetime


class Place:
    """A root folder and the files below it. Names that begin with `.` or `_` are not data."""

    def __init__(self, root: str, storage: Storage | None = None) -> None:
        self.root = root
        scheme = urlsplit(root).scheme
        if scheme in SCHEMES:
            self.local: Path | None = None
            self.filesystem, self._base = _object_store(root, SCHEMES[scheme], storage)
        elif Path(root).is_absolute():
            self.local = Path(os.path.realpath(root))
            self.filesystem, self._base = fs.LocalFileSystem(), str(self.local)
        else:
            raise Invalid(
                f"{root!r} is neither an absolute path nor an address of an object store",
                hint="write /data/guests, s3://bucket/folder, gs://bucket/folder or abfs://container/folder",
                path="root",
            )

    def reach(self) -> None:
        """Raise `Invalid` if the root is no folder that can be read."""
        if self.local is not None and not self.local.is_dir():
            raise Invalid(f"there is no folder {self.root}", hint="create it, or correct `root`", path="root")
        if self.local is not None and not os.access(self.local, os.R_OK | os.X_OK):
            raise Invalid(f"the folder {self.root} cannot be read", hint="grant the runtime access", path="root")
        if self.local is None:
            with reached(self.root):
                self.filesystem.get_file_info(fs.FileSelector(self._base, allow_not_found=True))

    def files(self, pattern: str, suffixes: tuple[str, ...]) -> list[FileEntry]:
        """The files a dataset means, by path: one file, all of a folder that have a suffix, or those a glob meets.

        Raises `Invalid` where the pattern or a link leaves the root, and `Terminal` where it means no file or folder.
        """
        self._refuse_escape(pattern)
        if any(mark in pattern for mark in "*?["):
            met = _glob(pattern)
            found = [entry for entry in self._below(_literal_folder(pattern)) if met.fullmatch(entry.listed)]
        else:
            found = self._named(pattern.strip("/"), suffixes)
        return sorted(found, key=lambda entry: entry.listed)

    def folder_file(self, folder: str, name: str) -> bytes | None:
        """The content of a small file in a folder below the root; None where it is not there."""
        self._refuse_escape(folder)
        path = f"{self._base}/{folder}/{name}" if self.local is None else self._inside(f"{folder}/{name}")
        if self.filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            content: bytes = stream.read()
            return content

    def open(self, path: str, start: int = 0, end: int | None = None) -> pa.NativeFile:
        """The file's bytes, decompressed by its suffix; or the bytes `[start, end)` of one that is not compressed."""
        with reached(path):
            if end is None:
                return self.filesystem.open_input_stream(f"{self._base}/{path}", compression="detect")
            return self.filesystem.open_input_file(f"{self._base}/{path}").get_stream(start, end - start)

    def random(self, path: str) -> pa.NativeFile:
        """The file for reads at any position."""
        with reached(path):
            return self.filesystem.open_input_file(f"{self._base}/{path}")

    def _refuse_escape(self, pattern: str) -> None:
        if ".." in pattern.split("/") or pattern.startswith("/") or "\x00" in pattern:
            raise Invalid(
                f"the dataset {pattern!r} leaves the root", hint=f"name files below {self.root}", path="dataset"
            )

    def _named(self, name: str, suffixes: tuple[str, ...]) -> list[FileEntry]:
        kind = self.filesystem.get_file_info(f"{self._base}/{name}").type
        if kind == fs.FileType.Directory:
            return [entry for entry in self._below(name) if _has_suffix(entry.listed, suffixes)]
        if kind == fs.FileType.File:
            return [self._entry(name)]
        for suffix in (f"{plain}{packed}" for plain in suffixes for packed in ("", *COMPRESSED)):
            if self.filesystem.get_file_info(f"{self._base}/{name}{suffix}").type == fs.FileType.File:
                return [self._entry(name + suffix)]
        raise Terminal(
            f"there is no file or folder {name!r} in {self.root}",
            hint="check the dataset's name, or wait until the file has arrived",
            path="dataset",
            code="no_such_dataset",
        )

    def _below(self, folder: str) -> Iterator[FileEntry]:
        if self.local is not None:
            yield from self._local_below(folder, frozenset())
            return
        top = f"{self._base}/{folder}".rstrip("/")
        with reached(top):
            infos = self.filesystem.get_file_info(fs.FileSelector(top, recursive=True, allow_not_found=True))
        for info in infos:
            listed = info.path.removeprefix(f"{self._base}/")
            below = listed.removeprefix(folder).strip("/")
            if info.type == fs.FileType.File and not any(part[0] in "._" for part in below.split("/")):
                yield FileEntry(listed, listed, info.size, info.mtime)

    def _local_below(self, folder: str, above: frozenset[str]) -> Iterator[FileEntry]:
        real = self._inside(folder)
        if real in above or not os.path.isdir(real):
            return
        with reached(folder), os.scandir(real) as entries:
            names = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name[0] not in "._")
        for name, is_folder in names:
            listed = f"{folder}/{name}".lstrip("/")
            if is_folder:
                yield from self._local_below(listed, above | {real})
            else:
                yield self._entry(listed)

    def _entry(self, listed: str) -> FileEntry:
        if self.local is None:
            info = self.filesystem.get_file_info(f"{self._base}/{listed}")
            return FileEntry(listed, listed, info.size, info.mtime)
        real = self._inside(listed)
        with reached(listed):
            status = os.stat(real)
        modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1_000_000, UTC)
        return FileEntry(os.path.relpath(real, self._base), listed, status.st_size, modified)

    def _inside(self, name: str) -> str:
        """The real path of a name below the root, with links followed; `Invalid` when that is elsewhere."""
        real = os.path.realpath(os.path.join(self._base, name))
        if real != self._base and not real.startswith(self._base.rstrip("/") + "/"):
            raise Invalid(f"{name!r} is a link that leaves the root", hint=f"copy it below {self.root}", path="dataset")
        return real


def is_compressed(path: str) -> bool:
    """Whether the suffix says that reading decompresses."""
    return path.endswith(COMPRESSED)


def hive_values(listed: str) -> dict[str, str | None]:
    """The columns that folders named `column=value` give to the files in them."""
    found: dict[str, str | None] = {}
    for part in listed.split("/")[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            found[_unquoted(name)] = None if value == HIVE_NULL else _unquoted(value)
    return found


HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def _unquoted(text: str) -> str:
    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), text)


def _has_suffix(path: str, suffixes: tuple[str, ...]) -> bool:
    plain = path.rsplit(".", 1)[0] if is_compressed(path) else path
    return plain.lower().endswith(suffixes)


def _literal_folder(pattern: str) -> str:
    """The folders of a glob before its first mark."""
    parts = pattern.split("/")[:-1]
    marked = next((at for at, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts))
    return "/".join(parts[:marked])


def _glob(pattern: str) -> re.Pattern[str]:
    """`*` and `?` within a name, `**` across folders, `[abc]` sets."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    return re.compile(
        "".join(tokens.get(p) or (p if p.startswith("[") and p.endswith("]") else re.escape(p)) for p in pieces)
    )


@contextmanager
def reached(place: str) -> Iterator[None]:
    """Turn what the file system says into typed errors that name the file."""
    try:
        yield
    except FileNotFoundError as error:
        hint = "it was moved or deleted meanwhile; run again"
        raise Terminal(f"{place} is gone", hint=hint, code="file_gone") from error
    except PermissionError as error:
        raise Terminal(f"{place} cannot be read", hint="grant the runtime access", code="file_denied") from error
    except OSError as error:
        if error.errno is None:
            raise Terminal(
                f"{place}: {error}", hint="the file is damaged; deliver it again", code="bad_file"
            ) from error
        raise Retryable(f"{place}: {error}", hint="check the storage", code="storage_error") from error


def _object_store(root: str, kind: str, storage: Storage | None) -> tuple[fs.FileSystem, str]:
    if storage is not None and storage.type != kind:
        raise Invalid(f"{root} needs the storage type {kind!r}, not {storage.type!r}", path="storage.type")
    if storage is None:
        with reached(root):
            filesystem, base = fs.FileSystem.from_uri(root)
            return filesystem, base.rstrip("/")
    address = urlsplit(root)
    return _filesystem(storage), f"{address.netloc}{address.path}".rstrip("/")


def _filesystem(storage: Storage) -> fs.FileSystem:
    match storage:
        case S3Storage():
            return fs.S3FileSystem(
                access_key=storage.access_key,
                secret_key=_open(storage.secret_key),
                session_token=_open(storage.session_token),
                region=storage.region,
                endpoint_override=storage.endpoint,
            )
        case GcsStorage():
            return fs.GcsFileSystem(
                anonymous=storage.anonymous,
                access_token=_open(storage.access_token),
                credential_token_expiration=storage.token_expires_at,
                project_id=storage.project_id,
            )
        case AzureStorage():
            return fs.AzureFileSystem(
                storage.account_name, account_key=_open(storage.account_key), sas_token=_open(storage.sas_token)
            )


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
