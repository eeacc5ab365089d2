"""The doctor says what is reachable, and what to mend."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.kit.platform import Command, Platform, Said


def verdicts(said: Said) -> dict[str, str]:
    """The verdict of each part."""
    assert isinstance(said.json, dict)
    findings = said.json["findings"]
    assert isinstance(findings, list)
    return {str(one["part"]): str(one["verdict"]) for one in findings if isinstance(one, dict)}


def test_a_home_without_a_server_needs_no_mending(wedsync: Command) -> None:
    said = wedsync("doctor", "--json")
    assert said.status == 0, said.out
    found = verdicts(said)
    assert {part for part, verdict in found.items() if verdict == "off"} == {"PostgreSQL", "Valkey", "API", "runtime"}


def test_servers_that_are_away_need_mending(wedsync: Command) -> None:
    away = "127.0.0.1:1"
    said = wedsync(
        "doctor",
        DATABASE_URL=f"postgresql://nobody@{away}/nothing",
        REDIS_URL=f"redis://{away}",
        RAY_ADDRESS=f"ray://{away}",
        WEDSYNC_URL=f"http://{away}",
    )
    assert said.status == 1
    for part in ("PostgreSQL", "Valkey", "Ray", "API", "runtime"):
        assert f"✗ {part}" in said.out
    assert said.out.count("is RAY_ADDRESS right?") == 1


def test_an_address_of_ray_without_a_port_is_told(wedsync: Command) -> None:
    said = wedsync("doctor", RAY_ADDRESS="auto")
    assert said.status == 1
    assert "set RAY_ADDRESS to host:port" in said.out


def test_another_program_at_the_address_is_told(tmp_path: Path, wedsync: Command) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        said = wedsync("doctor", WEDSYNC_URL=f"http://127.0.0.1:{other.server_port}")
        other.shutdown()
    assert said.status == 1
    assert "/readyz answered 404, but no WedSync server does so" in said.out


def test_a_running_server_is_healthy(platform: Platform) -> None:
    said = platform.run("doctor", "--json")
    assert said.status == 0, said.out
    assert set(verdicts(said).values()) == {"ok"}
    assert "✓ PostgreSQL   18" in platform.run("doctor").out
