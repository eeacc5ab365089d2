"""The command about backfills: it requests one, lists a pipeline's, or tells of, pauses, resumes or cancels one."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from api.cli.output import AsJson, count, err, moment, print_json, print_table, say
from api.cli.runs import parameters_of
from api.client import Client
from api.client.backfills import Backfill, BackfillPreview, BackfillRequest, Backfills
from models.backfills import BackfillState
from models.errors import Invalid
from runtime.settings import Settings

STEERING: Final[dict[str, Callable[[Backfills, str], Awaitable[Backfill]]]] = {
    "status": Backfills.find,
    "pause": Backfills.pause,
    "resume": Backfills.resume,
    "cancel": Backfills.cancel,
}
"""What can be done with a backfill, by its word."""

LIST: Final = "list"
_BAD: Final = (BackfillState.FAILED, BackfillState.CANCELLED)


def backfill(
    what: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="The pipeline; or list, status, pause, resume, cancel.")
    ],
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The backfill to tell of or to steer; the pipeline to list.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="The first day, or moment, in UTC.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The day or moment that ends it, not part of it.")] = None,
    chunk: Annotated[str, typer.Option(help="A number and m, h, d, w or mo (months).")] = "1d",
    at_once: Annotated[int, typer.Option(help="How many chunks run at once at most.")] = 1,
    priority: Annotated[int | None, typer.Option(help="That of live runs is 0; -10 unless told.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; JSON, or text.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Run also what has completed before.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the chunks; run nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show how far it is until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a range of a pipeline's past in chunks, or steer that.

    Chunks that have completed, or are under way, are left as they are: the same command again adds only what is
    missing or failed. Each chunk's range is bound to :range_start and :range_end in the pipeline's queries, or read
    of an incremental extract. With --watch, exit status 1 if a chunk failed or it was cancelled.

    `wedsync backfill status|pause|resume|cancel ID` tells of one, or steers it; `wedsync backfill list PIPELINE` lists.
    """
    if what == LIST and id is not None:
        _list(asyncio.run(_all(id)), as_json=as_json)
        return
    if id is not None:
        steered = asyncio.run(_steered(what, id, watch=watch, quiet=as_json))
        _tell(steered, watch=watch, as_json=as_json)
        return
    if start is None or end is None:
        hint = "wedsync backfill PIPELINE --from 2026-01-01 --to 2026-02-01"
        raise Invalid("a backfill needs the range", hint=hint, path="--from" if start is None else "--to")
    wanted = BackfillRequest(start, end, chunk, at_once, priority, parameters_of(param or []), again)
    if preview:
        _show(asyncio.run(_previewed(what, wanted)), as_json=as_json)
    else:
        _tell(asyncio.run(_requested(what, wanted, watch=watch, quiet=as_json)), watch=watch, as_json=as_json)


async def _steered(word: str, id: str, *, watch: bool, quiet: bool) -> Backfill:
    if word not in STEERING:
        hint = f"{', '.join([*STEERING, LIST])}; to request one, give --from and --to instead"
        raise Invalid(f"{word!r} is nothing to do with a backfill", hint=hint, path="PIPELINE")
    async with Client.of_home(Settings.load()) as client:
        found = await STEERING[word](client.backfills, id)
        return await _followed(client, found, quiet=quiet) if watch else found


async def _all(pipeline: str) -> list[Backfill]:
    async with Client.of_home(Settings.load()) as client:
        return await client.backfills.all(pipeline)


def _list(found: list[Backfill], *, as_json: bool) -> None:
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    columns = ["backfill", "from (UTC)", "to (UTC)", "chunk", "state", "chunks"]
    rows = [
        [
            str(one.id),
            moment(one.range_start),
            moment(one.range_end),
            one.chunk,
            one.state.value,
            _counts(one),
        ]
        for one in found
    ]
    print_table(columns, rows)


async def _requested(pipeline: str, wanted: BackfillRequest, *, watch: bool, quiet: bool) -> Backfill:
    async with Client.of_home(Settings.load()) as client:
        made = await client.backfills.request(pipeline, wanted)
        return await _followed(client, made, quiet=quiet) if watch else made


async def _previewed(pipeline: str, wanted: BackfillRequest) -> BackfillPreview:
    async with Client.of_home(Settings.load()) as client:
        return await client.backfills.preview(pipeline, wanted, 100)


async def _followed(client: Client, found: Backfill, *, quiet: bool) -> Backfill:
    """Show how far a backfill is until it has ended."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[told]}"))
    with Progress(*columns, TimeElapsedColumn(), console=err(), disable=quiet) as progress:
        line = progress.add_task(found.chunk, total=max(1, found.total), told="")
        last = found
        async for last in client.backfills.follow(found.id):
            ended = last.progress.completed + last.progress.failed + last.progress.cancelled
            progress.update(line, completed=ended, told=_counts(last))
    return last


def _tell(found: Backfill, *, watch: bool, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        say(f"{found.id} {found.state.value}: {_counts(found)}")
        days = f"{moment(found.range_start)} to {moment(found.range_end)} (UTC) by {found.chunk}"
        left = f", {count(found.already)} needed nothing" if found.already else ""
        say(f"  {found.pipeline.pipeline_name}, {days}, {found.most_at_once} at once{left}", style="dim")
        if found.finished_at is None:
            say(f"  follow it with `wedsync backfill status {found.id} --watch`", style="dim")
    if watch and found.state in _BAD:
        raise typer.Exit(1)


def _counts(found: Backfill) -> str:
    told = found.progress
    counts = {
        "completed": told.completed,
        "running": told.running,
        "waiting": told.waiting,
        "failed": told.failed,
        "cancelled": told.cancelled,
    }
    shown = [f"{count(number)} {word}" for word, number in counts.items() if number or word == "completed"]
    return f"{', '.join(shown)} of {count(found.total)}"


def _show(found: BackfillPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    rows = [
        [one.start, one.end, "runs" if one.will_run else "stays", one.state.value if one.state else ""]
        for one in found.chunks
    ]
    print_table(["from", "to", "what", "last execution"], rows)
    say(f"{count(found.total)} chunks would run, {count(found.already)} have completed or are under way")
