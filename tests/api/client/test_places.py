"""Sources and destinations are saved and compared by name; pipelines are applied."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.client import Client
from models.errors import Invalid, NotFound
from models.fields import JsonObject
from runtime.pipelines.files import Entry, EntryKind
from tests.kit.graphql import token
from tests.kit.identities import ENGINEER


@pytest.fixture
async def client(live: str) -> AsyncIterator[Client]:
    """A client of the test's own API."""
    async with Client(f"http://{live}", token(ENGINEER)) as made:
        yield made


def source(folder: Path, **others: object) -> Entry:
    document = {
        "source_name": "files",
        "source_type": "file",
        "kind": "csv",
        "connection_config": {"root": str(folder)},
    }
    return Entry(EntryKind.SOURCE, {**document, **others})  # type: ignore[dict-item]


def destination(folder: Path, **others: object) -> Entry:
    document = {"destination_name": "out", "kind": "csv", "connection_config": {"root": str(folder)}}
    return Entry(EntryKind.DESTINATION, {**document, "write_mode": "overwrite", **others})  # type: ignore[dict-item]


PIPELINE: JsonObject = {
    "pipeline_name": "copy",
    "pipeline_type": "etl",
    "source_config": {"source_id": "files", "dataset": "a.csv"},
    "destination_config": {"destination_id": "out", "table_name": "b"},
}


async def test_a_place_is_added_and_then_changed(client: Client, tmp_path: Path) -> None:
    assert (await client.save(source(tmp_path))).action == "created"
    assert (await client.save(source(tmp_path))).action == "updated"
    assert (await client.save(destination(tmp_path))).action == "created"


async def test_what_can_be_seen_of_a_place_is_compared(client: Client, tmp_path: Path) -> None:
    assert (await client.compare(destination(tmp_path))).action == "created"
    await client.save(destination(tmp_path))
    same = await client.compare(destination(tmp_path))
    assert (same.action, same.incomparable) == ("unchanged", True)
    other = await client.compare(destination(tmp_path, write_mode="append", is_active=False))
    assert other.action == "updated"
    assert {str(change) for change in other.changes} == {
        "~ is_active: True -> False",
        "~ write_mode: overwrite -> append",
    }


async def test_a_place_keeps_its_kind(client: Client, tmp_path: Path) -> None:
    await client.save(source(tmp_path))
    with pytest.raises(Invalid, match="of kind csv, which cannot change"):
        await client.save(source(tmp_path, kind="parquet"))


async def test_a_key_that_there_is_not_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refusal:
        await client.save(source(tmp_path, schema_confg={}))
    assert (refusal.value.path, refusal.value.hint) == ("schema_confg", "did you mean schema_config?")


async def test_a_pipeline_is_applied_and_compared(client: Client, tmp_path: Path) -> None:
    await client.save(source(tmp_path))
    await client.save(destination(tmp_path))
    entry = Entry(EntryKind.PIPELINE, PIPELINE)
    assert (await client.compare(entry)).action == "created"
    assert (await client.save(entry)).action == "created"
    assert (await client.compare(entry)).action == "unchanged"
    changed = Entry(EntryKind.PIPELINE, {**PIPELINE, "description": "new"})
    assert [str(change) for change in (await client.compare(changed)).changes] == ["+ description: new"]
    assert await client.pipelines() == ["copy"]
    assert await client.definition("copy") == PIPELINE


async def test_a_pipeline_over_places_that_are_yet_to_be_added_is_compared_as_it_is_written(
    client: Client, tmp_path: Path
) -> None:
    entry = Entry(EntryKind.PIPELINE, PIPELINE)
    with pytest.raises(Invalid, match="there is no source 'files'"):
        await client.compare(entry)
    assert (await client.compare(entry, ["files"])).action == "created"
    await client.save(source(tmp_path))
    await client.save(destination(tmp_path))
    await client.save(entry)
    changed = Entry(EntryKind.PIPELINE, {**PIPELINE, "description": "new"})
    assert [str(change) for change in (await client.compare(changed, ["files"])).changes] == ["+ description: new"]


async def test_a_plan_is_read_and_made(client: Client, tmp_path: Path) -> None:
    await client.save(source(tmp_path))
    await client.save(destination(tmp_path))
    made = await client.compile(PIPELINE)
    assert [step.name for step in made.steps] == ["extract", "load"]
    await client.save(Entry(EntryKind.PIPELINE, PIPELINE))
    assert (await client.plan("copy")).fingerprint == made.fingerprint


async def test_a_source_that_there_is_not_cannot_be_discovered(client: Client) -> None:
    with pytest.raises(NotFound, match="there is no source 'files'"):
        await client.discover_source("files")
