"""Shows the demo: starts a server, has the demo platform's pipelines run, tells what came of it, stops all."""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from api.cli.demonstration import Demonstration, prepared
from api.cli.output import count, duration, err, out, print_json, print_table, say
from api.cli.progress import tell
from api.client import Event, Execution
from models.events import EventKind
from models.executions import ExecutionStatus
from models.fields import Json, JsonObject
from runtime.demo.blueprint import Blueprint
from runtime.embedded.processes import Child
from runtime.embedded.stack import Stack
from runtime.settings import Settings

DEFAULT_HOME = Settings.model_fields["home"].default


def show(api: Child, scale: float, *, as_json: bool) -> bool:
    """Run the demo; whether all pipelines completed. Raises typed errors when it cannot run."""
    started = time.monotonic()
    try:
        stack = Stack(_settings(Settings.load()), api)
    except BaseException:
        api.stop()
        raise
    executions = asyncio.run(_show(stack, Blueprint(scale=scale), quiet=as_json))
    seconds = time.monotonic() - started
    if as_json:
        print_json(_result(stack, executions, seconds))
    else:
        _tell(stack, executions, seconds)
    return all(execution.status is ExecutionStatus.COMPLETED for execution in executions)


def _settings(settings: Settings) -> Settings:
    """Those of the environment, with a home of its own, a free port and no dashboard of Ray's."""
    home = settings.home
    if home == DEFAULT_HOME:
        home = Path(tempfile.mkdtemp(prefix="wedsync-demo-"))
        home.chmod(0o755)
    return settings.model_copy(update={"home": home, "port": 0, "ray_dashboard": False})


async def _show(stack: Stack, blueprint: Blueprint, *, quiet: bool) -> list[Execution]:
    lines = _Lines(quiet)
    try:
        with lines.progress:
            lines.say("starting PostgreSQL, Valkey and the API")
            await stack.start()
            lines.say("making the wedding platform, while Ray starts")
            async with prepared(stack, blueprint) as demonstration:
                await stack.runtime_ready()
                lines.say("discovering the sources, compiling the pipelines")
                await demonstration.define()
                return await _run(demonstration, lines)
    finally:
        await asyncio.to_thread(stack.stop)


async def _run(demonstration: Demonstration, lines: "_Lines") -> list[Execution]:
    lines.say("running the pipelines")
    executions = await demonstration.run(lines.show)
    lines.say("done")
    return executions


class _Lines:
    """What moves on the screen meanwhile: what is being done, and a line for each pipeline."""

    def __init__(self, quiet: bool) -> None:
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self.progress = Progress(*columns, console=err(), disable=quiet)
        self._stage = self.progress.add_task("demo", total=None, said="")
        self._pipelines: dict[str, TaskID] = {}

    def say(self, what: str) -> None:
        """Tell the stage."""
        self.progress.update(self._stage, said=what)
        if what == "done":
            self.progress.update(self._stage, total=1, completed=1)

    def show(self, pipeline: str, event: Event) -> None:
        """Take an event of a pipeline's execution in."""
        line = self._pipelines.get(pipeline)
        if line is None:
            line = self._pipelines[pipeline] = self.progress.add_task(pipeline, total=None, said="")
        if event.kind in (EventKind.STEP_STARTED, EventKind.STEP_COMPLETED, EventKind.STEP_FAILED):
            self.progress.update(line, said=f"{event.step_name} {event.kind.value.removeprefix('step_')}")
        if event.is_last:
            self.progress.update(line, total=1, completed=1, said=event.kind.value.removeprefix("execution_"))


def _tell(stack: Stack, executions: Sequence[Execution], seconds: float) -> None:
    console = out()
    for execution in executions:
        if execution.status is not ExecutionStatus.COMPLETED:
            tell(execution, console)
    columns = ["pipeline", "status", "read>", "inserted>", "updated>", "set aside>", "quality>", "took>"]
    print_table(columns, [_row(execution) for execution in executions])
    moved = sum(execution.records_processed for execution in executions)
    say(f"\n{count(moved)} rows moved; {duration(seconds * 1000)} in all, from nothing to stopped")
    say(f"data  {stack.home.path}\nlogs  {stack.home.logs}")
    say(f"look around with: WEDSYNC_HOME={stack.home.path} wedsync up", "dim")


def _row(execution: Execution) -> list[str]:
    score = execution.data_quality_score
    return [
        execution.pipeline.pipeline_name,
        execution.status.value,
        count(execution.records_processed),
        count(execution.records_inserted),
        count(execution.records_updated),
        count(execution.records_failed),
        "n/a" if score is None else f"{score:.1f}",
        duration(execution.milliseconds),
    ]


def _result(stack: Stack, executions: Sequence[Execution], seconds: float) -> JsonObject:
    pipelines: list[Json] = [
        {
            "name": execution.pipeline.pipeline_name,
            "status": execution.status.value,
            "records": execution.records_processed,
            "inserted": execution.records_inserted,
            "updated": execution.records_updated,
            "set_aside": execution.records_failed,
            "quality": execution.data_quality_score,
            "milliseconds": execution.milliseconds,
            "error": None if execution.error_details is None else execution.error_details.error_message,
        }
        for execution in executions
    ]
    return {
        "pipelines": pipelines,
        "rows": sum(execution.records_processed for execution in executions),
        "seconds": round(seconds, 3),
        "home": str(stack.home.path),
        "logs": str(stack.home.logs),
    }
