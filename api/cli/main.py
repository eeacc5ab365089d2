"""The command `wedsync`: its commands by name, each imported only when it is called, so that help comes at once."""

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: its name, the module and function that it is made of, and what help says of it."""

    name: str
    module: str
    function: str
    help: str
    panel: str


SERVER, PIPELINES, RUNS = "The server", "Pipelines", "Runs"

ENTRIES = (
    Entry("up", "up", "up", "Start everything and stay until Ctrl-C.", SERVER),
    Entry("demo", "demo", "demo", "Run the demo wedding platform's pipelines to the end, and tell what moved.", SERVER),
    Entry("migrate", "server", "migrate", "Bring the database to the newest revision.", SERVER),
    Entry("token", "server", "token", "Print a token for the server of this home.", SERVER),
    Entry("doctor", "doctor", "doctor", "Tell what is reachable, in which version, and what to mend.", SERVER),
    Entry("apply", "files", "apply", "Save the pipelines, sources and destinations of YAML files, by name.", PIPELINES),
    Entry("diff", "files", "diff", "Tell what `apply` would change; exit status 1 if anything.", PIPELINES),
    Entry("export", "files", "export", "Print pipelines as YAML.", PIPELINES),
    Entry("validate", "files", "validate", "Check YAML files without a server.", PIPELINES),
    Entry("plan", "files", "plan", "Print the plan of a pipeline, or of the pipelines of a YAML file.", PIPELINES),
    Entry("restore", "restoring", "restore", "Bring an earlier version of a table back, or list them.", PIPELINES),
    Entry("schema", "server", "schema", "Print the GraphQL schema.", PIPELINES),
    Entry("run", "runs", "run", "Run a pipeline.", RUNS),
    Entry("backfill", "backfilling", "backfill", "Run a range of a pipeline's past in chunks, or steer that.", RUNS),
    Entry("executions", "runs", "executions", "List executions, the newest first.", RUNS),
    Entry("logs", "runs", "logs", "Print the log of an execution.", RUNS),
    Entry("retry", "retrying", "retry", "Run what a failed execution did not finish.", RUNS),
    Entry("rerun", "retrying", "rerun", "Run the steps of an execution again from one on.", RUNS),
    Entry("pools", "pools", "pools", "List the pools that limit executions, set the size of one, or remove it.", RUNS),
    Entry("schedule", "schedules", "schedule", "List, pause and resume schedules, and tell their moments.", RUNS),
    Entry("cancel", "runs", "cancel", "Ask an execution to stop.", RUNS),
)


class Deferred(TyperCommand):
    """Stands for a command in the list of commands; called, it imports the real one and steps aside."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(name=entry.name, help=entry.help, rich_help_panel=entry.panel)
        self._entry = entry

    def load(self) -> TyperCommand:
        """The real command."""
        failures = importlib.import_module("api.cli.failures")
        module = importlib.import_module(f"api.cli.{self._entry.module}")
        made = typer.Typer(add_completion=False)
        made.command(self._entry.name, cls=failures.Command)(getattr(module, self._entry.function))
        command = typer.main.get_command(made)
        assert isinstance(command, TyperCommand)
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the real command."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class Commands(TyperGroup):
    """The group of all commands."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": {entry.name: Deferred(entry) for entry in ENTRIES}})


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        typer.echo(version("wedsync-pipelines"))
    except PackageNotFoundError:
        typer.echo("not installed: run from its source")
    raise typer.Exit


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def wedsync(
    _debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Define, run and watch data pipelines."""


def main() -> None:
    """The entry of the console script."""
    app(prog_name="wedsync")
