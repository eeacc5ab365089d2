"""Forks a node's workers from one process that has imported everything: soon there, with little memory of their own.

Ray starts a worker as a new interpreter, which imports for two seconds of CPU and then holds 130 MB for itself. A copy
of this process is ready in a tenth of a second, and of what was imported it shares all it does not write to. Begun by
`launcher`; ends with its Ray node.
"""

import gc
import logging
import os
import runpy
import select
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

import ray
from pydantic import ValidationError

from models.base import StrictModel
from runtime.cluster.launcher import FORKED, READY
from runtime.connectors._contract import DESTINATIONS, SOURCES
from runtime.transforms._contract import TRANSFORMS

log = logging.getLogger(__name__)

PRELOADED: Final = (
    "ray._private.workers.default_worker",
    "runtime.cluster.executor",
    "runtime.executions.supervisor",
    "runtime.schedules.ticker",
)
"""What workers import; beside it they load all plugins. A module with actors is not among these: Ray draws random
numbers when it makes their classes, and each copy would go on with the same ones."""
UNUSED: Final = ("polars",)
"""What a driver imports where it is installed, for what is not done here; it starts threads with that."""
TALK_SECONDS: Final = 5.0
STREAMS: Final = 3
READ_BYTES: Final = 1 << 16
_CREDENTIALS: Final = struct.Struct("3i")


class Asked(StrictModel):
    """A worker to be made: options of Python, Ray's program and its arguments; its environment; where it is started."""

    words: tuple[str, ...]
    environment: dict[str, str]
    folder: Path

    def work(self) -> None:
        """Be that worker, until its work is done."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv = list(self.words[next(at for at, word in enumerate(self.words) if not word.startswith("-")) :])
        runpy.run_path(sys.argv[0], run_name="__main__")


def main(listener: socket.socket, node: int) -> None:
    """Fork a worker for each that asks, until the node, a process's descriptor, ends; a worker returns at its end."""
    reason = unfit()
    if reason is not None:
        log.warning("workers are started as new processes, not forked: %s", reason)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener.fileno(), node], [], [])
        if node in ready:
            return
        link, _ = listener.accept()
        with link:
            asked, streams = (None, ()) if reason else _heard(link)
            if asked is not None and os.fork() == 0:
                listener.close()
                os.close(node)
                _stand_alone(link, streams)
                asked.work()
                return
        for stream in streams:
            os.close(stream)


def unfit() -> str | None:
    """Import what workers need; answers why copies of this process would not be as good as new ones, if so.

    The threads of a process are not copied, only what they held. A generator of random numbers that has been seeded
    has every copy draw the same identifiers.
    """
    _load()
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        return f"imports have started {threads} threads"
    if _drawn() == _drawn():
        return "imports have seeded Ray's random numbers"
    return None


def _load() -> None:
    hidden = dict.fromkeys(set(UNUSED) - set(sys.modules))
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None: not to be imported
    for name in PRELOADED:
        import_module(name)
    for plugins in (SOURCES, DESTINATIONS, TRANSFORMS):
        plugins.all()
    for name in hidden:
        del sys.modules[name]


def _drawn() -> bytes:
    """A random identifier that a copy of this process draws."""
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        os.write(writing, ray.ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        drawn = told.read()
    os.waitpid(copy, 0)
    return drawn


def _heard(link: socket.socket) -> tuple[Asked | None, Sequence[int]]:
    """What the other side asks for and its standard streams; nothing of a stranger, or of one that is gone."""
    link.settimeout(TALK_SECONDS)
    _, user, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if user != os.getuid():
        return None, ()
    streams: Sequence[int] = ()
    try:
        link.sendall(READY)
        _, streams, _, _ = socket.recv_fds(link, 1, STREAMS)
        return Asked.model_validate_json(b"".join(iter(lambda: link.recv(READ_BYTES), b""))), streams
    except (OSError, ValidationError):
        return None, streams


def _stand_alone(link: socket.socket, streams: Sequence[int]) -> None:
    """Take up the streams of a worker that is to be, in a process group of its own, which Ray kills with it."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    link.sendall(FORKED)
    link.close()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
