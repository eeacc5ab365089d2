"""Runs a server in the foreground: starts its parts, says where it is, watches over them, stops them."""

import asyncio
import importlib
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from types import ModuleType

from api.cli.output import print_json, say
from api.signing import signed
from models.access import Role
from runtime.embedded.processes import Child
from runtime.embedded.stack import Stack
from runtime.settings import Settings

CHECK_SECONDS = 0.5


def serve(api: Child, port: int | None, *, demo: bool, as_json: bool) -> None:
    """Serve until SIGINT or SIGTERM; raises typed errors when it cannot start, or when a part will not stay."""
    telling: Telling = MachineTelling() if as_json else Telling()
    try:
        settings = Settings.load()
        if port is not None:
            settings = settings.model_copy(update={"port": port})
        stack = Stack(settings, api, telling.mended)
    except BaseException:
        api.stop()
        raise
    asyncio.run(_serve(stack, telling, demo=demo))


async def _serve(stack: Stack, telling: "Telling", *, demo: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    telling.begins(stack)
    working = asyncio.create_task(_work(stack, telling, demo=demo))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        if not working.done():
            telling.stops()
            working.cancel()
        result = (await asyncio.gather(working, return_exceptions=True))[0]
        await asyncio.to_thread(stack.stop)
    if isinstance(result, Exception):
        raise result


async def _work(stack: Stack, telling: "Telling", *, demo: bool) -> None:
    """Start, tell, load the demo where it is wanted, and watch over the parts for as long as they run."""
    await stack.start()
    telling.answers(stack)
    async with AsyncExitStack() as exits:
        watching = asyncio.create_task(_watch(stack))
        exits.callback(watching.cancel)
        demonstration = await exits.enter_async_context(_demonstration().prepared(stack)) if demo else None
        await _unless(watching, stack.runtime_ready())
        telling.runs()
        if demonstration is not None:
            await _unless(watching, demonstration.define())
            telling.loaded(demonstration.pipelines)
        await watching


def _demonstration() -> ModuleType:
    """The demo, imported by whoever wants it alone: it takes as long as the rest."""
    return importlib.import_module("api.cli.demonstration")


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
    """Start again each part that has ended by itself; raises `Unavailable` when one will not stay."""
    while True:
        await stack.mend()
        await asyncio.sleep(CHECK_SECONDS)


class Telling:
    """What a person is told on the way."""

    def begins(self, stack: Stack) -> None:
        """The parts are being started."""
        say(f"starting in {stack.home.path} …", "dim")

    def answers(self, stack: Stack) -> None:
        """The API answers; Ray is still starting."""
        say(f"\n  {link(stack)}\n")
        say("The API is up. What you submit now runs as soon as Ray has started; stop everything with Ctrl-C.", "dim")

    def runs(self) -> None:
        """Executions run."""
        say("The runtime is up: executions run.", "dim")

    def loaded(self, pipelines: list[str]) -> None:
        """The demo's pipelines are saved."""
        say(f"The demo is loaded: {', '.join(pipelines)}. `wedsync run NAME --watch` runs one.")

    def mended(self, happened: str) -> None:
        """A part ended by itself and was started again."""
        say(f"{happened}.", "dim")

    def stops(self) -> None:
        """The parts are being stopped."""
        say("stopping …", "dim")


class MachineTelling(Telling):
    """The same for machines: a line of JSON each."""

    def begins(self, stack: Stack) -> None:
        """The parts are being started."""
        print_json({"stage": "starting", "home": str(stack.home.path), "logs": str(stack.home.logs)})

    def answers(self, stack: Stack) -> None:
        """The API answers; Ray is still starting."""
        print_json({"stage": "ready", "url": stack.addresses.api_url, "link": link(stack)})

    def runs(self) -> None:
        """Executions run."""
        print_json({"stage": "running"})

    def loaded(self, pipelines: list[str]) -> None:
        """The demo's pipelines are saved."""
        print_json({"stage": "loaded", "pipelines": list(pipelines)})

    def mended(self, happened: str) -> None:
        """A part ended by itself and was started again."""
        print_json({"stage": "mended", "what": happened})

    def stops(self) -> None:
        """The parts are being stopped."""
        print_json({"stage": "stopping"})


def link(stack: Stack) -> str:
    """The address that signs its reader in; the token is behind the `#`, which browsers keep to themselves."""
    return f"{stack.addresses.api_url}/graphql#token={signed(stack.settings, Role.SYSTEM_ADMIN)}"
