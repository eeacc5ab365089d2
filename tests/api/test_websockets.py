"""WebSockets and server-sent events: signed in, strict about what comes in, ended with the sign-in."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar

import asyncpg
import httpx
import pytest
import strawberry
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from api.authentication import Authenticator
from api.graphql import GraphQLEndpoint
from api.websockets import TOO_SLOW, Adapter, malformed
from graphql_schema.context import Info, Services
from graphql_schema.fields import query, subscription
from graphql_schema.permissions import Permission
from graphql_schema.schema import OperationSchema, Options
from runtime.access.sealing import sealer_of
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings
from tests.kit.eventually import eventually
from tests.kit.graphql import serving, token
from tests.kit.identities import ANALYST, ENGINEER

PROTOCOL = Subprotocol("graphql-transport-ws")


@strawberry.type(description="An event.")
class Tick:
    """One event of the tests' stream."""

    __permission__ = Permission.SIGNED_IN

    number: int = strawberry.field(description="Which it is.")
    cursor: str = strawberry.field(description="Where to go on.")
    text: str = strawberry.field(description="Something long.")


@strawberry.type(name="Query")
class Queries:
    """What can be read."""

    @query(Permission.SIGNED_IN, "Who asks.")
    async def me(self, info: Info) -> str:
        return str(info.context.signed_in.user_id)


@strawberry.type(name="Subscription")
class Subscriptions:
    """What can be followed."""

    @subscription(Permission.SIGNED_IN, "Counts, then waits for ever.")
    async def ticks(self, count: int = 3, size: int = 1) -> AsyncIterator[Tick]:
        for number in range(count):
            yield Tick(number=number, cursor=f"c{number}", text="x" * size)
        await asyncio.Event().wait()

    @subscription(Permission.ADMINS, "For administrators.")
    async def secrets(self) -> AsyncIterator[int]:
        yield 1


class Hurried(Adapter):
    """Waits for a slow client only for a moment, and notes with which codes it began to close."""

    send_seconds = 0.3
    codes: ClassVar[list[int]] = []

    async def close(self, code: int, reason: str) -> None:
        self.codes.append(code)
        await super().close(code, reason)


@pytest.fixture
async def address(settings: Settings, database: Database) -> AsyncIterator[str]:
    """A server of a schema with streams."""
    schema = OperationSchema(Options.of(settings), query=Queries, subscription=Subscriptions)
    services = Services(settings, database, Bus(None), sealer_of(settings))
    endpoint = GraphQLEndpoint(schema, services, Authenticator.of(settings, database))
    endpoint.websocket_adapter_class = Hurried
    app = Starlette(routes=[Route("/graphql", endpoint), WebSocketRoute("/graphql", endpoint)])
    async with serving(app) as found:
        yield found


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[ClientConnection]:
    """A socket, before its first message."""
    async with connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL], **options) as socket:
        yield socket


async def say(socket: ClientConnection, **message: object) -> None:
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection) -> Any:
    async with asyncio.timeout(10):
        return json.loads(await socket.recv())


async def closing(socket: ClientConnection) -> tuple[int, str]:
    """The code and reason the server closes with, whatever it says before."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code or 0, socket.close_reason or ""


@asynccontextmanager
async def signed_in(address: str, given: str | None = None) -> AsyncIterator[ClientConnection]:
    """A socket whose first message was accepted."""
    async with opened(address) as socket:
        payload = {"authorization": f"Bearer {given or token(ENGINEER)}"}
        await say(socket, type="connection_init", payload=payload)
        assert await hear(socket) == {"type": "connection_ack"}
        yield socket


async def test_queries_and_streams_run_over_one_socket(address: str) -> None:
    async with signed_in(address) as socket:
        await say(socket, type="subscribe", id="stream", payload={"query": "subscription{ticks(count: 2){number}}"})
        events = [await hear(socket) for _ in range(2)]
        assert [event["payload"]["data"]["ticks"]["number"] for event in events] == [0, 1]
        await say(socket, type="subscribe", id="query", payload={"query": "{me}"})
        assert await hear(socket) == {
            "id": "query",
            "type": "next",
            "payload": {"data": {"me": str(ENGINEER.user_id)}},
        }
        assert await hear(socket) == {"id": "query", "type": "complete"}
        await say(socket, type="ping")
        assert await hear(socket) == {"type": "pong"}


async def test_a_token_in_the_header_of_the_handshake_signs_in_too(address: str) -> None:
    async with opened(address, additional_headers={"authorization": f"Bearer {token(ANALYST)}"}) as socket:
        await say(socket, type="connection_init")
        assert (await hear(socket))["type"] == "connection_ack"
        await say(socket, type="subscribe", id="1", payload={"query": "{me}"})
        assert (await hear(socket))["payload"]["data"]["me"] == str(ANALYST.user_id)


@pytest.mark.parametrize("payload", [None, {}, {"authorization": "Bearer nonsense"}, {"token": 17}])
async def test_a_socket_without_an_accepted_token_is_closed(address: str, payload: object) -> None:
    async with opened(address) as socket:
        await say(socket, type="connection_init", payload=payload)
        assert (await closing(socket))[0] == 4403


async def test_operations_before_the_first_message_are_refused(address: str) -> None:
    async with opened(address) as socket:
        await say(socket, type="subscribe", id="1", payload={"query": "{me}"})
        assert (await closing(socket))[0] == 4401


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "17",
        '"text"',
        "null",
        "{",
        "{}",
        '{"type": 1}',
        '{"type": "unknown"}',
        '{"type": "ping", "payload": []}',
        '{"type": "subscribe", "id": "1"}',
        '{"type": "subscribe", "id": "1", "payload": "text"}',
        '{"type": "subscribe", "id": "", "payload": {"query": "{me}"}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 17}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{me}", "variables": []}}',
        '{"type": "complete"}',
    ],
)
async def test_a_malformed_message_closes_the_socket_with_4400(address: str, text: str) -> None:
    async with signed_in(address) as socket:
        await socket.send(text)
        code, reason = await closing(socket)
    assert code == 4400
    assert reason


async def test_a_document_that_does_not_parse_is_an_error_of_its_operation_alone(address: str) -> None:
    async with signed_in(address) as socket:
        await say(socket, type="subscribe", id="1", payload={"query": "{me"})
        message = await hear(socket)
        assert (message["type"], message["payload"][0]["extensions"]["code"]) == ("error", "invalid")
        await say(socket, type="subscribe", id="2", payload={"query": "{me}"})
        assert (await hear(socket))["type"] == "next"


async def test_a_binary_message_closes_the_socket_with_4400(address: str) -> None:
    async with signed_in(address) as socket:
        await socket.send(b"\x00")
        assert (await closing(socket))[0] == 4400


@pytest.mark.parametrize("payload", [[], "text", 17, True])
async def test_a_first_message_whose_payload_is_no_object_closes_with_4400(address: str, payload: object) -> None:
    async with opened(address) as socket:
        await say(socket, type="connection_init", payload=payload)
        assert (await closing(socket))[0] == 4400


async def test_the_old_protocol_is_not_spoken(address: str) -> None:
    async with connect(f"ws://{address}/graphql", subprotocols=[Subprotocol("graphql-ws")]) as socket:
        assert (await closing(socket))[0] == 4406


async def test_a_page_of_another_origin_cannot_open_a_socket(address: str) -> None:
    with pytest.raises(Exception, match="403"):
        async with opened(address, origin="https://evil.example"):
            pass


async def test_a_stream_that_is_not_permitted_is_an_error_of_the_operation(address: str) -> None:
    async with signed_in(address) as socket:
        await say(socket, type="subscribe", id="1", payload={"query": "subscription{secrets}"})
        message = await hear(socket)
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == "denied"


async def test_the_socket_is_closed_when_the_token_expires(address: str) -> None:
    async with signed_in(address, token(ENGINEER, timedelta(seconds=2))) as socket:
        await say(socket, type="subscribe", id="1", payload={"query": "subscription{ticks(count: 1){number}}"})
        assert (await hear(socket))["type"] == "next"
        code, reason = await closing(socket)
    assert code == 4403
    assert "expired" in reason


async def given_up() -> bool:
    return TOO_SLOW in Hurried.codes


async def test_a_client_that_does_not_read_is_closed_and_told_where_to_go_on(address: str) -> None:
    async with connect(f"ws://{address}/graphql", subprotocols=[PROTOCOL], max_size=None, max_queue=1) as socket:
        await say(socket, type="connection_init", payload={"token": token(ENGINEER)})
        await hear(socket)
        document = "subscription{ticks(count: 200, size: 500000){cursor text}}"
        await say(socket, type="subscribe", id="1", payload={"query": document})
        await eventually(given_up, because="the server gives the client up")
        last = ""
        with suppress(ConnectionClosed):
            while True:
                last = (await hear(socket))["payload"]["data"]["ticks"]["cursor"]
    assert socket.close_code == TOO_SLOW
    assert socket.close_reason == f"too slow; go on after {last}"
    assert last != "c199"


async def test_a_stream_that_was_left_leaves_no_transaction_open(address: str, owner: asyncpg.Connection) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3):
            socket = await stack.enter_async_context(signed_in(address))
            await say(socket, type="subscribe", id="1", payload={"query": "subscription{ticks{number}}"})
            await hear(socket)
    idle = "SELECT count(*) = 0 FROM pg_stat_activity WHERE state LIKE 'idle in %' AND datname = current_database()"

    async def settled() -> bool:
        return bool(await owner.fetchval(idle))

    await eventually(settled, because="no transaction is left open")


async def test_a_stream_comes_as_server_sent_events(address: str) -> None:
    headers = {"authorization": f"Bearer {token(ENGINEER)}", "accept": "text/event-stream"}
    body = {"query": "subscription{ticks(count: 2){number}}"}
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"http://{address}/graphql", json=body, headers=headers) as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        lines: list[str] = []
        async for line in answer.aiter_lines():
            lines += [line] if line else []
            if len(lines) == 4:
                break
    assert lines[0::2] == ["event: next", "event: next"]
    assert [json.loads(line.removeprefix("data: "))["data"]["ticks"]["number"] for line in lines[1::2]] == [0, 1]


async def test_a_stream_of_events_ends_with_the_token_and_says_so(address: str) -> None:
    headers = {
        "authorization": f"Bearer {token(ENGINEER, timedelta(seconds=2))}",
        "accept": "text/event-stream",
    }
    body = {"query": "subscription{ticks(count: 1){number}}"}
    async with asyncio.timeout(10), httpx.AsyncClient() as client:
        answer = await client.post(f"http://{address}/graphql", json=body, headers=headers)
    first, last, end = (event.split("\r\n") for event in answer.text.strip().split("\r\n\r\n"))
    assert json.loads(first[1].removeprefix("data: "))["data"] == {"ticks": {"number": 0}}
    assert json.loads(last[1].removeprefix("data: "))["errors"][0]["extensions"]["code"] == "token_expired"
    assert end[0] == "event: complete"


def test_a_message_without_fault_is_taken() -> None:
    for message in (
        {"type": "connection_init"},
        {"type": "connection_init", "payload": {"authorization": "x"}},
        {"type": "pong"},
        {"type": "subscribe", "id": "1", "payload": {"query": "{me}", "variables": None, "operationName": None}},
        {"type": "complete", "id": "1"},
    ):
        assert malformed(message) is None
