"""Schedules in GraphQL and REST: shown, paused, resumed, and started by signed requests."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import httpx

from models.fields import Json, JsonObject
from runtime.database import Database
from runtime.schedules.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature_of
from tests.api.test_subscriptions import event_of, messages, socket_of, subscribe
from tests.kit.factories.pipelines import places, simple
from tests.kit.graphql import Api, token
from tests.kit.identities import ANALYST, ENGINEER

CREATE = """mutation($definition: JSON!) { createPipeline(input: {definition: $definition}) {
    __typename ... on Pipeline { id nextScheduledRun } ... on Error { code message path } } }"""
SHOWN = """query { pipeline(reference: "nightly") {
    nextScheduledRun
    schedule { config isPaused nextFireAt lastFireAt nextRuns(first: 3)
        fires(first: 5) { fireTime outcome reason execution { id } } }
} }"""
PAUSE = """mutation { pauseSchedule(id: "nightly") {
    __typename ... on Schedule { isPaused } ... on Error { code message hint } } }"""
RESUME = PAUSE.replace("pause", "resume")
SECRET = """mutation { issueWebhookSecret(id: "nightly") {
    __typename ... on WebhookSecret { address secret } ... on Error { code message hint } } }"""


async def nightly(api: Api, database: Database, **schedule: Json) -> None:
    await places(database)
    config: JsonObject = schedule or {"type": "cron", "expression": "0 2 * * *", "timezone": "UTC"}
    made = await api.ask(CREATE, {"definition": simple("nightly", schedule_config=config)})
    assert made["__typename"] == "Pipeline", made


async def test_a_saved_schedule_tells_its_next_moments(api: Api, database: Database) -> None:
    await nightly(api, database)
    shown = await api.ask(SHOWN)
    runs = shown["schedule"]["nextRuns"]
    assert shown["nextScheduledRun"] == shown["schedule"]["nextFireAt"] == runs[0]
    assert [datetime.fromisoformat(run).astimezone(UTC).hour for run in runs] == [2, 2, 2]
    assert shown["schedule"]["fires"] == []
    assert shown["schedule"]["config"]["expression"] == "0 2 * * *"


async def test_what_became_of_moments_is_shown_to_those_who_may_see_executions(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    await nightly(api, database)
    await owner.execute(
        """WITH made AS (INSERT INTO pipeline_executions (pipeline_id, execution_id, execution_type, started_at)
               SELECT pipeline_id, 'e', 'scheduled', now() FROM schedules RETURNING id)
           INSERT INTO schedule_fires (schedule_id, fire_time, outcome, execution_id)
           SELECT schedules.id, now(), 'submitted', made.id FROM schedules, made"""
    )
    (fire,) = (await api.ask(SHOWN))["schedule"]["fires"]
    assert (fire["outcome"], fire["execution"] is None) == ("SUBMITTED", False)
    (seen,) = (await api.ask(SHOWN, by=ANALYST))["schedule"]["fires"]
    assert (seen["outcome"], seen["execution"]) == ("SUBMITTED", None)


async def test_a_pause_hides_the_next_run_until_it_is_resumed(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    await nightly(api, database)
    assert (await api.ask(PAUSE, by=ANALYST))["__typename"] == "DeniedError"
    assert (await api.ask(PAUSE))["isPaused"] is True
    assert (await api.ask(SHOWN))["nextScheduledRun"] is None
    assert (await api.ask(RESUME))["isPaused"] is False
    assert (await api.ask(SHOWN))["nextScheduledRun"] is not None
    actions = await owner.fetchval("SELECT array_agg(action ORDER BY id) FROM audit_log WHERE entity_type = 'schedule'")
    assert actions == ["pause", "resume"]


async def test_bad_schedules_are_refused_where_they_are_wrong(api: Api, database: Database) -> None:
    await places(database)
    cases: list[tuple[JsonObject, str, str]] = [
        ({"type": "cron", "expression": "0 0 31 2 *"}, "schedule_config.expression", "never comes"),
        ({"type": "cron", "expression": "0 0 * * *", "timezone": "Mars/X"}, "schedule_config.timezone", "not a time"),
        ({"type": "interval", "expression": "0m"}, "schedule_config.expression", "should be a number from 1"),
        ({"type": "event", "expression": "pipeline:nobody"}, "schedule_config.expression", "no pipeline 'nobody'"),
    ]
    for config, path, said in cases:
        refused = await api.ask(CREATE, {"definition": simple("nightly", schedule_config=config)})
        assert (refused["__typename"], refused["path"]) == ("InvalidError", path)
        assert said in refused["message"]


async def test_rest_tells_the_next_run_and_leaves_it_out_without_a_schedule(api: Api, database: Database) -> None:
    await nightly(api, database)
    await api.ask(CREATE, {"definition": simple("by hand", schedule_config=None)})
    headers = {"authorization": f"Bearer {token(ENGINEER)}"}
    listed = (await api.http.get("/api/data-pipelines", headers=headers)).json()["pipelines"]
    known = {one["pipeline_name"]: one for one in listed}
    run = datetime.fromisoformat(known["nightly"]["next_scheduled_run"])
    assert run.tzinfo is not None
    assert run > datetime.now(UTC)
    assert "next_scheduled_run" not in known["by hand"]


async def test_a_webhook_takes_what_is_signed_and_refuses_the_rest(
    api: Api, database: Database, owner: asyncpg.Connection
) -> None:
    await nightly(api, database, type="event", expression="webhook:vendors")
    assert (await api.http.post("/api/webhooks/vendors", content=b"{}")).status_code == 401
    issued = await api.ask(SECRET)
    assert issued["address"] == "/api/webhooks/vendors"

    async def posted(secret: str, name: str = "vendors") -> httpx.Response:
        stamp = str(int(datetime.now(UTC).timestamp()))
        headers = {TIMESTAMP_HEADER: stamp, SIGNATURE_HEADER: signature_of(secret, stamp, b"{}")}
        return await api.http.post(f"/api/webhooks/{name}", content=b"{}", headers=headers)

    assert (await posted(issued["secret"])).status_code == 202
    assert (await posted("wrong")).status_code == 401
    assert (await posted(issued["secret"], "nobody")).status_code == 404
    assert await owner.fetchval("SELECT count(*) FROM schedule_arrivals") == 1


async def test_a_secret_needs_a_webhook(api: Api, database: Database) -> None:
    await nightly(api, database)
    refused = await api.ask(SECRET)
    assert refused["code"] == "invalid"
    assert "webhook:NAME" in refused["hint"]


WATCH = """subscription($pipeline: ID, $outcomes: [FireOutcome!], $after: String) {
    scheduleFires(pipeline: $pipeline, outcomes: $outcomes, after: $after) { cursor pipelineName outcome reason } }"""
DECIDE = """INSERT INTO schedule_fires (schedule_id, fire_time, outcome, reason)
    SELECT id, clock_timestamp(), $1, $2 FROM schedules"""


async def test_moments_are_followed_by_outcome_and_behind_a_cursor(
    api: Api, live: str, database: Database, owner: asyncpg.Connection
) -> None:
    await nightly(api, database)
    await owner.execute(DECIDE, "submitted", None)
    await owner.execute(DECIDE, "missed", "nothing could start it in time")
    async with socket_of(live, ANALYST) as socket:
        await subscribe(socket, WATCH, pipeline="nightly", outcomes=["MISSED", "SKIPPED"], after="0")
        stream = messages(socket)
        first = event_of(await anext(stream))
        assert (first["pipelineName"], first["outcome"]) == ("nightly", "MISSED")
        await owner.execute(DECIDE, "submitted", None)
        await owner.execute(DECIDE, "skipped", "it was paused")
        assert event_of(await anext(stream))["reason"] == "it was paused"
    async with socket_of(live) as socket:
        await subscribe(socket, WATCH, after=first["cursor"])
        stream = messages(socket)
        seen = [event_of(await anext(stream))["outcome"] for _ in range(2)]
    assert seen == ["SUBMITTED", "SKIPPED"]


async def test_only_what_is_decided_from_now_on_is_followed_without_a_cursor(
    api: Api, live: str, database: Database, owner: asyncpg.Connection
) -> None:
    await nightly(api, database)
    await owner.execute(DECIDE, "missed", "before")
    async with socket_of(live) as socket:
        await subscribe(socket, WATCH)
        stream = messages(socket)
        waiting = asyncio.create_task(anext(stream))
        done, _ = await asyncio.wait([waiting], timeout=1.5)
        assert not done
        await owner.execute(DECIDE, "missed", "after")
        assert event_of(await waiting)["reason"] == "after"


async def test_following_the_schedule_of_a_pipeline_that_is_not_there_is_refused(live: str) -> None:
    async with socket_of(live) as socket:
        await subscribe(socket, WATCH, pipeline="nobody")
        message = await anext(messages(socket))
    (error,) = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert error["extensions"]["code"] == "not_found"
