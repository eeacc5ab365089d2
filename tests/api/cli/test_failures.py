"""What goes wrong is told in a sentence with its remedy; what nobody expected is logged under an id."""

import re
from pathlib import Path

import typer
from typer.testing import CliRunner

from api.cli.failures import Command
from models.errors import Invalid
from tests.kit.platform import Command as Wedsync
from tests.kit.platform import environment_of


def test_a_typed_error_is_a_sentence_and_its_remedy(wedsync: Wedsync) -> None:
    said = wedsync("executions")
    assert said.status == 1
    assert said.out == ""
    assert re.fullmatch(r"error no server runs in \S+\n  start one with `wedsync up`.*\n", said.err)


def test_a_typed_error_is_json_for_machines_too(wedsync: Wedsync) -> None:
    said = wedsync("executions", "--json")
    assert said.status == 1
    assert isinstance(said.json, dict)
    error = said.json["error"]
    assert isinstance(error, dict)
    assert (error["code"], error["path"]) == ("not_running", None)


def test_the_settings_are_checked_first(wedsync: Wedsync) -> None:
    said = wedsync("token", "--role", "data_analyst", WEDSYNC_PORT="many")
    assert said.status == 1
    assert "WEDSYNC_PORT" in said.err


def _app(error: Exception) -> typer.Typer:
    """A program of one command, which fails."""
    made = typer.Typer(add_completion=False)

    @made.command(cls=Command)
    def fail() -> None:
        raise error

    return made


def test_what_nobody_expected_is_logged_under_an_id(tmp_path: Path) -> None:
    result = CliRunner().invoke(_app(RuntimeError("the disk is on fire")), [], env=environment_of(tmp_path))
    assert result.exit_code == 1
    identity = re.search(r"it is logged as (\w+) in (\S+);", result.stderr)
    assert identity is not None
    assert "the disk is on fire" not in result.stderr
    logged = Path(identity[2]).read_text()
    assert identity[1] in logged
    assert "RuntimeError: the disk is on fire" in logged


def test_an_errors_text_is_no_markup(tmp_path: Path) -> None:
    result = CliRunner().invoke(_app(Invalid("[bold]x[/bold]", path="a[0]")), [], env=environment_of(tmp_path))
    assert result.stderr == "error a[0]: [bold]x[/bold]\n"
