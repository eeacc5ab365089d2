"""A server from its start to its end, whether it is asked to stop or killed."""

import re
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx
import orjson
import psutil

from runtime.embedded.home import Home
from runtime.embedded.postgres import OWNER, EmbeddedPostgres
from runtime.embedded.stack import METADATA
from tests.journeys.processes import completed, processes_of, started
from tests.kit.eventually import eventually

STOP_SECONDS = 60.0
RUNTIME_SECONDS = 300.0
HELD = "('check', 'claimed', 'dispatcher:dead', now() + interval '1 hour')"


def link_of(server: "subprocess.Popen[str]") -> str:
    """The link that a server prints once its API answers."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"http://[^\s\"]+", line):
            return found[0]
    raise AssertionError(server.stderr.read() if server.stderr else "")


def gone(home: Path) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return processes_of(home) == set()

    return look


def answers(url: str) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        async with httpx.AsyncClient(timeout=30) as client:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

    return ask


async def as_owner(database: EmbeddedPostgres, query: str) -> object:
    """The first value of a query's first row."""
    connection = await asyncpg.connect(host=str(database.folder), user=OWNER, database=METADATA)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def part_of(home: Path, server: int, name: str) -> list[psutil.Process]:
    """The process of a part of a running server, if it is there; first the one that has run longest."""
    if name == "postgres":
        note = EmbeddedPostgres(Home(home).postgres).folder / "postmaster.pid"
        lines = note.read_text().splitlines() if note.exists() else []
        return [psutil.Process(int(lines[0]))] if lines and psutil.pid_exists(int(lines[0])) else []
    ended = psutil.STATUS_ZOMBIE
    children = [one for one in psutil.Process(server).children() if one.status() != ended]
    children.sort(key=psutil.Process.create_time)
    return [one for one in children if name in (one.name(), *one.cmdline())]


def replaced(home: Path, server: int, name: str, killed: psutil.Process) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return any(one != killed for one in part_of(home, server, name))

    return look


async def test_a_server_is_ready_before_ray_is_and_stops_when_it_is_asked(home: Path) -> None:
    with started(home, "up", "--port", 0) as server:
        url, _, fragment = link_of(server).partition("/graphql#token=")
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for path in ("/livez", "/readyz"):
                assert (await client.get(path)).status_code == httpx.codes.OK
            signed_in = {"authorization": f"Bearer {fragment}"}
            asked = await client.post("/graphql", json={"query": "{ pipelines { totalCount } }"}, headers=signed_in)
            assert asked.json() == {"data": {"pipelines": {"totalCount": 0}}}
        second = completed(home, "up", "--port", 0)
        assert second.returncode == 1
        assert "a server runs in" in second.stderr
        assert Home(home).running().url == url
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=STOP_SECONDS)
        assert (server.returncode, errors) == (0, ""), output
    await eventually(gone(home), within=STOP_SECONDS, because="Ray's dashboard notices within 10 s that Ray has gone")


async def test_a_killed_server_leaves_nothing_running_and_starts_again(home: Path) -> None:
    with started(home, "up", "--port", 0) as server:
        url = link_of(server).partition("/graphql")[0]
        await eventually(answers(f"{url}/readyz/runtime"), within=RUNTIME_SECONDS, because="Ray starts")
        running = processes_of(home)
        assert {"postgres", "gcs_server", "raylet"} <= running
        psutil.Process(server.pid).kill()
        server.wait(STOP_SECONDS)
    await eventually(gone(home), within=STOP_SECONDS, because="each part ends with its parent, or is ended")
    database = EmbeddedPostgres(Home(home).postgres).start()
    try:
        await as_owner(database, "INSERT INTO work_items (kind, state, holder, lease_expires_at) VALUES " + HELD)
    finally:
        database.stop()
    with started(home, "up", "--port", 0) as server:
        url = link_of(server).partition("/graphql")[0]
        held = "SELECT count(*) FROM work_items WHERE holder = 'dispatcher:dead' AND lease_expires_at > now()"
        assert await as_owner(database, held) == 0, "what the killed one held is taken over now"
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            assert (await client.get("/readyz")).status_code == httpx.codes.OK
            dispatcher = await client.get("/readyz/runtime")
            assert dispatcher.status_code == httpx.codes.SERVICE_UNAVAILABLE, "the killed one must not pass for live"


async def test_a_server_that_stops_leaves_no_dispatcher_that_passes_for_live(home: Path) -> None:
    with started(home, "up", "--port", 0) as server:
        url = link_of(server).partition("/graphql")[0]
        await eventually(answers(f"{url}/readyz/runtime"), within=RUNTIME_SECONDS, because="Ray starts")
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=STOP_SECONDS)
    database = EmbeddedPostgres(Home(home).postgres).start()
    try:
        assert await as_owner(database, "SELECT count(*) FROM leases") == 0
    finally:
        database.stop()


async def test_a_part_that_is_killed_is_started_again_and_what_was_acknowledged_is_there(home: Path) -> None:
    with started(home, "up", "--port", 0, "--json") as server:
        url = link_of(server).partition("/graphql")[0]
        for name in ("api.server", "postgres", "valkey-server"):
            killed, *_ = part_of(home, server.pid, name)
            killed.kill()
            await eventually(replaced(home, server.pid, name, killed), within=STOP_SECONDS, because=f"{name} is back")
        await eventually(answers(f"{url}/readyz"), within=STOP_SECONDS, because="all of it is back")
        server.send_signal(signal.SIGINT)
        output, _ = server.communicate(timeout=STOP_SECONDS)
        assert server.returncode == 0
    told = [line["what"] for line in map(orjson.loads, output.splitlines()) if line["stage"] == "mended"]
    for ended in ("the api process was ended by SIGKILL", "PostgreSQL has ended", "Valkey has ended"):
        assert any(ended in line for line in told), told
    await eventually(gone(home), within=STOP_SECONDS, because="the new ones are stopped, too")


def test_a_server_tells_machines_its_stages(home: Path) -> None:
    with started(home, "up", "--port", 0, "--json") as server:
        assert server.stdout is not None
        first, second = (orjson.loads(server.stdout.readline()) for _ in range(2))
        assert (first["stage"], first["home"]) == ("starting", str(home))
        assert second["stage"] == "ready"
        assert second["link"].startswith(f"{second['url']}/graphql#token=")


async def test_a_port_that_is_taken_is_told(home: Path) -> None:
    with started(home, "up", "--port", 0) as server:
        port = link_of(server).split(":")[2].partition("/")[0]
        second = completed(home / "other", "up", "--port", port)
        assert second.returncode == 1
        assert f"port {port} of 127.0.0.1 cannot be used" in second.stderr
