"""How a command fails: a typed error is one sentence and its remedy, anything else an id under which it is logged."""

import secrets
import traceback
from datetime import UTC, datetime
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperCommand
from typer.exceptions import TyperException

from api.cli.output import err, print_json
from models.errors import DomainError
from models.fields import Json
from runtime.settings import Settings

LOG = "cli.log"


class Command(TyperCommand):
    """A command whose errors end it with status 1 and are told as an error is: what, where, and what to do."""

    def invoke(self, ctx: Any) -> object:
        """Run it."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise
        except DomainError as error:
            _tell(error, as_json=bool(ctx.params.get("as_json")))
        except Exception:
            if ctx.find_root().params.get("debug"):
                raise
            _tell_unexpected(traceback.format_exc())
        raise typer.Exit(1)


def _tell(error: DomainError, *, as_json: bool) -> None:
    place = f"{error.path}: " if error.path else ""
    console = err()
    console.print(f"[red]error[/red] {escape(place + error.message)}")
    if error.hint:
        console.print(f"  {escape(error.hint)}", style="dim")
    if as_json:
        told: dict[str, Json] = {
            "code": error.specific_code,
            "message": error.message,
            "hint": error.hint,
            "path": error.path,
        }
        print_json({"error": told})


def _tell_unexpected(trace: str) -> None:
    identity = secrets.token_hex(6)
    entry = f"{datetime.now(UTC).isoformat()} {identity}\n{trace}\n"
    console = err()
    try:
        log = _log()
        with log.open("a", encoding="utf-8") as file:
            file.write(entry)
    except OSError:
        console.print(escape(trace))
        return
    console.print("[red]error[/red] something went wrong that is not your doing")
    console.print(escape(f"  it is logged as {identity} in {log}; `wedsync --debug …` shows it"), style="dim")


def _log() -> Path:
    """The log of unexpected errors: in the home, or where the settings cannot be read among temporary files."""
    try:
        folder = Settings.load().home.resolve() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
    except (DomainError, OSError):
        folder = Path(gettempdir())
    return folder / LOG
