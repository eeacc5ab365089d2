"""Small disks for a world to lie on, in memory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SHELF: Final = "shelf"
SHELF_MB: Final = 8
APART: Final = "WEDSYNC_CHAOS_APART"


def go_apart() -> None:
    """Begin this process again with mounts of its own, which go with it and its children however they end."""
    if APART not in os.environ:
        os.environ[APART] = "1"
        command = ["unshare", "--mount", "--propagation=private", sys.executable, *sys.orig_argv[1:]]
        os.execvp(command[0], command)


@contextmanager
def small_disks(folder: Path, megabytes: int) -> Iterator[None]:
    """Lay a folder on a disk of this size, and in it `shelf` on a smaller one; needs root, and to have gone apart.

    No disk is mounted for a size of 0.
    """
    if not megabytes:
        yield
        return
    shelf = folder / SHELF
    mounted(folder, megabytes)
    shelf.mkdir()
    mounted(shelf, SHELF_MB)
    try:
        yield
    finally:
        for one in (shelf, folder):
            subprocess.run(["umount", "--lazy", str(one)], check=False)


def mounted(folder: Path, megabytes: int, *, again: bool = False) -> None:
    """Mount a disk of this size, or give one that is mounted another size; raises CalledProcessError."""
    options = f"{'remount,' * again}size={megabytes}m,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
