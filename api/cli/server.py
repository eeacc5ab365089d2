"""The commands of a server's keeper: migrate, token, schema."""

import asyncio
from importlib import resources
from typing import Annotated

import typer

from api.cli.output import AsJson, print_json, say
from api.signing import TOKEN_HOURS, signed
from models.access import Role
from models.migrations.run import HEAD_REVISION
from models.migrations.run import migrate as bring_up_to_date
from runtime.embedded.home import Home
from runtime.settings import Settings


def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the newest revision.

    The database of WEDSYNC_OWNER_URL, else of DATABASE_URL, else of the server that runs in this home. A server
    migrates its own embedded one when it starts.
    """
    settings = Settings.load()
    url = settings.owner_url or settings.database_url or Home(settings.home).running().owner_url
    applied = asyncio.run(bring_up_to_date(url))
    if as_json:
        print_json({"applied": list(applied), "revision": HEAD_REVISION})
    else:
        say(f"applied {', '.join(applied)}" if applied else f"up to date at {HEAD_REVISION}")


def token(
    role: Annotated[Role, typer.Option(help="What its bearer may do.")],
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How long it is valid.")] = TOKEN_HOURS,
    as_json: AsJson = False,
) -> None:
    """Print a token for the server of this home."""
    made = signed(Settings.load(), role, hours)
    if as_json:
        print_json({"token": made, "role": role.value, "hours": hours})
    else:
        say(made)


def schema(as_json: AsJson = False) -> None:
    """Print the GraphQL schema."""
    text = resources.files("graphql_schema").joinpath("schema.graphql").read_text(encoding="utf-8")
    if as_json:
        print_json({"schema": text})
    else:
        typer.echo(text, nl=False)
