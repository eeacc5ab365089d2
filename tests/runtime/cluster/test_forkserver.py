"""Workers as Ray has them started, from programs of the test's own: copies of one process, or else new ones."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import pytest

from models.base import StrictModel
from runtime.cluster import launcher
from runtime.embedded.processes import import_path
from runtime.embedded.stack import RUNTIME, Stack
from tests.kit.eventually import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")

WORKER: Final = """
import json, os, random, sys
was_loaded = "runtime.cluster.tasks" in sys.modules
import ray
told = {
    "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0), "name": __name__, "words": sys.argv[1:],
    "folder": os.getcwd(), "word": os.environ["WORD"], "was_loaded": was_loaded,
    "drawn": [ray.ObjectRef.from_random().hex(), str(random.random())],
}
print("standing by", file=sys.stderr, flush=True)
with open(sys.argv[-1] + ".new", "w") as file:
    json.dump(told, file)
os.replace(sys.argv[-1] + ".new", sys.argv[-1])
"""
NODE: Final = """
import json, os, subprocess, sys
for line in sys.stdin:
    command, environment = json.loads(line)
    subprocess.Popen(["bash", "-c", "exec " + command], env=os.environ | environment, stdin=subprocess.DEVNULL)
"""
"""Starts commands as Ray does, and ends without waiting for them."""


THREAD: Final = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"


class Told(StrictModel):
    """What a worker says of itself."""

    pid: int
    parent: int
    group: int
    name: str
    words: tuple[str, ...]
    folder: str
    word: str
    was_loaded: bool
    drawn: tuple[str, ...]


@dataclass
class Node:
    """Stands for a Ray node: the process that has workers started, and the folder of its sockets."""

    folder: Path
    started: int = 0
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "worker.py").write_text(WORKER)
        with (self.folder / "said").open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", NODE],
                env={**os.environ, **import_path()},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                cwd=self.folder,
            )

    @property
    def said(self) -> str:
        """What its processes have written."""
        return (self.folder / "said").read_text()

    async def worker(self, **environment: str) -> Told:
        """Start a worker; answers what it says."""
        self.started += 1
        answer = self.folder / f"{self.started}.json"
        program = ["-s", str(self.folder / "worker.py"), f"--raylet-name={self.folder}/raylet", str(answer)]
        command = f"{launcher.command()} {shlex.join(program)}"
        assert self.process.stdin is not None
        print(json.dumps([command, {"WORD": f"of {self.started}", **environment}]), file=self.process.stdin, flush=True)

        async def told() -> Told | None:
            return Told.model_validate_json(answer.read_bytes()) if answer.exists() else None

        return await eventually(told, within=60.0, because="the worker starts")

    def end(self) -> None:
        """End the node, and with it what serves it."""
        self.process.communicate(timeout=10.0)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node for many tests."""
    with running(tmp_path_factory.mktemp("node")) as made:
        yield made


@contextmanager
def running(folder: Path) -> Iterator[Node]:
    """A node; what it started has ended when this does."""
    made = Node(folder)
    try:
        yield made
    finally:
        made.end()


async def test_workers_are_copies_of_one_loaded_process(node: Node) -> None:
    first, second = await node.worker(), await node.worker()
    assert first.parent == second.parent != node.process.pid
    assert (first.was_loaded, second.was_loaded) == (True, True)


async def test_a_worker_is_what_its_command_says(node: Node) -> None:
    told = await node.worker()
    assert told.name == "__main__"
    assert told.words == (f"--raylet-name={node.folder}/raylet", str(node.folder / f"{node.started}.json"))
    assert (told.folder, told.word) == (str(node.folder), f"of {node.started}")
    assert node.said.count("standing by") == node.started


async def test_copies_draw_numbers_of_their_own(node: Node) -> None:
    first, second = await node.worker(), await node.worker()
    assert not set(first.drawn) & set(second.drawn)


async def test_a_worker_leads_a_group_of_its_own(node: Node) -> None:
    first, second = await node.worker(), await node.worker()
    assert (first.group, second.group) == (first.pid, second.pid)


async def test_another_takes_the_place_of_a_server_that_was_killed(node: Node) -> None:
    before = await node.worker()
    os.kill(before.parent, signal.SIGKILL)
    after = await node.worker()
    assert after.parent not in (before.parent, node.process.pid)
    assert after.was_loaded


async def test_the_server_ends_with_its_node(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        server = psutil.Process((await node.worker()).parent)
    assert psutil.wait_procs([server], timeout=10.0)[1] == []


async def test_a_process_that_cannot_be_copied_is_not(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD)
    with running(tmp_path) as node:
        workers = [await node.worker(PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}") for _ in range(2)]
        assert [told.was_loaded for told in workers] == [False, False]
        assert workers[1].parent == node.process.pid
        assert "imports have started 1 threads" in node.said


def test_the_workers_of_the_runtime_are_forked(stack: Stack) -> None:
    there = psutil.Process(stack.parts.pid(RUNTIME)).children(recursive=True)
    (dispatcher,) = [one for one in there if "DispatcherProcess" in " ".join(one.cmdline())]
    server = dispatcher.parent()
    assert server is not None
    assert "runtime.cluster.forkserver" in server.cmdline()


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("", "None"),
        (THREAD, "imports have started 1 threads"),
        ("import ray; ray.ObjectRef.from_random()", "imports have seeded Ray's random numbers"),
    ],
)
def test_what_keeps_a_process_from_being_copied_is_told(before: str, reason: str) -> None:
    program = f"{before}\nfrom runtime.cluster.forkserver import unfit\nprint(unfit())"
    environment = {**os.environ, **import_path(), **launcher.SINGLE}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == reason


@pytest.mark.parametrize(
    ("raylet", "place"),
    [("/s/raylet", "/s/forker"), ("/s/raylet.1", "/s/forker.1"), ("/raylet/own", "/raylet/forkerown")],
)
def test_each_node_has_a_server_of_its_own_whose_socket_is_not_the_nodes(raylet: str, place: str) -> None:
    assert launcher.place_of(raylet) == place


def test_what_belongs_to_no_node_is_started_as_it_is() -> None:
    program = shlex.join(["-c", "import sys; print(sys.argv[1:])", "--raylet"])
    ran = subprocess.run(
        ["bash", "-c", f"exec {launcher.command()} {program}"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "['--raylet']"
