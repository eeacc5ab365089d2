"""The command up. It imports little, so that the API's process begins before the rest of it is imported."""

import importlib
from typing import Annotated

import typer

from runtime.embedded.processes import early_api


def up(
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Where to listen; 0 takes a free port.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Load the demo wedding platform and its pipelines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for machines at each stage.")] = False,
) -> None:
    """Start everything and stay until Ctrl-C.

    PostgreSQL, Valkey, the runtime on a local Ray and the API, with data in `.wedsync/` or WEDSYNC_HOME; DATABASE_URL,
    REDIS_URL and RAY_ADDRESS replace each by another. Prints a link that signs you in.
    """
    api = early_api()
    importlib.import_module("api.cli.serving").serve(api, port, demo=demo, as_json=as_json)
