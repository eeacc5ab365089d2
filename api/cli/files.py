"""The commands about definitions in YAML files: apply, diff, export, validate, plan."""

import asyncio
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from api.cli.checking import check_entry
from api.cli.output import AsJson, print_json, say
from api.client import Client, Saved
from api.client.values import PlanText
from models.errors import Invalid
from models.fields import Json, JsonObject
from runtime.pipelines.files import Entry, EntryKind, read_files
from runtime.pipelines.files import export as written
from runtime.settings import Settings

Files: TypeAlias = Annotated[list[Path], typer.Argument(metavar="FILE…", help="YAML files, or folders of them.")]

MARKS = {"created": "+", "updated": "~", "unchanged": "="}


def apply(
    files: Files,
    discover: Annotated[bool, typer.Option("--discover", help="Look which datasets the sources have.")] = False,
    as_json: AsJson = False,
) -> None:
    """Save the pipelines, sources and destinations of YAML files, by name.

    What is not there is added, what differs is changed; sources and destinations come before pipelines.
    """
    entries = _places_first(read_files(files))
    saved = asyncio.run(_apply(entries, discover=discover))
    _report(saved, as_json=as_json)


async def _apply(entries: list[Entry], *, discover: bool) -> list[Saved]:
    saved = list[Saved]()
    async with Client.of_home(Settings.load()) as client:
        for entry in entries:
            with _located(entry):
                saved.append(await client.save(entry))
            if discover and entry.kind is EntryKind.SOURCE:
                await client.discover_source(saved[-1].name)
    return saved


def diff(files: Files, as_json: AsJson = False) -> None:
    """Tell what `apply` would change; exit status 1 if anything.

    Connections and credentials are sealed, so nobody can tell whether they differ.
    """
    found = asyncio.run(_diff(_places_first(read_files(files))))
    _report(found, as_json=as_json)
    if any(saved.action != "unchanged" for saved in found):
        raise typer.Exit(1)


async def _diff(entries: list[Entry]) -> list[Saved]:
    found = list[Saved]()
    async with Client.of_home(Settings.load()) as client:
        for entry in entries:
            added = [one.name for one in found if one.action == "created" and one.kind is not EntryKind.PIPELINE]
            with _located(entry):
                found.append(await client.compare(entry, added))
    return found


def export(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="Pipelines; all if none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print pipelines as YAML.

    Sources and destinations are not exported: their connections are sealed.
    """
    definitions = asyncio.run(_definitions(names))
    if as_json:
        print_json([{"pipeline": definition} for definition in definitions])
    else:
        typer.echo(written(Entry(EntryKind.PIPELINE, definition) for definition in definitions), nl=False)


async def _definitions(names: list[str] | None) -> list[JsonObject]:
    async with Client.of_home(Settings.load()) as client:
        return [await client.definition(name) for name in names or await client.pipelines()]


def validate(files: Files, as_json: AsJson = False) -> None:
    """Check YAML files without a server.

    Keys and values, transforms, order and cycles, and the configurations of connectors; that sources have the columns
    which are asked of them is for `plan` and `apply` to see.
    """
    entries = read_files(files)
    for entry in entries:
        with _located(entry):
            check_entry(entry)
    named = [f"{entry.kind.value} {entry.document.get(f'{entry.kind.value}_name')}" for entry in entries]
    if as_json:
        print_json({"valid": list(named)})
    else:
        say("\n".join(f"{name}: valid" for name in named))


def plan(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A saved pipeline, or a YAML file of pipelines.")],
    as_json: AsJson = False,
) -> None:
    """Print the plan of a pipeline, or of the pipelines of a YAML file.

    A file is compiled against the server's sources and saved nowhere.
    """
    path = Path(what)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        plans = asyncio.run(_compiled([entry for entry in read_files([path]) if entry.kind is EntryKind.PIPELINE]))
        if not plans:
            raise Invalid("holds no pipeline", hint="name a file with `pipeline:` in it", path=what)
    else:
        plans = [asyncio.run(_saved_plan(what))]
    if as_json:
        print_json([{**found.model_dump(mode="json"), "text": found.text} for found in plans])
    else:
        typer.echo("\n".join(found.text for found in plans), nl=False)


async def _saved_plan(name: str) -> PlanText:
    async with Client.of_home(Settings.load()) as client:
        return await client.plan(name)


async def _compiled(entries: list[Entry]) -> list[PlanText]:
    plans = list[PlanText]()
    async with Client.of_home(Settings.load()) as client:
        for entry in entries:
            with _located(entry):
                plans.append(await client.compile(entry.document))
    return plans


def _places_first(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.kind is EntryKind.PIPELINE)


class _located:
    """Names the file and line in an error about an entry."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Invalid) and not (error.path or "").startswith(self._entry.file):
            raise self._entry.located(error) from None


def _report(saved: list[Saved], *, as_json: bool) -> None:
    if as_json:
        print_json([_told(one) for one in saved])
        return
    for one in saved:
        say(f"{MARKS.get(one.action, ' ')} {one.kind.value} {one.name}: {one.action}")
        for change in one.changes if one.action == "updated" else ():
            say(f"    {change}")
        if one.incomparable and one.action == "unchanged":
            say("    its connection is sealed, so it cannot be compared", style="dim")
        for note in one.notes if one.action != "unchanged" else ():
            say(f"    {note}", style="dim")


def _told(saved: Saved) -> Json:
    changes: list[Json] = [change.model_dump(mode="json") for change in saved.changes]
    notes: list[Json] = list(saved.notes)
    return {"kind": saved.kind.value, "name": saved.name, "action": saved.action, "changes": changes, "notes": notes}
