"""Runs a server in the foreground: starts its parts, says where it is, watches over them, stops them."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack

from api.cli.demonstration import prepared
from api.cli.output import say
from api.client.signing import signed
from models.access import Role
from runtime.embedded.processes import Child
from runtime.embedded.stack import Stack
from runtime.settings import Settings

CHECK_SECONDS = 0.5


def serve(api: Child, port: int | None, *, demo: bool) -> None:
    """Serve until SIGINT or SIGTERM; raises typed errors when it cannot start, or when a part ends by itself."""
    try:
        settings = Settings.load()
        if port is not None:
            settings = settings.model_copy(update={"port": port})
        stack = Stack(settings, api)
    except BaseException:
        api.stop()
        raise
    asyncio.run(_serve(stack, demo=demo))


async def _serve(stack: Stack, *, demo: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    say(f"starting in {stack.home.path} …", "dim")
    working = asyncio.create_task(_work(stack, demo=demo))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not working.done():
            say("stopping …", "dim")
            working.cancel()
        result = (await asyncio.gather(working, return_exceptions=True))[0]
        await asyncio.to_thread(stack.stop)
    if isinstance(result, Exception):
        raise result


async def _work(stack: Stack, *, demo: bool) -> None:
    """Start, tell, load the demo where it is wanted, and watch over the parts for as long as they run."""
    await stack.start()
    say(f"\n  {link(stack)}\n")
    say("The API is up. What you submit now runs as soon as Ray has started; stop everything with Ctrl-C.", "dim")
    async with AsyncExitStack() as exits:
        watching = asyncio.create_task(_watch(stack))
        exits.callback(watching.cancel)
        demonstration = await exits.enter_async_context(prepared(stack)) if demo else None
        await _unless(watching, stack.runtime_ready())
        say("The runtime is up: executions run.", "dim")
        if demonstration is not None:
            await _unless(watching, demonstration.define())
            say(f"The demo is loaded: {', '.join(demonstration.pipelines)}. `wedsync run NAME --watch` runs one.")
        await watching


async def _unless(watching: "asyncio.Task[None]", work: Coroutine[object, object, None]) -> None:
    """Do the work; raises what the watch over the parts finds meanwhile."""
    doing = asyncio.create_task(work)
    try:
        await asyncio.wait([doing, watching], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            await watching
        await doing
    finally:
        doing.cancel()


async def _watch(stack: Stack) -> None:
    """Raise `Unavailable` as soon as a part has ended by itself."""
    while True:
        stack.check()
        await asyncio.sleep(CHECK_SECONDS)


def link(stack: Stack) -> str:
    """The address that signs its reader in; the token is behind the `#`, which browsers keep to themselves."""
    return f"{stack.addresses.api_url}/graphql#token={signed(stack.settings, Role.SYSTEM_ADMIN)}"
