"""What Ray starts as the interpreter of its workers: has the node's fork server make one, and ends.

Run by its path and without the site's packages, so that a worker costs little more than these imports. The first one
on a node becomes the server. Where none answers, or where it refuses, the worker is started as Ray would have done.
"""

import fcntl
import json
import os
import shlex
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Final

RAYLET: Final = "--raylet-name="
SINGLE: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Keeps libraries from starting threads when they are imported: a copy of a process has only the one that forked."""
WAIT_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.01
READY: Final = b"r"
FORKED: Final = b"f"
BACKLOG: Final = 128


def command() -> str:
    """This file as a command, for the `py_executable` of a runtime environment."""
    return shlex.join([sys.executable, "-I", "-S", os.path.abspath(__file__)])


def main(words: Sequence[str]) -> None:
    """Have the worker started that these words describe: options of Python, Ray's program and its arguments."""
    forked = False
    with suppress(OSError, StopIteration):
        raylet = next(word for word in words if word.startswith(RAYLET)).removeprefix(RAYLET)
        forked = _forked(place_of(raylet), words)
    if not forked:
        os.execv(sys.executable, [sys.executable, *words])


def place_of(raylet: str) -> str:
    """The server's socket, beside that of the node it belongs to, never that one; as long where Ray has named it."""
    folder, name = os.path.split(raylet)
    return os.path.join(folder, f"forker{name.removeprefix('raylet')}")


def _forked(place: str, words: Sequence[str]) -> bool:
    """Whether the server there, begun if there is none, has forked the worker."""
    ends = monotonic() + WAIT_SECONDS
    while monotonic() < ends:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(WAIT_SECONDS)
            try:
                link.connect(place)
            except OSError:
                if not _begun(place):
                    sleep(RETRY_SECONDS)
                continue
            if link.recv(1) != READY:
                return False
            asked = {"words": list(words), "environment": dict(os.environ), "folder": os.getcwd()}
            socket.send_fds(link, [b" "], [0, 1, 2])
            link.sendall(json.dumps(asked).encode())
            link.shutdown(socket.SHUT_WR)
            return link.recv(1) == FORKED
    return False


def _begun(place: str) -> bool:
    """Become the server, while a child goes on from here; false when another process is about to become it.

    The lock is the server's for its life. It listens before it imports, so that who comes meanwhile waits for it
    instead of importing the same beside it.
    """
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    with suppress(FileNotFoundError):
        os.unlink(place)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(place)
    listener.listen(BACKLOG)
    node = int(os.environ.get("RAY_RAYLET_PID", os.getppid()))
    kept = (listener.fileno(), os.pidfd_open(node), lock)
    if os.fork() == 0:
        os.setsid()
        listener.close()
        for descriptor in kept[1:]:
            os.close(descriptor)
        return True
    for descriptor in kept:
        os.set_inheritable(descriptor, True)
    served = [sys.executable, "-P", "-m", "runtime.cluster.forkserver", *map(str, kept[:2])]
    return os.execve(sys.executable, served, {**os.environ, **SINGLE})


if __name__ == "__main__":
    main(sys.argv[1:])
