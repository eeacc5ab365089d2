"""A Ray cluster of several nodes on this machine, each as `ray start` makes it on a machine of its own."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Final

import psutil

from runtime.embedded.guard import Guard
from runtime.embedded.processes import import_path
from tests.kit.eventually import eventually
from tests.kit.faults import LOOPBACK

OBJECT_STORE_BYTES: Final = 200 * 1024 * 1024
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 15.0
STARTED: Final = b"Ray runtime started"
SLOTS: Final = 2
"""How many steps may run at once on a node."""


@dataclass
class Cluster:
    """Its nodes, the head first. `environment` is what their workers find; it holds secrets."""

    folder: Path
    environment: Mapping[str, str]
    guard: Guard
    nodes: list[psutil.Process] = field(default_factory=list)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str | None:
        """Where the head listens; None when there is none."""
        return f"{LOOPBACK}:{self.port}" if self.nodes else None

    async def begin(self, count: int) -> None:
        """Start a head and further nodes, so many in all."""
        with closing(socket.socket()) as probe:
            probe.bind((LOOPBACK, 0))
            self.port = int(probe.getsockname()[1])
        await self._start("--head", f"--port={self.port}", f"--temp-dir={self.folder}", "--include-dashboard=false")
        for _ in range(count - 1):
            await self.add()

    async def add(self) -> None:
        """Start a further node, and wait until it is there: two that start at once would want the same ports."""
        await self._start(f"--address={self.address}")

    async def _start(self, *more: str) -> None:
        said = self.folder.parent / f"node-{len(self.started)}.log"
        started = self._process(said, *more)
        self.guard.end(started.pid, signal.SIGTERM)
        self.started.append(started)
        self.nodes.append(psutil.Process(started.pid))

        async def is_there() -> bool:
            return started.poll() is not None or STARTED in said.read_bytes()

        await eventually(is_there, within=START_SECONDS, because=f"a node starts; see {said}")

    def _process(self, said: Path, *more: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        given = [f"--num-cpus={SLOTS}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        with said.open("wb") as log:
            return subprocess.Popen(
                [*command, *given, "--dashboard-agent-listen-port=0", *more],
                env={**os.environ, **import_path(), "RAY_worker_niceness": "0", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, node: psutil.Process) -> None:
        """kill -9 of a node and of all that runs there, at one moment, as when a machine is gone."""
        self.nodes.remove(node)
        _killed([*node.children(recursive=True), node])

    def processes(self) -> Iterator[psutil.Process]:
        """All that runs on the nodes."""
        for node in self.nodes:
            with suppress(psutil.Error):
                yield from node.children(recursive=True)

    def end(self) -> None:
        """End all of it."""
        _killed([*self.processes(), *self.nodes])
        for one in self.started:
            one.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


@asynccontextmanager
async def cluster_of(nodes: int, cluster: Cluster) -> AsyncIterator[Cluster]:
    """The cluster with so many nodes, and its token for all that is started meanwhile; with none Ray is a local one."""
    if not nodes:
        yield cluster
        return
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token_hex(32))
    try:
        await cluster.begin(nodes)
        yield cluster
    finally:
        await asyncio.to_thread(cluster.end)
        del os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]


def _killed(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, STOP_SECONDS)
