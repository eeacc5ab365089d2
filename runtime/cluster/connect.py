"""Connects to Ray: a cluster's address from the settings, or a local one started here."""

import logging
import os
import sys
import tempfile
from pathlib import Path

import psutil
import ray
from ray.runtime_env import RuntimeEnv

from models.errors import Unavailable
from runtime.cluster import launcher
from runtime.settings import Settings

NAMESPACE = "wedsync"
MEGABYTE = 1024 * 1024
LONGEST_FOLDER = 40
SERVERS = ("gcs_server", "raylet")


def connect(settings: Settings) -> None:
    """Join or start Ray in our namespace; raises `Unavailable`."""
    if settings.ray_address is None:
        _start(settings)
        return
    try:
        ray.init(
            address=settings.ray_address,
            namespace=NAMESPACE,
            runtime_env=_environment(settings),
            logging_level=logging.WARNING,
        )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        hint = "check RAY_ADDRESS, and RAY_AUTH_TOKEN where the cluster asks for one"
        raise Unavailable(f"no Ray cluster answers at {settings.ray_address}: {error}", hint=hint) from error


def _start(settings: Settings) -> None:
    ray.init(
        num_cpus=worker_slots(settings),
        namespace=NAMESPACE,
        runtime_env=_environment(settings),
        object_store_memory=settings.object_store_mb * MEGABYTE,
        include_dashboard=settings.ray_dashboard,
        dashboard_host="127.0.0.1",
        logging_level=logging.WARNING,
        log_to_driver=False,
        _temp_dir=str(_folder(settings)),
    )


def _environment(settings: Settings) -> RuntimeEnv:
    """What workers are started with."""
    forks = settings.fork_workers and sys.platform == "linux"
    return RuntimeEnv(py_executable=launcher.command()) if forks else RuntimeEnv()


def own_servers() -> list[psutil.Process]:
    """The servers of a local Ray that was started here: its head, and what runs the workers."""
    return [child for child in psutil.Process().children() if child.name() in SERVERS]


def worker_slots(settings: Settings) -> int:
    """How many step tasks may run at once: as set, else twice the cores, for steps wait for other servers too."""
    return settings.worker_slots or 2 * (os.cpu_count() or 1)


def _folder(settings: Settings) -> Path:
    """Ray's folder: in the home, unless its sockets' paths would be too long there."""
    folder = (settings.home / "ray").resolve()
    return folder if len(str(folder)) <= LONGEST_FOLDER else Path(tempfile.gettempdir()) / "wedsync-ray"


def disconnect() -> None:
    """Leave Ray; a local cluster stops with its driver."""
    ray.shutdown()
