"""The list of commands comes at once, and says of each what the command says of itself."""

import importlib
import inspect
import subprocess
import sys

import pytest

from api.cli.main import ENTRIES, Entry
from tests.kit.platform import Command

HEAVY = ("models", "runtime.settings", "sqlalchemy", "pyarrow", "ray", "httpx", "graphql")


def test_help_lists_every_command(wedsync: Command) -> None:
    said = wedsync("--help")
    assert said.status == 0
    for entry in ENTRIES:
        assert f" {entry.name} " in said.out


def test_help_imports_nothing_that_takes_time() -> None:
    code = f"""
import sys
from api.cli.main import app
try:
    app(["--help"])
except SystemExit:
    print("imported:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("imported: []\n")


def test_the_servers_command_imports_little_before_the_api_has_begun() -> None:
    code = f"import api.cli.up, api.cli.demo, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_help_says_of_a_command_what_it_says_of_itself(entry: Entry) -> None:
    function = getattr(importlib.import_module(f"api.cli.{entry.module}"), entry.function)
    assert inspect.getdoc(function) is not None
    assert str(inspect.getdoc(function)).splitlines()[0] == entry.help


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_command_has_help(entry: Entry, wedsync: Command) -> None:
    said = wedsync(entry.name, "--help")
    assert said.status == 0
    assert entry.help.split()[0] in said.out


@pytest.mark.parametrize("words", [("nothing",), ("token", "--role", "king"), ("run",), ("demo", "--scale", "-1")])
def test_wrong_usage_is_status_2(words: tuple[str, ...], wedsync: Command) -> None:
    assert wedsync(*words).status == 2


def test_a_mistyped_command_is_guessed(wedsync: Command) -> None:
    assert "Did you mean 'export'" in wedsync("exprot").err


def test_the_version_is_told(wedsync: Command) -> None:
    said = wedsync("--version")
    assert said.status == 0
    assert said.out.strip()
