"""The command about schedules, at a program whose scheduler fires them."""

import asyncio
import signal
from datetime import datetime

import orjson

from tests.api.cli.conftest import Guests
from tests.journeys.processes import started
from tests.kit.eventually import eventually
from tests.kit.platform import Platform


def scheduled(guests: Guests, config: str) -> None:
    """Save the pipeline with a schedule."""
    written = guests.file.read_text().replace("  steps:\n", f"  schedule_config: {config}\n  steps:\n")
    guests.file.write_text(written)
    said = guests.run("apply", guests.file)
    assert said.status == 0, said.err


def test_a_schedule_runs_its_pipeline_and_tells_of_it(saved: Guests) -> None:
    scheduled(saved, "{type: interval, expression: 1s}")

    async def written() -> list[str]:
        return saved.written()

    assert "Ada,yes" in asyncio.run(eventually(written, within=90, because="the schedule has run the pipeline"))
    paused = saved.run("schedule", "pause", saved.name)
    assert paused.out == f"{saved.name} paused\n"
    fires = saved.run("schedule", "fires", saved.name, "--json", "--count", "50").json
    assert isinstance(fires, list)
    assert "submitted" in {one["outcome"] for one in fires if isinstance(one, dict)}
    assert "outcome" in saved.run("schedule", "fires", saved.name).out
    (listed,) = [line for line in saved.run("schedule", "list").out.splitlines() if saved.name in line]
    assert "interval 1s" in listed
    assert listed.rstrip().endswith("yes")
    assert saved.run("schedule", "secret", saved.name).status != 0


def test_the_next_moments_are_told(saved: Guests) -> None:
    scheduled(saved, '{type: cron, expression: "30 2 * * *", timezone: Europe/Berlin}')
    said = saved.run("schedule", "next", saved.name, "--count", "3")
    moments = [datetime.fromisoformat(line.removesuffix(" UTC")) for line in said.out.splitlines()]
    assert len(moments) == 3
    assert {moment.hour for moment in moments} <= {0, 1}
    assert saved.run("schedule", "resume", saved.name).out.startswith(f"{saved.name} next ")


def test_what_is_missing_is_said(saved: Guests) -> None:
    assert "needs the name of a pipeline" in saved.run("schedule", "pause").err
    assert "has no schedule" in saved.run("schedule", "next", saved.name).err


def test_moments_are_watched_until_somebody_has_seen_enough(platform: Platform, saved: Guests) -> None:
    scheduled(saved, "{type: interval, expression: 1s}")
    with started(platform.home, "schedule", "watch", saved.name, "--json") as watching:
        assert watching.stdout is not None
        fire = orjson.loads(watching.stdout.readline())
        assert (fire["pipeline_name"], fire["outcome"] in ("submitted", "skipped")) == (saved.name, True)
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)
        assert (watching.returncode, errors) == (0, "")
    assert saved.run("schedule", "pause", saved.name).status == 0
