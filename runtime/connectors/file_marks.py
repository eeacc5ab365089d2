"""Tells new and changed files of a file source: each path with a text that is another once the file has changed."""

from datetime import UTC, datetime, timedelta
from typing import Final

from models.base import StrictModel
from models.errors import Invalid, Terminal
from runtime.connectors._contract import Source
from runtime.connectors._files import FileSource

SETTLING: Final = timedelta(seconds=2)
"""A file that changed so lately may still be written."""


def marks(source: Source[StrictModel], pattern: str, most: int) -> dict[str, str]:
    """The size and date of each file that a glob, a folder or a dataset's name means; none where it means nothing yet.

    Raises `Invalid` for a source that has no files, and where there are more than `most`.
    """
    if not isinstance(source, FileSource):
        raise Invalid(f"a {source.kind} source has no files", hint="name a source of files", path="expression")
    source.place.reach()
    settled = datetime.now(UTC) - SETTLING
    try:
        found = source.place.files(source.config.datasets.get(pattern, pattern), source.suffixes)
    except Terminal:
        return {}
    if len(found) > most:
        hint = "name fewer, by a narrower glob"
        raise Invalid(f"{pattern!r} means {len(found):,} files, more than {most:,}", hint=hint, path="expression")
    return {file.listed: f"{file.size} {file.modified.isoformat()}" for file in found if file.modified <= settled}
