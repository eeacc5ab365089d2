"""The commands about executions: run, executions, logs, cancel."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import orjson
import typer

from api.cli.output import AsJson, count, duration, moment, print_json, print_table, say
from api.cli.progress import watched
from api.client import Client, Execution, ExecutionSummary
from models.errors import Invalid
from models.executions import ExecutionStatus
from models.fields import Json, JsonObject
from runtime.queue.pools import WaitReason
from runtime.settings import Settings

Reference = Annotated[str, typer.Argument(metavar="ID", help="An execution's `id` or `execution_id`.")]
FOLLOW_SECONDS = 0.5


def run(
    name: Annotated[str, typer.Argument(help="The pipeline.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; JSON, or text.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but commit, on a sample.")] = False,
    priority: Annotated[
        int | None, typer.Option(help="-1000 to 1000: the highest goes first; its pipeline's unless told.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show its steps until it ends.")] = False,
    key: Annotated[str | None, typer.Option(help="An idempotency key: the same one gives the same execution.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a pipeline.

    Answers as soon as the execution is accepted; with --watch once it has ended, with exit status 1 if it failed.
    """
    how = _How(parameters_of(param or []), dry_run, priority, key)
    execution = asyncio.run(_run(name, how, watch=watch, quiet=as_json))
    if as_json:
        print_json(told(execution))
    elif not watch:
        say(f"{execution.execution_id} {standing(execution)}")
        say(f"  follow it with `wedsync logs {execution.execution_id} --follow`", style="dim")
    if watch and execution.status is not ExecutionStatus.COMPLETED:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _How:
    parameters: JsonObject
    dry_run: bool
    priority: int | None
    key: str | None


async def _run(name: str, how: _How, *, watch: bool, quiet: bool) -> Execution:
    async with Client.of_home(Settings.load()) as client:
        execution = await client.execute(
            name, how.parameters, dry_run=how.dry_run, idempotency_key=how.key, priority=how.priority
        )
        if not watch:
            return execution
        return await client.finished(execution.id) if quiet else await watched(client, execution)


def executions(
    name: Annotated[str | None, typer.Argument(help="Only those of this pipeline.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List executions, the newest first."""
    found = asyncio.run(_executions(name, limit))
    if as_json:
        print_json([told(one) for one in found])
        return
    columns = ["execution", "pipeline", "state", "accepted (UTC)", "took>", "read>", "written>", "set aside>"]
    print_table(columns, [_row(one) for one in found])


async def _executions(name: str | None, limit: int) -> list[ExecutionSummary]:
    async with Client.of_home(Settings.load()) as client:
        return list(await client.executions(name, limit))


def logs(
    id: Reference,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the log of an execution."""
    asyncio.run(_logs(id, follow=follow, as_json=as_json))


async def _logs(reference: str, *, follow: bool, as_json: bool) -> None:
    cursor = 0
    async with Client.of_home(Settings.load()) as client:
        while True:
            execution = await client.execution(reference)
            page = await client.log(reference, cursor)
            cursor = page.cursor
            for line in page.lines:
                print_json(line) if as_json else say(_line(line))
            if page.lines:
                continue
            if not follow or execution.state.is_terminal:
                return
            await asyncio.sleep(FOLLOW_SECONDS)


def cancel(id: Reference, as_json: AsJson = False) -> None:
    """Ask an execution to stop."""
    execution = asyncio.run(_cancel(id))
    if as_json:
        print_json(told(execution))
    else:
        say(f"{execution.execution_id} {execution.state.value}")


async def _cancel(reference: str) -> Execution:
    async with Client.of_home(Settings.load()) as client:
        return await client.cancel(reference)


def told(execution: ExecutionSummary) -> JsonObject:
    """An execution for machines."""
    document: JsonObject = execution.model_dump(mode="json", exclude={"pipeline"})
    return {**document, "pipeline_name": execution.pipeline.pipeline_name}


def standing(execution: ExecutionSummary) -> str:
    """The state of an execution for people; of one that waits what it waits for, of one that is late that it is."""
    told = execution.state.value
    waits = execution.waiting_for
    if waits is not None:
        full = f" ({waits.running} of {waits.limit} run)" if waits.limit is not None else ""
        told += {
            WaitReason.EARLIER_RUN: ": waits for earlier runs of its schedule or backfill",
            WaitReason.PIPELINE_LIMIT: f": its pipeline is at its limit{full}",
            WaitReason.POOL: f": the pool {waits.name} is full{full}",
            WaitReason.REST: ": its supervisors died, and it is tried again in a moment",
            WaitReason.SUPERVISOR: ": waits for a free worker",
        }[waits.reason]
    is_late = execution.late_at is not None and not execution.state.is_terminal
    return f"{told}, late" if is_late else told


def _row(execution: ExecutionSummary) -> list[str]:
    return [
        execution.execution_id,
        execution.pipeline.pipeline_name,
        standing(execution),
        moment(execution.started_at),
        duration(execution.milliseconds),
        count(execution.records_processed),
        count(execution.records_inserted + execution.records_updated),
        count(execution.records_failed),
    ]


def _line(line: JsonObject) -> str:
    """A line of a log for people: when, where, what, and the rest as it is."""
    rest = {key: value for key, value in line.items() if key not in ("at", "kind", "step") and value is not None}
    where = f" {line['step']}" if line.get("step") else ""
    more = " ".join(f"{key}={_plain(value)}" for key, value in rest.items())
    return f"{line.get('at', '')} {line.get('kind', '')}{where} {more}".rstrip()


def _plain(value: Json) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def parameters_of(given: list[str]) -> JsonObject:
    """The parameters of `--param`: each value as JSON where it is, else as text."""
    parameters: JsonObject = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise Invalid(f"{one!r} is no parameter", hint="write --param name=value", path="--param")
        try:
            parameters[name] = orjson.loads(value)
        except ValueError:
            parameters[name] = value
    return parameters
