"""Servers started as a person starts them, in homes of their own, and what they leave running."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from runtime.embedded.processes import SOURCE
from tests.kit.platform import environment_of


def environment(home: Path) -> dict[str, str]:
    """The environment of a home, for a process of its own."""
    changes = environment_of(home)
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    return {**kept, **{name: value for name, value in changes.items() if value is not None}, "PYTHONPATH": str(SOURCE)}


def command(*arguments: object) -> list[str]:
    """The words of a command of `wedsync`."""
    return [sys.executable, "-m", "api.cli", *(str(argument) for argument in arguments)]


def completed(home: Path, *arguments: object, seconds: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """A command that ends by itself, ended, whatever its status."""
    words, variables = command(*arguments), environment(home)
    return subprocess.run(words, env=variables, capture_output=True, text=True, timeout=seconds, check=False)


@contextmanager
def started(home: Path, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A command that stays; it is killed at the end if it still runs."""
    output = subprocess.PIPE
    with subprocess.Popen(
        command(*arguments), env=environment(home), stdout=output, stderr=output, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


def processes_of(home: Path) -> set[str]:
    """The names of what runs in a home or was started for it: its servers, and all of its Ray."""
    found = set[str]()
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        try:
            mine = str(home) in words or process.environ().get("WEDSYNC_HOME") == str(home)
        except (psutil.Error, OSError):
            mine = str(home) in words
        if mine and process.info["pid"] != os.getpid():
            found.add(str(process.info["name"]))
    return found
