"""The command about schedules: schedule list, next, fires, watch, pause, resume, secret."""

import asyncio
from contextlib import nullcontext, suppress
from enum import StrEnum
from typing import Annotated, assert_never

import typer

from api.cli.output import AsJson, moment, print_json, print_table, say
from api.client import Client
from api.client.schedules import Schedule, ScheduleFire, Schedules
from models.errors import Invalid
from runtime.settings import Settings


class Action(StrEnum):
    """What to do with schedules."""

    LIST = "list"
    NEXT = "next"
    FIRES = "fires"
    WATCH = "watch"
    PAUSE = "pause"
    RESUME = "resume"
    SECRET = "secret"


def schedule(
    action: Annotated[Action, typer.Argument(help="`secret` makes a new one for the webhook that starts a pipeline.")],
    name: Annotated[str | None, typer.Argument(help="The pipeline; `list` and `watch` need none.")] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many moments, for `next` and `fires`.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List, pause and resume schedules, and tell their moments."""
    if action not in (Action.LIST, Action.WATCH) and name is None:
        hint = f"write `wedsync schedule {action.value} PIPELINE`"
        raise Invalid(f"`{action.value}` needs the name of a pipeline", hint=hint, path="NAME")
    # Whoever watches ends it so, and has been told everything.
    with suppress(KeyboardInterrupt) if action is Action.WATCH else nullcontext():
        asyncio.run(_do(action, name or "", count, as_json=as_json))


async def _do(action: Action, name: str, count: int, *, as_json: bool) -> None:
    async with Client.of_home(Settings.load()) as client:
        known = client.schedules
        match action:
            case Action.LIST:
                _list(await known.all(), as_json=as_json)
            case Action.NEXT:
                runs = await known.next_runs(name, count)
                for at in runs:
                    print_json(at.isoformat()) if as_json else say(f"{moment(at)} UTC")
            case Action.FIRES:
                _fires(await known.fires(name, count), as_json=as_json)
            case Action.WATCH:
                async for fire in known.follow(name or None):
                    print_json(fire.model_dump(mode="json")) if as_json else say(_fire(fire))
            case Action.PAUSE | Action.RESUME:
                _changed(await _set(known, action, name), as_json=as_json)
            case Action.SECRET:
                made = await known.new_secret(name)
                if as_json:
                    print_json(made.model_dump())
                else:
                    say(f"POST {client.url}{made.address}")
                    say(f"secret {made.secret}")
                    say("  it is told this once; the one before is void", style="dim")
            case _:
                assert_never(action)


async def _set(known: Schedules, action: Action, name: str) -> Schedule:
    return await (known.pause(name) if action is Action.PAUSE else known.resume(name))


def _list(found: list[Schedule], *, as_json: bool) -> None:
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    columns = ["pipeline", "when", "next (UTC)", "last (UTC)", "paused"]
    rows = [
        [
            one.pipeline_name,
            _when(one),
            moment(one.next_fire_at),
            moment(one.last_fire_at),
            "yes" if one.is_paused else "no",
        ]
        for one in found
    ]
    print_table(columns, rows)
    for one in found:
        if one.problem is not None:
            say(f"{one.pipeline_name}: {one.problem}", style="yellow")


def _when(found: Schedule) -> str:
    zone = found.config.get("timezone")
    return f"{found.config.get('type')} {found.config.get('expression')}" + (f" {zone}" if zone else "")


def _fires(found: list[ScheduleFire], *, as_json: bool) -> None:
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    columns = ["moment (UTC)", "outcome", "execution", "why"]
    rows = [
        [
            moment(one.fire_time),
            one.outcome.value,
            "-" if one.execution is None else one.execution.execution_id,
            one.reason or "",
        ]
        for one in found
    ]
    print_table(columns, rows)


def _fire(found: ScheduleFire) -> str:
    started = "" if found.execution is None else f" {found.execution.execution_id}"
    why = f": {found.reason}" if found.reason else ""
    return f"{moment(found.fire_time)} UTC {found.pipeline_name} {found.outcome.value}{started}{why}"


def _changed(found: Schedule, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        following = f"next {moment(found.next_fire_at)} UTC" if found.next_fire_at else "no next moment"
        say(f"{found.pipeline_name} {'paused' if found.is_paused else following}")
