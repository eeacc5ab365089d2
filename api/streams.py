"""Server-sent events that are ready together, sent together."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from api.websockets import Adapter, Conversation
from graphql_schema.context import Context

GATHER_SECONDS: Final = 0.002
MOST_WAITING: Final = 100


async def gathered(chunks: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """The same text in fewer pieces: what comes within a moment is one, which costs server and client as much as one.

    At most `MOST_WAITING` chunks wait for a reader who is slow. An error of `chunks` comes after what came before it.
    """
    waiting, news, room = list[str](), asyncio.Event(), asyncio.Event()

    async def collect() -> None:
        async with aclosing(chunks):
            async for chunk in chunks:
                waiting.append(chunk)
                news.set()
                if len(waiting) >= MOST_WAITING:
                    room.clear()
                    await room.wait()

    collecting = asyncio.create_task(collect())
    collecting.add_done_callback(lambda _: news.set())
    try:
        while waiting or not collecting.done():
            await news.wait()
            await asyncio.wait([collecting], timeout=GATHER_SECONDS)
            news.clear()
            text = "".join(waiting)
            waiting.clear()
            room.set()
            if text:
                yield text
        collecting.result()
    finally:
        collecting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await collecting


class Streaming(GraphQL[Context, None]):
    """The stock view, whose subscriptions send their events so, and over WebSockets as `websockets` has it."""

    graphql_transport_ws_handler_class = Conversation
    websocket_adapter_class = Adapter

    async def create_streaming_response(
        self,
        request: Request | WebSocket,
        stream: Callable[[], AsyncIterator[str]],
        sub_response: Response,
        headers: Mapping[str, str],
    ) -> Response:
        """A subscription's answer."""
        chunks = cast("AsyncGenerator[str, None]", stream())
        return await super().create_streaming_response(request, lambda: gathered(chunks), sub_response, headers)
