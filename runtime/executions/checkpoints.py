"""Outputs of finished tasks as Arrow IPC files in the artifact store, where take-overs, retries and re-runs find them.

An execution has a folder, `checkpoints/<id>`, a task's output is one file in it, a record batch for each block. A file
appears whole, by a rename; power that fails may still lose it, and then the task runs again. Who reads a file compares
its CRC-32 with the one that was written down: a damaged file is a lost one. `keeper.py` says which outputs are written,
and when.
"""

import os
import shutil
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import pyarrow as pa

from models.errors import Retryable
from models.fields import JsonObject
from models.parsing import as_uuid
from runtime.executions.state import TaskReport

FOLDER: Final = "checkpoints"
_PIECE_BYTES: Final = 1 << 20
LOST_INPUT: Final = "lost_input"
"""The code of the error that says so: an output of another task that this one reads is gone."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file of blocks: where it is in the artifact store; its batches, bytes and CRC-32, which tell a damaged one."""

    file: str
    batches: int
    bytes: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a finished task: its report, and its output where another task reads that."""

    task: str
    attempt: int
    report: TaskReport
    places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """The blocks of a file, read one at a time, as often as one likes; raises `Retryable` where they are gone."""

    artifacts: Path
    place: Place

    def __iter__(self) -> Iterator[pa.Table]:
        source, reader = self._opened()
        with source:
            self._compare()
            if not reader.num_record_batches:
                yield reader.schema.empty_table()
            for index in range(reader.num_record_batches):
                yield pa.Table.from_batches([self._batch(reader, index)])

    def require(self) -> None:
        """Raise `Retryable` unless the whole file is there."""
        source, reader = self._opened()
        with source:
            found = reader.num_record_batches, source.size()
        if found != (self.place.batches, self.place.bytes):
            raise self._lost()

    def _compare(self) -> None:
        path = self.artifacts / self.place.file
        try:
            seen = path.stat()
            if self.place.crc in (None, _crc_of(path, seen.st_size, seen.st_mtime_ns)):
                return
        except OSError as error:
            raise self._lost() from error
        raise self._lost()

    def _opened(self) -> tuple[pa.MemoryMappedFile, pa.ipc.RecordBatchFileReader]:
        try:
            source = pa.memory_map(str(self.artifacts / self.place.file))
            return source, pa.ipc.open_file(source)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._lost() from error

    def _batch(self, reader: pa.ipc.RecordBatchFileReader, index: int) -> pa.RecordBatch:
        try:
            return reader.get_batch(index)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._lost() from error

    def _lost(self) -> Retryable:
        return Retryable(f"the checkpoint {self.place.file} is gone or damaged", code=LOST_INPUT)


def write_blocks(artifacts: Path, file: str, blocks: Iterable[pa.Table]) -> Place:
    """Write blocks of the same columns to a file, one in memory at a time; its folder must be there. Raises OSError."""
    path = artifacts / file
    building = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        batches = _written(building, blocks)
        place = Place(file, batches, building.stat().st_size, _crc(building))
        building.replace(path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise
    return place


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc


@lru_cache(maxsize=1_024)
def _crc_of(path: Path, _size: int, _changed: int) -> int:
    """The CRC-32 of a file of this size and time of change in nanoseconds: read once, however often its blocks are."""
    return _crc(path)


def _written(path: Path, blocks: Iterable[pa.Table]) -> int:
    waiting = iter(blocks)
    first = next(waiting)
    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        for block in chain([first], waiting):
            for batch in block.combine_chunks().cast(first.schema).to_batches():
                writer.write_batch(batch)
                count += 1
    return count


class Shelf:
    """The folder of one execution's checkpoints. Its files are written by workers, into places that it names."""

    def __init__(self, artifacts: Path, execution_id: UUID) -> None:
        self.artifacts = artifacts
        self._folder = artifacts / FOLDER / str(execution_id)

    def file(self, task: str, generation: int, attempt: int) -> str:
        """Where that attempt's output goes, in the artifact store; the folder is made. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return (self._folder / f"{task}-{generation}-{attempt}.arrow").relative_to(self.artifacts).as_posix()

    def whole(self, places: Sequence[Place]) -> bool:
        """Whether there is anything and all of it can be read."""
        try:
            for place in places:
                StoredBlocks(self.artifacts, place).require()
        except Retryable:
            return False
        return bool(places)

    def adopt(self, places: Sequence[Place]) -> tuple[Place, ...]:
        """Have files of an earlier execution here too, by hard links or else copies; none where they are gone."""
        adopted: list[Place] = []
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for place in places:
                here = self._folder / Path(place.file).name
                _link(self.artifacts / place.file, here)
                adopted.append(
                    Place(here.relative_to(self.artifacts).as_posix(), place.batches, place.bytes, place.crc)
                )
        except OSError:
            return ()
        return tuple(adopted) if self.whole(adopted) else ()

    def clear(self) -> None:
        """Remove all of it. Moved first, so that who still writes finds no folder and leaves nothing behind."""
        _remove(self._folder)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        building = target.with_name(f".{target.name}.{uuid4().hex}")
        shutil.copyfile(source, building)
        building.replace(target)


def _remove(folder: Path) -> None:
    gone = folder.with_name(f".gone-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def old_shelves(artifacts: Path, days: int, most: int, now: datetime) -> list[UUID]:
    """At most `most` executions whose folder was last changed more than `days` ago."""
    before, found = (now - timedelta(days=days)).timestamp(), list[UUID]()
    with suppress(FileNotFoundError), os.scandir(artifacts / FOLDER) as entries:
        for entry in entries:
            if len(found) == most:
                break
            # Another dispatcher may have been there first.
            with suppress(FileNotFoundError):
                identity = as_uuid(entry.name)
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    if identity is None:
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:
                        found.append(identity)
    return found


def clear_shelves(artifacts: Path, executions: Collection[UUID]) -> None:
    """Remove the folders of these executions."""
    for execution in executions:
        _remove(artifacts / FOLDER / str(execution))


def place_from(data: JsonObject) -> Place:
    """The place that a row of `checkpoints` names; raises KeyError, TypeError or ValueError for none."""
    crc = data.get("crc")
    batches, size = int(str(data["batches"])), int(str(data["bytes"]))
    return Place(str(data["file"]), batches, size, None if crc is None else int(str(crc)))
