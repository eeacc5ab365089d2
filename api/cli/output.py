"""What commands print: for people with rich, for machines as JSON, the result always on the last line."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, TypeAlias

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.fields import Json

PLAIN_WIDTH = 200
"""Columns of what is written to a file or a pipe."""

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for machines, the result last.")]


def out() -> Console:
    """The console of results; made when it is used, so that it writes to the standard output of that moment."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def err() -> Console:
    """The console of errors and of what is only told on the way."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str, style: str | None = None) -> None:
    """A line for people, shown as it is: never as markup."""
    out().print(escape(text), style=style)


def print_json(value: Json) -> None:
    """One line of JSON."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """A table; columns whose heading ends in `>` are set to the right. Text is shown as it is, never as markup."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out().print(table)


def duration(milliseconds: float | None) -> str:
    """A span as people write it: `12 ms`, `3.4 s`, `2 min 5 s`; a dash when it is not known."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def moment(at: datetime | None) -> str:
    """A moment in UTC, to the second; a dash when there is none."""
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def count(number: int) -> str:
    """A whole number with separators."""
    return f"{number:,}"
