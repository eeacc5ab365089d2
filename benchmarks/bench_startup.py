"""How long until `wedsync demo` has ended, and until a server that `wedsync up` starts answers?"""

import os
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Final

import httpx
import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.environments import installed_wedsync
from benchmarks.headline import Headline, seconds

HOMES: Final = 3
POLL_SECONDS: Final = 0.01
GIVE_UP_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
PORTS: Final = range(20_000, 30_000)
OURS: Final = ("WEDSYNC_", "DATABASE_URL", "REDIS_URL", "RAY_")


@pytest.fixture(scope="session")
def wedsync() -> str:
    """The command, installed as a user's package index would give it."""
    return str(installed_wedsync() / "wedsync")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter, too."""
    made = Path(tempfile.mkdtemp(prefix="wedsync-start-"))
    made.chmod(0o755)
    yield made
    rmtree(made, ignore_errors=True)


def environment(home: Path | None = None) -> Mapping[str, str]:
    """This machine's environment without settings of ours but the home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept if home is None else {**kept, "WEDSYNC_HOME": str(home)}


def test_demo_to_its_exit(wedsync: str, folder: Path, benchmark: BenchmarkFixture) -> None:
    said: list[str] = []

    def demo() -> None:
        words = [wedsync, "demo", "--json"]
        done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
        said.append(done.stdout)

    (took,) = seconds(benchmark, demo)
    told = orjson.loads(said[0].splitlines()[-1])
    assert {one["status"] for one in told["pipelines"]} == {"completed"}, told
    records = sum(one["records"] for one in told["pipelines"])
    headline = Headline(round(took, 1), f"s to exit, {records:,} records", "nothing", "<= 90 s")
    headline.on(benchmark, records=records)


def free_port() -> int:
    """One below those that the kernel gives to whoever connects, so that nobody takes it before the server does."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port is free")


@contextmanager
def up(wedsync: str, home: Path) -> Iterator[httpx.Client]:
    """A server just begun, and a client of its address; stopped with a signal at the end."""
    port = free_port()
    words = [wedsync, "up", "--port", str(port)]
    with (home.parent / "up.log").open("ab") as log:
        process = subprocess.Popen(words, cwd=home.parent, env=environment(home), stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5.0, trust_env=False) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0, (home.parent / "up.log").read_text()


def seconds_until(client: httpx.Client, path: str, began: float) -> float:
    """Ask until the path answers 200."""
    while time.perf_counter() - began < GIVE_UP_SECONDS:
        with suppress(httpx.HTTPError):
            if client.get(path).status_code == httpx.codes.OK:
                return time.perf_counter() - began
        time.sleep(POLL_SECONDS)
    pytest.fail(f"{path} did not answer 200 within {GIVE_UP_SECONDS:g} s")


def start(wedsync: str, home: Path) -> dict[str, float]:
    """Start a server in a home, and see how long each probe takes to say yes."""
    began = time.perf_counter()
    with up(wedsync, home) as client:
        paths = ("/livez", "/readyz", "/readyz/runtime")
        return {path: seconds_until(client, path, began) for path in paths}


@pytest.mark.parametrize("occasion", ["first", "second"])
def test_up_until_ready(wedsync: str, folder: Path, benchmark: BenchmarkFixture, occasion: str) -> None:
    """Of a home: the first start makes its PostgreSQL and migrates it."""
    homes = [folder / str(number) for number in range(HOMES)]
    if occasion == "second":
        for home in homes:
            start(wedsync, home)
    waiting = iter(homes)
    found: list[dict[str, float]] = []
    seconds(benchmark, lambda: found.append(start(wedsync, next(waiting))), rounds=HOMES)
    medians = {path: round(statistics.median(one[path] for one in found), 2) for path in found[0]}
    headline = Headline(
        value=f"{medians['/livez']} / {medians['/readyz']}",
        unit=f"s to /livez / /readyz, {occasion} start of a home",
        against=f"Ray: executions run after {medians['/readyz/runtime']} s",
        target="<= 4 s",
    )
    headline.on(benchmark, **medians)
