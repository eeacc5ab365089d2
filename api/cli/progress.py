"""Shows an execution as it goes: a line for each step, which moves with its events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from api.cli.output import count, duration, err, out
from api.client import Client, Event, Execution
from models.events import EventKind
from models.executions import ExecutionStatus

_ENDS: Final[Mapping[EventKind, str]] = {
    EventKind.STEP_COMPLETED: "[green]done[/green]",
    EventKind.STEP_RESTORED: "[green]restored[/green]",
    EventKind.STEP_FAILED: "[red]failed[/red]",
    EventKind.STEP_SKIPPED: "[dim]skipped[/dim]",
    EventKind.STEP_CANCELLED: "[yellow]cancelled[/yellow]",
}
_STANDS: Final[Mapping[EventKind, str]] = {
    EventKind.STEP_STARTED: "running",
    EventKind.STEP_PROGRESS: "running",
    EventKind.STEP_RETRYING: "[yellow]again[/yellow]",
}


@dataclass(slots=True)
class StepBars:
    """The lines of one execution's steps."""

    progress: Progress
    lines: dict[str, TaskID] = field(default_factory=dict)

    def show(self, event: Event) -> None:
        """Take an event in."""
        if event.step_name is None:
            return
        line = self._line(event.step_name)
        rows = event.payload.get("records_out")
        shown = count(rows) if isinstance(rows, int) else None
        if event.kind in _ENDS:
            self.progress.update(line, total=1, completed=1, state=_ENDS[event.kind])
            self.progress.stop_task(line)
        elif event.kind in _STANDS:
            self.progress.update(line, state=_STANDS[event.kind])
            self.progress.start_task(line)
        if shown is not None:
            self.progress.update(line, rows=shown)

    def _line(self, step: str) -> TaskID:
        if step not in self.lines:
            self.lines[step] = self.progress.add_task(escape(step), start=False, total=None, rows="", state="waiting")
        return self.lines[step]


def step_progress(console: Console) -> Progress:
    """The bars of steps: name, bar, rows that came out, time, state."""
    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[rows]:>12} rows"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
    )


async def watched(client: Client, execution: Execution) -> Execution:
    """Show an execution to its end and tell how it ended; answers it as it is then."""
    console = err()
    with step_progress(console) as progress:
        bars = StepBars(progress)
        async for event in client.events(execution.id):
            bars.show(event)
    ended = await client.execution(execution.id)
    tell(ended, out())
    return ended


def tell(execution: Execution, console: Console) -> None:
    """One line on how an execution ended; for a failure what was wrong, where, and what to do."""
    took = duration(execution.milliseconds)
    moved = f"{count(execution.records_processed)} read, {count(execution.records_inserted)} inserted"
    moved += f", {count(execution.records_updated)} updated, {count(execution.records_failed)} set aside"
    colour = {ExecutionStatus.COMPLETED: "green", ExecutionStatus.FAILED: "red"}.get(execution.status, "yellow")
    head = f"[{colour}]{execution.status.value}[/{colour}]"
    console.print(f"{escape(execution.pipeline.pipeline_name)} {head} in {took}: {moved}")
    error = execution.error_details
    if error is not None:
        console.print(escape(f"  {error.failed_step}: {error.error_message}"))
        if error.hint:
            console.print(f"  {escape(error.hint)}", style="dim")
