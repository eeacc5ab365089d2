"""Backfills are previewed, requested, watched, told of, and steered by command."""

from pathlib import Path

import pytest

from models.fields import JsonObject
from tests.api.cli.conftest import Guests
from tests.kit.platform import Command, Platform

DEFINITIONS = """
source:
  source_name: {name}-in
  kind: csv
  connection_config: {{root: {folder}/in, datasets: {{guests: guests.csv}}}}
---
destination:
  destination_name: {name}-out
  kind: csv
  connection_config: {{root: {folder}/out}}
---
pipeline:
  pipeline_name: {name}
  pipeline_type: etl
  parameters: {{range_start: "2026-01-01", range_end: "2026-01-02"}}
  source_config: {{source_id: {name}-in, dataset: guests}}
  destination_config: {{destination_id: {name}-out, table_name: copies, write_mode: append}}
"""
JANUARY = ("--from", "2026-01-01", "--to", "2026-01-06")


@pytest.fixture
def ranged(platform: Platform, tmp_path: Path) -> Guests:
    """A pipeline that appends three guests with each run, whatever its range."""
    made = Guests(platform.name("days"), tmp_path, platform.run)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "guests.csv").write_text("guest,comes\nAda,yes\nBen,no\nCleo,yes\n")
    made.file.write_text(DEFINITIONS.format(name=made.name, folder=tmp_path))
    assert made.run("apply", made.file, "--discover").status == 0
    return made


def copies(ranged: Guests) -> int:
    """How many rows the table has, the same ones too."""
    files = (ranged.folder / "out" / "copies").glob("*.csv")
    return sum(len(file.read_text().splitlines()) - 1 for file in files)


def test_a_watched_backfill_runs_every_chunk_once(ranged: Guests) -> None:
    said = ranged.run("backfill", ranged.name, *JANUARY, "--at-once", 2, "--watch")
    assert said.status == 0, said.err
    assert "completed: 5 completed of 5" in said.out
    assert copies(ranged) == 15
    again = ranged.run("backfill", ranged.name, *JANUARY, "--watch", "--json").json
    assert isinstance(again, dict)
    assert (again["state"], again["total"]) == ("completed", 5)
    wider = ranged.run("backfill", ranged.name, *JANUARY[:3], "2026-01-08", "--watch")
    assert "2 completed of 2" in wider.out
    assert "5 needed nothing" in wider.out
    listed = ranged.run("backfill", "list", ranged.name, "--json").json
    assert isinstance(listed, list)
    assert [one["total"] for one in listed if isinstance(one, dict)] == [2, 5]
    assert "2 completed of 2" in ranged.run("backfill", "list", ranged.name).out
    assert copies(ranged) == 21


def test_a_preview_lists_the_chunks_and_runs_none(ranged: Guests) -> None:
    said = ranged.run("backfill", ranged.name, *JANUARY, "--chunk", "2d", "--preview")
    assert said.status == 0, said.err
    assert "2026-01-05" in said.out
    assert "3 chunks would run, 0 have completed" in said.out
    found = ranged.run("backfill", ranged.name, *JANUARY, "--preview", "--json").json
    assert isinstance(found, dict)
    assert (found["total"], found["already"]) == (5, 0)
    assert ranged.run("executions", ranged.name, "--json").json == []


def test_a_backfill_is_told_of_and_steered(ranged: Guests) -> None:
    made: JsonObject = ranged.run("backfill", ranged.name, *JANUARY, "--chunk", "1h", "--json").json  # type: ignore[assignment]
    assert made["total"] == 120
    for word, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        said = ranged.run("backfill", word, made["id"])
        assert (said.status, f"{made['id']} {state}:" in said.out) == (0, True), said.err
    watched = ranged.run("backfill", "status", made["id"], "--watch")
    assert (watched.status, f"{made['id']} cancelled:" in watched.out) == (1, True)
    refused = ranged.run("backfill", "resume", made["id"])
    assert (refused.status, "request the range again" in refused.err) == (1, True)


def test_what_is_wrong_is_told_with_the_remedy(ranged: Guests) -> None:
    for arguments, told in (
        (("--from", "2026-01-01", "--to", "2026-01-01"), "give the next one as its end"),
        (("--from", "2016-01-01", "--to", "2026-01-01", "--chunk", "1m"), "cut it into chunks of 1d"),
        (("--from", "2026-01-01", "--to", "2026-01-02", "--chunk", "0d"), "such as 6h, 1d or 1mo"),
    ):
        said = ranged.run("backfill", ranged.name, *arguments)
        assert (said.status, told in said.err) == (1, True), said.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("anything",), "--from 2026-01-01 --to 2026-02-01"),
        (("anything", "--from", "2026-01-01"), "--to"),
        (("stop", "some-id"), "status, pause, resume, cancel"),
    ],
)
def test_a_command_that_says_too_little_is_told_what_to_write(
    wedsync: Command, arguments: tuple[str, ...], told: str
) -> None:
    said = wedsync("backfill", *arguments)
    assert (said.status, told in said.err) == (1, True)
