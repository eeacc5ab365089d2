"""Subscriptions over WebSockets and server-sent events: what happens arrives, and a lost connection loses nothing."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from models.events import EventKind
from models.executions import ExecutionState, PipelineExecution
from runtime.access.principal import Principal
from runtime.database import Database
from tests.kit.factories.pipelines import execution, pipeline, places, saved, told
from tests.kit.graphql import token
from tests.kit.identities import ANALYST, ENGINEER

PROTOCOL = Subprotocol("graphql-transport-ws")
PROGRESS, DONE = EventKind.STEP_PROGRESS, EventKind.EXECUTION_COMPLETED
EVENTS = """subscription($id: ID!, $after: String) {
    executionEvents(executionId: $id, after: $after) { cursor seq kind payload execution { status } } }"""
ALL = "subscription($after: String) { executions(after: $after) { cursor executionId seq kind } }"


@pytest.fixture
async def running(database: Database) -> PipelineExecution:
    await places(database)
    row = execution((await pipeline(database)).id, ExecutionState.RUNNING)
    await saved(database, row)
    return row


@asynccontextmanager
async def socket_of(address: str, by: Principal = ENGINEER) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL]) as socket:
        await socket.send(json.dumps({"type": "connection_init", "payload": {"token": token(by)}}))
        assert json.loads(await socket.recv())["type"] == "connection_ack"
        yield socket


async def subscribe(socket: ClientConnection, query: str, name: str = "1", **variables: object) -> None:
    payload = {"query": query, "variables": variables}
    await socket.send(json.dumps({"type": "subscribe", "id": name, "payload": payload}))


async def messages(socket: ClientConnection) -> AsyncGenerator[Any, None]:
    """What the server says, to the end of the operation."""
    while True:
        async with asyncio.timeout(15):
            message = json.loads(await socket.recv())
        yield message
        if message["type"] != "next":
            return


def event_of(message: Any) -> Any:
    (event,) = message["payload"]["data"].values()
    return event


async def test_a_stream_replays_follows_and_completes(
    live: str, database: Database, running: PipelineExecution
) -> None:
    await told(database, running, [PROGRESS, PROGRESS])
    seen = []
    async with socket_of(live) as socket:
        await subscribe(socket, EVENTS, id=running.execution_id)
        async for message in messages(socket):
            if message["type"] == "complete":
                break
            seen.append(event_of(message))
            if len(seen) == 2:
                await told(database, running, [PROGRESS, DONE])
    assert [event["seq"] for event in seen] == [1, 2, 3, 4]
    assert seen[0]["payload"] == {"n": 1}
    assert (seen[0]["execution"]["status"], seen[-1]["execution"]["status"]) == ("RUNNING", "COMPLETED")


async def test_one_that_disconnects_and_resumes_sees_neither_gap_nor_repeat(
    live: str, database: Database, running: PipelineExecution
) -> None:
    async def work() -> None:
        for _ in range(30):
            await told(database, running, [PROGRESS] * 3)
        await told(database, running, [DONE])

    working = asyncio.create_task(work())
    seen: list[int] = []
    cursor, complete = "0", False
    while not complete:
        async with socket_of(live) as socket:
            await subscribe(socket, EVENTS, id=str(running.id), after=cursor)
            before = len(seen)
            async for message in messages(socket):
                complete = message["type"] == "complete"
                if complete:
                    break
                seen.append(event_of(message)["seq"])
                cursor = event_of(message)["cursor"]
                if len(seen) == before + 11:
                    break
    await working
    assert seen == list(range(1, 92))


async def test_all_executions_are_followed_from_a_cursor(
    live: str, database: Database, running: PipelineExecution
) -> None:
    other = execution(running.pipeline_id, ExecutionState.RUNNING)
    await saved(database, other)
    await told(database, running, [PROGRESS])
    async with socket_of(live) as socket:
        await subscribe(socket, ALL, after="0")
        async with aclosing(messages(socket)) as heard:
            first = event_of(await anext(heard))
            await told(database, other, [PROGRESS])
            second = event_of(await anext(heard))
    assert [first["executionId"], second["executionId"]] == [str(running.id), str(other.id)]
    async with socket_of(live) as socket:
        await subscribe(socket, ALL, after=first["cursor"])
        async with aclosing(messages(socket)) as heard:
            assert event_of(await anext(heard)) == second


async def test_what_is_hidden_is_not_found(live: str, running: PipelineExecution) -> None:
    async with socket_of(live, ANALYST) as socket:
        await subscribe(socket, EVENTS, id=str(running.id))
        async with aclosing(messages(socket)) as heard:
            error = (await anext(heard))["payload"]
    (told_,) = error if isinstance(error, list) else error["errors"]
    assert told_["extensions"]["code"] == "not_found"


async def test_a_wrong_cursor_is_refused(live: str, running: PipelineExecution) -> None:
    async with socket_of(live) as socket:
        await subscribe(socket, EVENTS, id=str(running.id), after="yesterday")
        async with aclosing(messages(socket)) as heard:
            error = (await anext(heard))["payload"]
    (told_,) = error if isinstance(error, list) else error["errors"]
    assert told_["extensions"]["path"] == "after"


async def test_server_sent_events_carry_the_same_stream(
    live: str, database: Database, running: PipelineExecution
) -> None:
    await told(database, running, [PROGRESS, DONE])
    headers = {"authorization": f"Bearer {token(ENGINEER)}", "accept": "text/event-stream"}
    body = {"query": EVENTS, "variables": {"id": str(running.id)}}
    seen, kinds = [], []
    async with (
        httpx.AsyncClient(base_url=f"http://{live}", timeout=15) as client,
        client.stream("POST", "/graphql", json=body, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            name, _, value = line.partition(":")
            if name == "event":
                kinds.append(value.strip())
            if name == "data" and kinds[-1] == "next":
                seen.append(json.loads(value)["data"]["executionEvents"]["seq"])
    assert seen == [1, 2]
    assert kinds[-1] == "complete"


async def test_the_server_stops_while_somebody_watches(
    live: str, database: Database, running: PipelineExecution
) -> None:
    await told(database, running, [PROGRESS])
    async with socket_of(live) as socket:
        await subscribe(socket, EVENTS, id=str(running.id))
        async with aclosing(messages(socket)) as heard:
            assert event_of(await anext(heard))["seq"] == 1
