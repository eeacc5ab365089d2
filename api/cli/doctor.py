"""The command doctor: looks at everything a server needs and says what is wrong with it and how to mend it."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import httpx
import orjson
import typer
from rich.markup import escape
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.cli.output import AsJson, out, print_json
from models.errors import DomainError, NotFound
from models.migrations.run import HEAD_REVISION, current_revision
from runtime.bus import Bus
from runtime.embedded.home import Home, Running
from runtime.settings import Settings

LEAST_FREE_GB: Final = 2
LEAST_POSTGRES: Final = 150_000
WAIT_SECONDS: Final = 5.0
PACKAGES: Final = ("ray", "duckdb", "pyarrow", "sqlglot", "strawberry-graphql", "adbc-driver-postgresql")
PYTHONS: Final = ((3, 11), (3, 14))


class Verdict(StrEnum):
    """How a part is: fine, not started (which is no fault), or in need of mending."""

    OK = "ok"
    OFF = "off"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one part, and what to do about it."""

    part: str
    verdict: Verdict
    detail: str
    remedy: str | None = None


MARKS: Final = {Verdict.OK: "[green]✓[/green]", Verdict.OFF: "[dim]-[/dim]", Verdict.BAD: "[red]✗[/red]"}


def doctor(as_json: AsJson = False) -> None:
    """Tell what is reachable, in which version, and what to mend.

    Exit status 1 if something needs mending; a server that is not started needs none.
    """
    settings = Settings.load()
    findings = [_python(), _packages(), _home(settings.home), *asyncio.run(_services(settings))]
    if as_json:
        print_json({"healthy": _healthy(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        _show(findings)
    if not _healthy(findings):
        raise typer.Exit(1)


def _healthy(findings: Sequence[Finding]) -> bool:
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def _show(findings: Sequence[Finding]) -> None:
    console = out()
    for finding in findings:
        console.print(f"{MARKS[finding.verdict]} {finding.part:<12} {escape(finding.detail)}")
        if finding.remedy and finding.verdict is not Verdict.OK:
            console.print(f"  {'':<12} {escape(finding.remedy)}", style="dim")


def _python() -> Finding:
    found = sys.version_info[:2]
    detail = f"{sys.version.split()[0]} at {sys.executable}"
    least, most = PYTHONS
    if least <= found <= most:
        return Finding("Python", Verdict.OK, detail)
    remedy = f"Ray has wheels for {least[0]}.{least[1]} to {most[0]}.{most[1]}: make the environment with one of them"
    return Finding("Python", Verdict.BAD, detail, remedy)


def _packages() -> Finding:
    known, missing = list[str](), list[str]()
    for name in PACKAGES:
        try:
            known.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        remedy = "install them: `uv pip install -r deploy/requirements.lock`"
        return Finding("packages", Verdict.BAD, f"missing: {', '.join(missing)}", remedy)
    return Finding("packages", Verdict.OK, ", ".join(known))


def _home(home: Path) -> Finding:
    """The folder of data: whether it can be written, and how much room is left."""
    place = home.resolve()
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        remedy = "give yourself the right to write there, or set WEDSYNC_HOME"
        return Finding("home", Verdict.BAD, f"{place} cannot be written", remedy)
    free = shutil.disk_usage(existing).free / 1024**3
    detail = f"{place}, {free:.1f} GB free"
    if free < LEAST_FREE_GB:
        return Finding("home", Verdict.BAD, detail, f"free some space: at least {LEAST_FREE_GB} GB are needed")
    return Finding("home", Verdict.OK, detail)


async def _services(settings: Settings) -> list[Finding]:
    try:
        running: Running | None = Home(settings.home).running()
    except NotFound:
        running = None
    owner_url = settings.owner_url or settings.database_url or (running.owner_url if running else None)
    redis_url = settings.redis_url or (running.redis_url if running else None)
    url = settings.url or (running.url if running else None)
    checks = [_postgres(owner_url), _redis(redis_url), _ray(settings.ray_address), _api(url), _runtime(url)]
    return list(await asyncio.gather(*checks))


async def _in_time(part: str, look: Callable[[], Awaitable[Finding]], remedy: str) -> Finding:
    """What a look finds, or that there was no answer within the seconds."""
    try:
        return await asyncio.wait_for(look(), WAIT_SECONDS)
    except TimeoutError:
        return Finding(part, Verdict.BAD, f"no answer within {WAIT_SECONDS:g} s", remedy)
    except DomainError as error:
        return Finding(part, Verdict.BAD, error.message, error.hint or remedy)


async def _postgres(url: str | None) -> Finding:
    if url is None:
        return Finding("PostgreSQL", Verdict.OFF, "embedded, not started", "`wedsync up` starts it")

    async def look() -> Finding:
        number, name = await _postgres_version(url)
        revision = await current_revision(url)
        if number < LEAST_POSTGRES:
            return Finding("PostgreSQL", Verdict.BAD, f"{name} is too old", "version 15 or later is needed")
        if revision != HEAD_REVISION:
            detail = f"{name}, at revision {revision or 'none'} instead of {HEAD_REVISION}"
            return Finding("PostgreSQL", Verdict.BAD, detail, "run `wedsync migrate`")
        return Finding("PostgreSQL", Verdict.OK, f"{name}, revision {revision}")

    return await _in_time("PostgreSQL", look, "is DATABASE_URL right, and the server up?")


async def _postgres_version(url: str) -> tuple[int, str]:
    """The number (180001) and name (18.1) of a server's version; nothing when it cannot be reached."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            number = await connection.scalar(text("SHOW server_version_num"))
            return int(number), str(await connection.scalar(text("SHOW server_version")))
    except (OSError, DBAPIError) as error:
        hint = "is it running, and does the URL name it?"
        raise NotFound(f"cannot be reached: {_first_line(error)}", hint=hint) from error
    finally:
        await engine.dispose()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


async def _redis(url: str | None) -> Finding:
    if url is None:
        return Finding("Valkey", Verdict.OFF, "embedded, not started", "`wedsync up` starts it")
    bus = Bus(url)

    async def look() -> Finding:
        if await bus.reachable():
            return Finding("Valkey", Verdict.OK, "answers")
        return Finding("Valkey", Verdict.BAD, "does not answer: everything polls", "is REDIS_URL right?")

    try:
        return await _in_time("Valkey", look, "is REDIS_URL right, and the server up?")
    finally:
        await bus.close()


async def _ray(address: str | None) -> Finding:
    """A cluster's address, by whether its port can be reached: only the runtime speaks to Ray."""
    if address is None:
        return Finding("Ray", Verdict.OK, "local, started with the runtime")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return Finding("Ray", Verdict.BAD, f"{address!r} names no port", "set RAY_ADDRESS to host:port")
    try:
        await asyncio.to_thread(_connect, host, int(port))
    except OSError as error:
        return Finding("Ray", Verdict.BAD, f"{address} cannot be reached: {error}", "is RAY_ADDRESS right?")
    return Finding("Ray", Verdict.OK, f"{address} can be reached")


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), WAIT_SECONDS).close()


async def _api(url: str | None) -> Finding:
    if url is None:
        return Finding("API", Verdict.OFF, "not started", "`wedsync up` starts it")
    return await _probe("API", f"{url}/readyz", url)


async def _runtime(url: str | None) -> Finding:
    if url is None:
        return Finding("runtime", Verdict.OFF, "not started", "`wedsync up` starts it")
    return await _probe("runtime", f"{url}/readyz/runtime", "a dispatcher is live: executions can run")


async def _probe(part: str, url: str, detail: str) -> Finding:
    """What a probe answers; a problem's own words where it has a problem."""
    try:
        async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
            answer = await client.get(url)
    except httpx.HTTPError as error:
        return Finding(part, Verdict.BAD, f"{url} does not answer: {error}", "see the logs in the home")
    if answer.status_code == httpx.codes.OK:
        return Finding(part, Verdict.OK, detail)
    try:
        problem = orjson.loads(answer.content)
        return Finding(part, Verdict.BAD, str(problem["detail"]), problem.get("hint"))
    except (ValueError, KeyError, TypeError):
        detail = f"{url} answered {answer.status_code}, but no WedSync server does so"
        return Finding(part, Verdict.BAD, detail, "is WEDSYNC_URL right?")
