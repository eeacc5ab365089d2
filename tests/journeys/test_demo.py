"""A newcomer's first command: the demo wedding platform, from nothing to its last row."""

from pathlib import Path

import orjson

from runtime.demo.definitions import PIPELINES
from tests.journeys.processes import completed, processes_of

SCALE = 0.02
ROWS = 500_000 * SCALE
LONGEST_SECONDS = 600


def test_the_demo_runs_its_pipelines_to_the_end_and_leaves_nothing_running(home: Path) -> None:
    ended = completed(home, "demo", "--json", "--scale", SCALE, seconds=LONGEST_SECONDS)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = orjson.loads(ended.stdout.splitlines()[-1])
    assert {pipeline["name"]: pipeline["status"] for pipeline in result["pipelines"]} == dict.fromkeys(
        PIPELINES, "completed"
    )
    for pipeline in result["pipelines"]:
        assert pipeline["records"] > 0
        assert pipeline["inserted"] > 0
        assert pipeline["quality"] is None
    assert result["rows"] == sum(pipeline["records"] for pipeline in result["pipelines"])
    assert result["rows"] >= ROWS
    assert 0 < result["seconds"] < LONGEST_SECONDS
    assert result["home"] == str(home)
    assert (home / "logs" / "runtime.log").exists()
    assert processes_of(home) == set()
