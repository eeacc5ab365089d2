"""Events over real sockets and streams: whoever is cut off goes on from the cursor, without gap or repeat."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from models.executions import ExecutionState
from models.fields import Json, JsonObject
from tests.kit.desk import Desk
from tests.kit.gated_api import GatedApi, gated_api
from tests.kit.graphql import token
from tests.kit.identities import ENGINEER

FIELDS = "cursor seq position kind stepName executionId"
OF_ONE = f"subscription($id: ID!, $after: String) {{ executionEvents(executionId: $id, after: $after) {{ {FIELDS} }} }}"
OF_ALL = f"subscription($after: String) {{ executions(after: $after) {{ {FIELDS} }} }}"
ANSWER_SECONDS = 30.0
TAKEN = 2
"""How many events a connection lives for."""

Event = dict[str, Any]


@pytest.fixture
async def gate() -> AsyncIterator[GatedApi]:
    async with gated_api() as made:
        yield made


@pytest.fixture
async def pipeline(desk: Desk, gate: GatedApi) -> str:
    """Two reads of the gated API, each filtered, into one load."""
    source, shelf = await desk.source("api", "http", gate.connection, discover=False), await desk.shelf("out")
    steps: list[Json] = []
    for side in ("left", "right"):
        steps.append({"name": side, "type": "extract", "config": {"source_id": source, "dataset": "rows"}})
        only: JsonObject = {"type": "filter", "config": {"condition": "id >= 0"}}
        steps.append({"name": f"only_{side}", "type": "transform", "depends_on": [side], "config": only})
    into: JsonObject = {"destination_id": shelf, "table_name": "t", "write_mode": "append"}
    steps.append({"name": "load", "type": "load", "depends_on": ["only_left", "only_right"], "config": into})
    return await desk.pipeline({"pipeline_name": "p", "pipeline_type": "etl", "steps": steps})


class Closed(Exception):
    """The server has nothing more to tell."""


class Socket:
    """A subscription over `graphql-transport-ws`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @classmethod
    async def opened(cls, desk: Desk, document: str, variables: JsonObject) -> "Socket":
        """Sign in and subscribe."""
        address = desk.stack.addresses.api_url.replace("http", "ws", 1)
        made = cls(await connect(f"{address}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")]))
        await made._say(type="connection_init", payload={"authorization": f"Bearer {token(ENGINEER)}"})
        assert (await made._hear())["type"] == "connection_ack"
        await made._say(type="subscribe", id="1", payload={"query": document, "variables": variables})
        return made

    async def event(self) -> Event:
        """The next event; raises `Closed` at the end."""
        while (message := await self._hear())["type"] in ("ping", "pong"):
            continue
        if message["type"] == "complete":
            raise Closed
        assert message["type"] == "next", message
        ((value),) = message["payload"]["data"].values()
        found: Event = value
        return found

    async def cut(self) -> None:
        """Drop the connection without a word."""
        self._connection.transport.abort()
        await self._connection.wait_closed()

    async def _say(self, **message: object) -> None:
        await self._connection.send(json.dumps(message))

    async def _hear(self) -> Any:
        async with asyncio.timeout(ANSWER_SECONDS):
            return json.loads(await self._connection.recv())


class EventStream:
    """A subscription over server-sent events."""

    def __init__(self, desk: Desk, document: str, variables: JsonObject) -> None:
        body = {"query": document, "variables": variables}
        self._stream = desk.http.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"})
        self._lines: AsyncIterator[str] | None = None

    @classmethod
    async def opened(cls, desk: Desk, document: str, variables: JsonObject) -> "EventStream":
        """Ask for the stream."""
        made = cls(desk, document, variables)
        answer = await made._stream.__aenter__()
        assert answer.status_code == 200
        made._lines = answer.aiter_lines()
        return made

    async def event(self) -> Event:
        """The next event; raises `Closed` at the end."""
        assert self._lines is not None
        kind = ""
        async with asyncio.timeout(ANSWER_SECONDS):
            async for line in self._lines:
                if line.startswith("event:"):
                    kind = line.removeprefix("event:").strip()
                if kind == "complete":
                    raise Closed
                if kind == "next" and line.startswith("data:"):
                    ((value),) = json.loads(line.removeprefix("data:"))["data"].values()
                    found: Event = value
                    return found
        raise Closed

    async def cut(self) -> None:
        """Drop the connection without a word."""
        await self._stream.__aexit__(None, None, None)


Opened = Callable[[Desk, str, JsonObject], Awaitable[Socket | EventStream]]
WAYS: dict[str, Opened] = {"a socket": Socket.opened, "a stream": EventStream.opened}


async def stored(desk: Desk, *executions: UUID) -> list[tuple[str, int, str, str | None]]:
    """The events of executions as they are in the database."""
    async with desk.connect() as connection:
        rows = await connection.fetch(
            "SELECT execution_id, seq, kind, step_name FROM execution_events WHERE execution_id = ANY($1)"
            " ORDER BY position",
            list(executions),
        )
    return [(str(row["execution_id"]), row["seq"], row["kind"], row["step_name"]) for row in rows]


def told(events: list[Event]) -> list[tuple[str, int, str, str | None]]:
    return [(one["executionId"], one["seq"], one["kind"].lower(), one["stepName"]) for one in events]


@pytest.mark.parametrize("way", WAYS)
async def test_one_who_is_cut_off_again_and_again_misses_nothing_and_hears_nothing_twice(
    desk: Desk, gate: GatedApi, pipeline: str, way: str
) -> None:
    execution = await desk.execute(pipeline)
    heard: list[Event] = []
    after: str | None = None
    while True:
        link = await WAYS[way](desk, OF_ONE, {"id": str(execution), "after": after})
        try:
            for _ in range(TAKEN):
                heard.append(await link.event())
                after = heard[-1]["cursor"]
        except Closed:
            break
        finally:
            await link.cut()
        if len(heard) >= 2 * TAKEN:
            gate.open()
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    assert told(heard) == await stored(desk, execution)
    assert heard[-1]["kind"] == "EXECUTION_COMPLETED"
    assert len(heard) > 4 * TAKEN


@pytest.mark.parametrize("way", WAYS)
async def test_one_who_watches_all_executions_goes_on_where_they_were_cut_off(
    desk: Desk, gate: GatedApi, pipeline: str, way: str
) -> None:
    async with desk.connect() as connection:
        after = str(await connection.fetchval("SELECT coalesce(max(position), 0) FROM execution_events"))
    ours = {str(await desk.execute(pipeline)) for _ in range(3)}
    gate.open()
    heard: list[Event] = []
    ended: set[str] = set()
    while ended != ours:
        link = await WAYS[way](desk, OF_ALL, {"after": after})
        for _ in range(5 * TAKEN):
            event = await link.event()
            after = event["cursor"]
            if event["executionId"] in ours:
                heard.append(event)
            if event["kind"] == "EXECUTION_COMPLETED":
                ended |= {event["executionId"]} & ours
            if ended == ours:
                break
        await link.cut()
    positions = [event["position"] for event in heard]
    assert positions == sorted(set(positions))
    assert told(heard) == await stored(desk, *map(UUID, ours))


async def test_one_who_comes_late_hears_the_whole_story(desk: Desk, gate: GatedApi, pipeline: str) -> None:
    gate.open()
    execution = await desk.execute(pipeline)
    assert (await desk.finished(execution)).state is ExecutionState.COMPLETED
    link = await Socket.opened(desk, OF_ONE, {"id": str(execution)})
    heard = [await link.event()]
    while heard[-1]["kind"] != "EXECUTION_COMPLETED":
        heard.append(await link.event())
    with pytest.raises(Closed):
        await link.event()
    assert told(heard) == await stored(desk, execution)
    await link.cut()
