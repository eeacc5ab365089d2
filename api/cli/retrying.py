"""The commands that take ended executions up again: retry, rerun."""

import asyncio
from typing import Annotated

import typer

from api.cli.output import AsJson, print_json, print_table, say
from api.cli.progress import watched
from api.cli.runs import Reference, told
from api.client import Client, Execution
from api.client.retries import RerunPreview
from models.executions import ExecutionStatus
from runtime.settings import Settings

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show its steps until it ends.")]
Key = Annotated[str | None, typer.Option(help="An idempotency key: the same one gives the same execution.")]
Preview = Annotated[bool, typer.Option("--preview", help="Only tell what would run again, and why.")]
Step = Annotated[str, typer.Option("--from", metavar="STEP", help="The step to run again, and what depends on it.")]


def retry(
    id: Reference, preview: Preview = False, watch: Watch = False, key: Key = None, as_json: AsJson = False
) -> None:
    """Run what a failed execution did not finish.

    A cancelled one's too; in its version, with its parameters. What it finished is restored, and what it
    loaded is not loaded again.
    """
    if preview:
        _show(asyncio.run(_preview(id, None)), as_json=as_json)
    else:
        _tell(asyncio.run(_take_up(id, None, key, (watch, as_json))), watch=watch, as_json=as_json)


def rerun(
    id: Reference,
    step: Step,
    preview: Preview = False,
    watch: Watch = False,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Run the steps of an execution again from one on.

    The execution must have ended; the steps before it are restored. A step whose output is no longer
    kept runs again too: see --preview.
    """
    if preview:
        _show(asyncio.run(_preview(id, step)), as_json=as_json)
    else:
        _tell(asyncio.run(_take_up(id, step, key, (watch, as_json))), watch=watch, as_json=as_json)


async def _preview(reference: str, step: str | None) -> RerunPreview:
    async with Client.of_home(Settings.load()) as client:
        return await client.retries.preview(reference, step)


async def _take_up(reference: str, step: str | None, key: str | None, how: tuple[bool, bool]) -> Execution:
    watch, quiet = how
    async with Client.of_home(Settings.load()) as client:
        if step is None:
            execution = await client.retries.retry(reference, idempotency_key=key)
        else:
            execution = await client.retries.rerun(reference, step, idempotency_key=key)
        if not watch:
            return execution
        return await client.finished(execution.id) if quiet else await watched(client, execution)


def _show(preview: RerunPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(preview.model_dump(mode="json"))
        return
    print_table(["step", "fate", "why"], [[one.step_name, one.fate.value, one.reason] for one in preview.steps])


def _tell(execution: Execution, *, watch: bool, as_json: bool) -> None:
    if as_json:
        print_json(told(execution))
    elif not watch:
        say(f"{execution.execution_id} {execution.state.value}")
        say(f"  follow it with `wedsync logs {execution.execution_id} --follow`", style="dim")
    if watch and execution.status is not ExecutionStatus.COMPLETED:
        raise typer.Exit(1)
