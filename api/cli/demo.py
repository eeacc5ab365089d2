"""The command demo. As `up`, it imports little before the API's process has begun."""

import importlib
from typing import Annotated

import typer

from runtime.embedded.processes import early_api


def demo(
    scale: Annotated[float, typer.Option(min=0.001, max=100, help="1 moves some 600,000 rows.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines, the result last.")] = False,
) -> None:
    """Run the demo wedding platform's pipelines to the end, and tell what moved.

    Starts everything in a new home (or in WEDSYNC_HOME), makes the platform, runs its pipelines at once and stops.
    Exit status 1 if one failed.
    """
    api = early_api()
    if not importlib.import_module("api.cli.showing").show(api, scale, as_json=as_json):
        raise typer.Exit(1)
