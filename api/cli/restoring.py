"""The command that brings an earlier version of a table back: restore."""

import asyncio
from typing import Annotated

import typer

from api.cli.output import AsJson, count, moment, print_json, print_table, say
from api.client import Client
from api.client.backups import RestoredTable, TableVersion
from runtime.settings import Settings


def restore(
    destination: Annotated[str, typer.Argument(help="The destination, by name.")],
    table: Annotated[str, typer.Argument(help="Its table.")],
    version: Annotated[str | None, typer.Argument(help="The version to restore; without one they are listed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring an earlier version of a table back, or list them.

    They are kept where the destination's backup_config says so.
    """
    if version is None:
        _show(asyncio.run(_versions(destination, table)), as_json=as_json)
        return
    restored = asyncio.run(_restore(destination, table, version))
    if as_json:
        print_json(restored.model_dump(mode="json"))
    else:
        say(f"{restored.table} has the {count(restored.rows)} rows of version {restored.version} again")


def _show(versions: list[TableVersion], *, as_json: bool) -> None:
    if as_json:
        print_json([one.model_dump(mode="json") for one in versions])
        return
    columns = ["version", "rows>", "replaced (UTC)", "by execution", "kept until (UTC)"]
    rows = [
        [one.version, count(one.rows), moment(one.replaced_at), str(one.replaced_by), moment(one.expires_at)]
        for one in versions
    ]
    print_table(columns, rows)


async def _versions(destination: str, table: str) -> list[TableVersion]:
    async with Client.of_home(Settings.load()) as client:
        return await client.backups.versions(destination, table)


async def _restore(destination: str, table: str, version: str) -> RestoredTable:
    async with Client.of_home(Settings.load()) as client:
        return await client.backups.restore(destination, table, version)
