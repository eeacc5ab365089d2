"""Serves the vendor API on loopback, on a thread and a port of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread
from time import monotonic

import uvicorn

from models.errors import Unavailable
from runtime.demo.vendor_api import VendorApi

HOST = "127.0.0.1"
START_SECONDS = 10.0


@asynccontextmanager
async def serve_vendor_api(api: VendorApi, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; gives the base URL (`http://127.0.0.1:40123`). Port 0 takes any that is free.

    Raises `Unavailable` when the port is taken. The thread has an event loop of its own, so that callers who block
    theirs are answered too.
    """
    listener = _listen(port)
    config = uvicorn.Config(
        api.app(), log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],), name="vendor-api", daemon=True)
    thread.start()
    try:
        await _started(server, thread)
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.to_thread(thread.join, START_SECONDS)
        listener.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise Unavailable(f"port {port} is taken", hint="free it, or give 0 for any that is free") from error
    return listener


async def _started(server: uvicorn.Server, thread: Thread) -> None:
    deadline = monotonic() + START_SECONDS
    while not server.started:
        if not thread.is_alive() or monotonic() > deadline:
            raise Unavailable("the vendor API does not start", hint="is the machine out of memory or threads?")
        await asyncio.sleep(0.01)
