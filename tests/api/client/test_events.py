"""Events are followed to the last one, over connections that break."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from api.client import Client
from models.errors import NotFound, Unavailable
from models.events import EventKind
from tests.kit.graphql import serving, token
from tests.kit.identities import ENGINEER

KINDS = (EventKind.EXECUTION_QUEUED, EventKind.EXECUTION_STARTED, EventKind.STEP_STARTED, EventKind.EXECUTION_COMPLETED)


def event(seq: int) -> bytes:
    """The event of that number, as a stream tells it."""
    value = {"cursor": str(seq), "seq": seq, "kind": KINDS[seq - 1].name, "recordedAt": "2026-06-06T12:00:00Z"}
    return b"event: next\ndata: " + orjson.dumps({"data": {"executionEvents": {**value, "payload": {}}}}) + b"\n\n"


@dataclass
class Unsteady:
    """A server whose streams break off after one event each, until all are told."""

    asked: list[str | None] = field(default_factory=list)

    async def follow(self, request: Request) -> Response:
        """Tell the next event after the cursor that is asked for."""
        after = (await request.json())["variables"]["after"]
        self.asked.append(after)
        return StreamingResponse(self._pieces(int(after or 0) + 1), media_type="text/event-stream")

    async def _pieces(self, seq: int) -> AsyncIterator[bytes]:
        if seq <= len(KINDS):
            yield event(seq)
        if seq >= len(KINDS):
            yield b"event: complete\ndata:\n\n"


async def test_a_broken_stream_is_followed_again_from_its_last_cursor() -> None:
    server = Unsteady()
    app = Starlette(routes=[Route("/graphql", server.follow, methods=["POST"])])
    async with serving(app) as address, Client(f"http://{address}", "t") as client:
        events = [one async for one in client.events("x")]
    assert [one.seq for one in events] == [1, 2, 3, 4]
    assert events[-1].is_last
    assert server.asked == [None, "1", "2", "3"]


async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    async with Client("http://127.0.0.1:1", "t") as client:
        with pytest.raises(Unavailable, match="no server answers"):
            await anext(client.events("x"))


async def test_an_execution_that_there_is_not_is_told(live: str) -> None:
    async with Client(f"http://{live}", token(ENGINEER)) as client:
        with pytest.raises(NotFound, match="there is no execution 'x'"):
            await anext(client.events("x"))
