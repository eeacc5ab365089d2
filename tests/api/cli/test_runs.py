"""Pipelines are run, watched, looked at and stopped."""

from pathlib import Path
from uuid import uuid4

import pytest

from api.cli.runs import standing
from api.client import ExecutionSummary
from models.fields import Json, JsonObject
from tests.api.cli.conftest import Guests
from tests.kit.platform import Platform


def test_a_watched_run_shows_how_it_ends(saved: Guests) -> None:
    said = saved.run("run", saved.name, "--watch")
    assert said.status == 0, said.err
    assert f"{saved.name} completed in" in said.out
    assert "3 read, 2 inserted, 0 updated, 0 set aside" in said.out
    assert saved.written() == ["Ada,yes", "Cleo,yes", "guest,comes"]


def test_a_run_for_machines_is_its_execution(saved: Guests) -> None:
    execution = saved.run("run", saved.name, "--watch", "--json").json
    assert isinstance(execution, dict)
    told = {key: execution[key] for key in ("pipeline_name", "status", "records_processed", "records_inserted")}
    assert told == {
        "pipeline_name": saved.name,
        "status": "completed",
        "records_processed": 3,
        "records_inserted": 2,
    }
    assert isinstance(execution["steps"], list)
    assert [step["step_name"] for step in execution["steps"] if isinstance(step, dict)] == ["read", "coming", "keep"]


def test_a_dry_run_commits_nothing(saved: Guests) -> None:
    assert saved.run("run", saved.name, "--dry-run", "--watch").status == 0
    assert saved.written() == []


def test_a_key_makes_a_repeated_run_the_same_one(saved: Guests) -> None:
    first, second = (saved.run("run", saved.name, "--key", "once", "--json").json for _ in range(2))
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["id"] == second["id"]


def test_a_failed_run_has_status_1_and_says_where_and_what_to_do(saved: Guests) -> None:
    (saved.folder / "in" / "guests.csv").unlink()
    said = saved.run("run", saved.name, "--watch")
    assert said.status == 1
    assert f"{saved.name} failed in" in said.out
    assert "there is no file or folder 'guests.csv'" in said.out
    assert "check the dataset's name" in said.out


def test_executions_are_listed_and_their_logs_read(saved: Guests) -> None:
    execution = saved.run("run", saved.name, "--watch", "--json").json
    assert isinstance(execution, dict)
    listed = saved.run("executions", saved.name)
    assert listed.status == 0
    assert str(execution["execution_id"]) in listed.out
    logged = saved.run("logs", execution["execution_id"], "--follow")
    assert logged.status == 0, logged.err
    assert "step_completed" in logged.out
    assert "execution_completed" in logged.out.splitlines()[-1]
    last = saved.run("logs", execution["id"], "--json").json
    assert isinstance(last, dict)
    assert last["kind"] == "execution_completed"


def test_a_parameter_is_name_and_value(platform: Platform) -> None:
    said = platform.run("run", "anything", "--param", "day")
    assert said.status == 1
    assert "'day' is no parameter" in said.err


def test_an_execution_that_there_is_not_is_told(platform: Platform) -> None:
    for command in ("logs", "cancel"):
        said = platform.run(command, "nothing-of-that-name")
        assert said.status == 1
        assert "there is no execution 'nothing-of-that-name'" in said.err


def test_what_has_ended_cannot_be_cancelled(saved: Guests) -> None:
    execution = saved.run("run", saved.name, "--watch", "--json").json
    assert isinstance(execution, dict)
    said = saved.run("cancel", execution["execution_id"])
    assert said.status == 1
    assert "the execution is completed already" in said.err


SLOW = """
source:
  source_name: {name}-in
  kind: postgres
  connection_config: {{url: "{uri}"}}
---
pipeline:
  pipeline_name: {name}
  pipeline_type: etl
  steps:
    - name: wait
      type: extract
      config: {{source_id: {name}-in, query: SELECT 1 AS answer FROM pg_sleep(60)}}
"""


def test_a_running_execution_is_cancelled(platform: Platform, tmp_path: Path) -> None:
    name, postgres = platform.name("slow"), platform.stack.postgres
    assert postgres is not None
    (tmp_path / "slow.yaml").write_text(SLOW.format(name=name, uri=postgres.libpq_uri("postgres")))
    assert platform.run("apply", tmp_path).status == 0
    execution = platform.run("run", name, "--json").json
    assert isinstance(execution, dict)
    said = platform.run("cancel", execution["execution_id"])
    assert said.status == 0, said.err
    assert said.out.split()[1] in ("cancelling", "cancelled")
    platform.run("logs", execution["id"], "--follow")
    assert "cancelled" in platform.run("executions", name).out


def test_a_failed_run_is_retried_from_where_it_failed(saved: Guests) -> None:
    source = saved.folder / "in" / "guests.csv"
    guests = source.read_text()
    source.unlink()
    execution = saved.run("run", saved.name, "--watch", "--json").json
    assert isinstance(execution, dict)
    source.write_text(guests)
    previewed = saved.run("retry", execution["execution_id"], "--preview")
    assert "it failed" in previewed.out, previewed.err
    said = saved.run("retry", execution["execution_id"], "--watch")
    assert said.status == 0, said.err
    assert f"{saved.name} completed in" in said.out
    again = saved.run("retry", execution["execution_id"])
    assert again.status == 1
    assert "was taken up by" in again.err


def test_steps_are_run_again_from_one_on(saved: Guests) -> None:
    execution = saved.run("run", saved.name, "--watch", "--json").json
    assert isinstance(execution, dict)
    preview = saved.run("rerun", execution["execution_id"], "--from", "keep", "--preview", "--json").json
    assert isinstance(preview, dict)
    assert isinstance(preview["steps"], list)
    assert {step["fate"] for step in preview["steps"] if isinstance(step, dict)} == {"run"}
    said = saved.run("rerun", execution["execution_id"], "--from", "keep", "--watch")
    assert said.status == 0, said.err
    refused = saved.run("rerun", execution["execution_id"], "--from", "nowhere")
    assert refused.status == 1
    assert "'nowhere' is not a step of that version" in refused.err


@pytest.mark.parametrize(
    ("state", "waiting", "said"),
    [
        ("QUEUED", {"reason": "POOL", "name": "etl", "limit": 2, "running": 2}, "the pool etl is full (2 of 2 run)"),
        (
            "QUEUED",
            {"reason": "PIPELINE_LIMIT", "name": "p", "limit": 1, "running": 1},
            "its pipeline is at its limit (1 of 1 run)",
        ),
        ("QUEUED", {"reason": "SUPERVISOR"}, "queued: waits for a free worker"),
        ("RUNNING", None, "running, late"),
        ("COMPLETED", None, "completed"),
    ],
)
def test_an_execution_says_what_it_waits_for_and_that_it_is_late(
    state: str, waiting: dict[str, Json] | None, said: str
) -> None:
    late = None if state == "QUEUED" else "2026-01-01T06:00:00Z"
    status = "COMPLETED" if state == "COMPLETED" else "RUNNING"
    shown: JsonObject = {"id": str(uuid4()), "executionId": "exec-1", "executionType": "MANUAL", "status": status}
    more: JsonObject = {"startedAt": "2026-01-01T00:00:00Z", "pipeline": {"pipelineName": "p"}, "waitingFor": waiting}
    execution = ExecutionSummary.model_validate({**shown, **more, "state": state, "lateAt": late})
    assert standing(execution).endswith(said)


def test_a_run_may_go_before_others(saved: Guests) -> None:
    assert saved.run("run", saved.name, "--priority", "50", "--watch").status == 0
    said = saved.run("run", saved.name, "--priority", "5000")
    assert said.status == 1
    assert "5000 is no priority" in said.err
    assert "say -1000 to 1000" in said.err
