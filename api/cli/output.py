"""What commands print: for people with rich, for machines as one JSON object on the last line."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Table

from models.errors import DomainError
from models.fields import Json

P = ParamSpec("P")
R = TypeVar("R")

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose typed errors become a sentence, a remedy and exit status 1."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except DomainError as error:
            place = f"{error.path}: " if error.path else ""
            errors.print(f"[red]error[/red] {place}{error.message}", markup=True, soft_wrap=True)
            if error.hint:
                errors.print(f"  {error.hint}", style="dim", soft_wrap=True)
            raise typer.Exit(1) from None

    return guarded


def print_json(value: Json) -> None:
    """One line of JSON."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def print_table(title: str | None, columns: list[str], rows: list[list[str]]) -> None:
    """A table for people; text is shown as it is, never as markup."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(table)
