"""Starts the runtime: `python -m runtime.cluster` starts a dispatcher and a scheduler on Ray, until it is stopped."""

import asyncio
import contextlib
import logging
import signal
import sys
from typing import Any

import psutil
import ray

from models.errors import DomainError, Unavailable
from runtime.cluster.actors import DispatcherActor
from runtime.cluster.connect import connect, disconnect, own_servers, worker_slots
from runtime.cluster.scheduler import SchedulerActor
from runtime.cluster.tasks import warm_up
from runtime.cluster.worker import process_settings

log = logging.getLogger("wedsync.runtime")
STOP_SECONDS = 10.0
AGAIN_SECONDS = 1.0
CHECK_SECONDS = 1.0


async def serve() -> None:
    """Run until SIGINT or SIGTERM; a dispatcher or scheduler that ends by itself is started again."""
    stopping, settings = asyncio.Event(), process_settings()
    _stop_on_signals(stopping)
    connect(settings)
    # Ray has put a handler of its own in the place of ours: one that exits at once.
    _stop_on_signals(stopping)
    actors: dict[str, Any] = {"dispatcher": DispatcherActor.remote(), "scheduler": SchedulerActor.remote()}
    keeping = [asyncio.create_task(_kept(name, actor)) for name, actor in actors.items()]
    for _ in range(worker_slots(settings)):
        warm_up.remote(0.5)
    log.info("the runtime is up")
    servers = own_servers()
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                await stopping.wait()
        for server in servers:
            _require(server)
    for task in keeping:
        task.cancel()
    stops = [_stopped(actor) for actor in actors.values()]
    await asyncio.gather(*stops)


async def _kept(name: str, actor: Any) -> None:
    """Have an actor run, and again whenever it ends."""
    while True:
        try:
            await actor.run.remote()
        except ray.exceptions.RayError as error:
            log.error("the %s ended: %s", name, error)
        await asyncio.sleep(AGAIN_SECONDS)


async def _stopped(actor: Any) -> None:
    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        async with asyncio.timeout(STOP_SECONDS):
            await actor.stop.remote()


def _require(server: psutil.Process) -> None:
    """Raise `Unavailable` when a server of the local Ray has ended: whoever started us begins all of it again."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if server.is_running() and server.status() != psutil.STATUS_ZOMBIE:
            return
    raise Unavailable("the local Ray has lost one of its servers", hint="begin the runtime again", code="ray_lost")


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)


def main() -> int:
    """The process's entry: 0 after a stop, 1 with a sentence when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve())
    except DomainError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        disconnect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
