"""Environments of their own for what a benchmark measures or compares with, made by uv and kept between runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def environment(name: str, *requirements: str) -> Path:
    """The folder of commands of an environment that has the requirements, made or brought up to date; bytecode too."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "wedsync-benchmarks" / name
    python = folder / "bin" / "python"
    if not python.exists():
        _uv("venv", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--python", str(python), "--compile-bytecode", *requirements)
    return python.parent


def installed_wedsync() -> Path:
    """The folder of commands of an environment with this tree's wheel and the pinned dependencies."""
    lock = str(ROOT / "deploy" / "requirements.lock")
    return environment("wedsync", "--reinstall-package", "wedsync-pipelines", "-r", lock, str(ROOT))


def _uv(*words: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([str(uv), "--quiet", *words], cwd=ROOT, check=True)
