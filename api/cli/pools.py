"""The command about pools: how many executions may run in each at once."""

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from api.cli.output import AsJson, count, print_json, print_table, say
from api.client import Client
from api.client.pools import Pool
from models.errors import Invalid
from runtime.settings import Settings


class Deed(StrEnum):
    """What to do with pools."""

    LIST = "list"
    SET = "set"
    REMOVE = "remove"


def pools(
    deed: Annotated[Deed, typer.Argument(help="What to do.")] = Deed.LIST,
    name: Annotated[str | None, typer.Argument(help="The pool.")] = None,
    slots: Annotated[int | None, typer.Argument(help="How many executions may run in it at once, to set.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the pools that limit executions, set the size of one, or remove it.

    A definition names its pool in `concurrency`; a pool without a size limits nothing.
    """
    if deed is Deed.LIST and name is None:
        _show(asyncio.run(_pools()), as_json=as_json)
        return
    if name is None or (slots is None) is (deed is Deed.SET) or deed is Deed.LIST:
        raise Invalid(
            "incomplete", hint="say `wedsync pools`, `wedsync pools set NAME SLOTS` or `wedsync pools remove NAME`"
        )
    pool = asyncio.run(_remove(name) if slots is None else _set(name, slots))
    if as_json:
        print_json(pool.model_dump(mode="json"))
    elif slots is None:
        say(f"{pool.name} limits nothing any more")
    else:
        say(f"{pool.name} has {slots} slots, {count(pool.running)} of them taken")


def _show(found: list[Pool], *, as_json: bool) -> None:
    if as_json:
        print_json([pool.model_dump(mode="json") for pool in found])
        return
    rows = [[pool.name, "any" if pool.slots is None else count(pool.slots), count(pool.running)] for pool in found]
    print_table(["pool", "slots>", "running>"], rows)


async def _pools() -> list[Pool]:
    async with Client.of_home(Settings.load()) as client:
        return await client.pools.all()


async def _set(name: str, slots: int) -> Pool:
    async with Client.of_home(Settings.load()) as client:
        return await client.pools.set(name, slots)


async def _remove(name: str) -> Pool:
    async with Client.of_home(Settings.load()) as client:
        return await client.pools.remove(name)
