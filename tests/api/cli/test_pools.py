"""Pools are listed, sized and removed."""

from tests.api.cli.conftest import Guests


def test_a_pool_is_sized_listed_and_removed(saved: Guests) -> None:
    assert saved.run("pools", "set", "press", "3").out == "press has 3 slots, 0 of them taken\n"
    listed = saved.run("pools").out
    assert saved.run("pools", "list").out == listed
    assert "press" in listed
    assert "default" in listed
    assert {"name": "press", "slots": 3, "running": 0} in (saved.run("pools", "--json").json or [])  # type: ignore[operator]
    assert saved.run("pools", "remove", "press").out == "press limits nothing any more\n"
    said = saved.run("pools", "remove", "press")
    assert said.status != 0
    assert "there is no pool 'press'" in said.err


def test_half_a_command_is_told_how_it_goes_on(saved: Guests) -> None:
    for words in (("set",), ("set", "press"), ("remove",), ("remove", "press", "3"), ("list", "press")):
        said = saved.run("pools", *words)
        assert said.status != 0
        assert "wedsync pools set NAME SLOTS" in said.err
