"""The commands that run a server: up, migrate, token, doctor."""

import asyncio
import os
import platform
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import NAMESPACE_URL, uuid5

import httpx
import typer

from api.cli.output import console, print_json, print_table, told
from models.access import Role
from models.errors import DomainError, Invalid
from models.fields import JsonObject
from models.migrations.run import HEAD_REVISION, current_revision, migrate
from runtime.access.principal import Principal
from runtime.access.secrets import jwt_secret_of
from runtime.access.tokens import expected_of, issue
from runtime.bus import Bus
from runtime.embedded.home import Home
from runtime.embedded.stack import Stack
from runtime.settings import Settings

CHECK_SECONDS = 0.5
TOKEN_HOURS = 12
LEAST_FREE_GB = 2


def made_token(settings: Settings, role: Role, hours: float = TOKEN_HOURS) -> str:
    """A signed token for a person of that role, of the server of this home."""
    secret = jwt_secret_of(settings)
    if secret is None:
        hint = "tokens come from the identity provider; or set WEDSYNC_JWT_SECRET"
        raise Invalid("this server signs no tokens", hint=hint, path="WEDSYNC_JWT_SECRET")
    person = Principal(uuid5(NAMESPACE_URL, f"wedsync:{role.value}"), role, f"{role.value}@localhost")
    lifetime = timedelta(hours=hours)
    return issue(secret, person, lifetime=lifetime, now=datetime.now(UTC), expected=expected_of(settings))


@told
def token(
    role: Annotated[Role, typer.Option(help="What its bearer may do.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How long it is valid.")] = TOKEN_HOURS,
) -> None:
    """Print a token for the server of this home."""
    typer.echo(made_token(Settings.load(), role, hours))


@told
def migrate_command() -> None:
    """Bring the database to the newest revision."""
    settings = Settings.load()
    url = settings.owner_url or settings.database_url or Home(settings.home).running().owner_url
    applied = asyncio.run(migrate(url))
    console.print(f"applied {', '.join(applied)}" if applied else f"up to date at {HEAD_REVISION}")


@told
def up(
    port: Annotated[int | None, typer.Option(help="Where to listen; 0 takes a free port.")] = None,
    demo: Annotated[bool, typer.Option(help="Load the demo wedding platform and its pipelines.")] = False,
) -> None:
    """Start everything and stay until Ctrl-C."""
    settings = Settings.load()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    asyncio.run(_serve(settings, demo=demo))


async def _serve(settings: Settings, *, demo: bool) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    stack = Stack(settings)
    console.print(f"starting in {settings.home.resolve()} …")
    addresses = await stack.start()
    try:
        link = f"{addresses.api_url}/graphql#token={made_token(settings, Role.SYSTEM_ADMIN)}"
        console.print(f"the API is up; what you submit now runs as soon as Ray is\n\n  {link}\n", soft_wrap=True)
        if demo:
            await _load_demo(stack)
        waiting = asyncio.create_task(stack.runtime_ready())
        while not stopping.is_set():
            stack.check()
            if waiting.done() and not waiting.cancelled():
                waiting.result()
                console.print("the runtime is up; stop everything with Ctrl-C")
                waiting = loop.create_future()  # type: ignore[assignment]
            await asyncio.wait([asyncio.create_task(stopping.wait())], timeout=CHECK_SECONDS)
    finally:
        console.print("stopping …")
        stack.stop()
