"""Starts the runtime: `python -m runtime.cluster` connects to Ray, starts a dispatcher and runs until it is stopped."""

import asyncio
import contextlib
import logging
import signal
import sys
from typing import Any

import ray

from models.errors import DomainError
from runtime.cluster.actors import DispatcherActor
from runtime.cluster.connect import connect, disconnect, worker_slots
from runtime.cluster.tasks import warm_up
from runtime.cluster.worker import process_settings

log = logging.getLogger("wedsync.runtime")
STOP_SECONDS = 10.0


async def serve() -> None:
    """Run until SIGINT or SIGTERM; a dispatcher that ends by itself is started again."""
    stopping, settings = asyncio.Event(), process_settings()
    _stop_on_signals(stopping)
    connect(settings)
    # Ray has put a handler of its own in the place of ours: one that exits at once.
    _stop_on_signals(stopping)
    dispatcher: Any = DispatcherActor.remote()
    running = asyncio.ensure_future(dispatcher.run.remote())
    for _ in range(worker_slots(settings)):
        warm_up.remote(0.5)
    log.info("the runtime is up")
    while not stopping.is_set():
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.is_set():
            log.error("the dispatcher ended: %s", running.exception())
            await asyncio.sleep(1.0)
            running = asyncio.ensure_future(dispatcher.run.remote())
    with contextlib.suppress(TimeoutError, ray.exceptions.RayError):
        await asyncio.wait_for(dispatcher.stop.remote(), STOP_SECONDS)


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
