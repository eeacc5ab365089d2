"""A home belongs to one server at a time, and tells other commands where that server is."""

import os
import stat
from pathlib import Path

import pytest

from models.errors import Conflict, NotFound
from runtime.embedded.home import Home, Running

GONE = 2**22 + 1
"""Above Linux's highest process id."""


def running(pid: int) -> Running:
    return Running("http://127.0.0.1:8000", pid, "postgresql+asyncpg://", "postgresql+asyncpg://", "unix:///socket")


def test_a_second_server_in_a_home_is_told_so(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    first.acquire()
    with pytest.raises(Conflict, match="a server runs in") as refusal:
        second.acquire()
    assert refusal.value.specific_code == "home_in_use"
    first.release()
    second.acquire()
    second.release()


def test_what_could_not_be_locked_leaves_the_other_servers_note(tmp_path: Path) -> None:
    first, second = Home(tmp_path), Home(tmp_path)
    first.acquire()
    first.announce(running(os.getpid()))
    with pytest.raises(Conflict):
        second.acquire()
    second.release()
    assert second.running().pid == os.getpid()
    first.release()


def test_a_running_server_tells_where_it_is_to_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire()
    home.announce(running(os.getpid()))
    assert Home(tmp_path).running() == running(os.getpid())
    assert stat.S_IMODE((tmp_path / "server.json").stat().st_mode) == 0o600
    home.release()
    with pytest.raises(NotFound, match="no server runs in"):
        home.running()


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"url": 1}'])
def test_a_note_that_cannot_be_read_is_no_server(tmp_path: Path, note: str) -> None:
    (tmp_path / "server.json").write_text(note)
    with pytest.raises(NotFound) as refusal:
        Home(tmp_path).running()
    assert refusal.value.specific_code == "not_running"


def test_the_note_of_a_server_that_was_killed_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.acquire()
    home.announce(running(GONE))
    with pytest.raises(NotFound, match="no server"):
        Home(tmp_path).running()
    home.release()
