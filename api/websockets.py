"""`graphql-transport-ws` as we speak it: strict about what comes in, closed when the sign-in ends or nobody reads."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

from starlette.websockets import WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message

from graphql_schema.context import Context

BAD_REQUEST: Final = 4400
FORBIDDEN: Final = 4403
TOO_SLOW: Final = 4410
"""Ours: the client reads slower than events come; it reconnects and goes on from its last cursor."""

SEND_SECONDS: Final = 10.0
PING_SECONDS: Final = 20.0
REASON_BYTES: Final = 120


class Adapter(ASGIWebSocketAdapter):
    """Sends with a time limit, so that a client which stops reading does not hold its events here."""

    send_seconds = SEND_SECONDS
    _cursor: str | None = None
    _giving_up: asyncio.Task[None] | None = None

    async def send_json(self, message: Mapping[str, object]) -> None:
        """Send one message; a client that takes none for ten seconds is closed, told where to go on."""
        if self._giving_up is not None:
            raise WebSocketDisconnected
        try:
            async with asyncio.timeout(self.send_seconds):
                await super().send_json(message)
        except TimeoutError as error:
            self._give_up()
            raise WebSocketDisconnected from error
        except RuntimeError as error:
            raise WebSocketDisconnected from error
        self._cursor = _cursor_of(message) or self._cursor

    def _give_up(self) -> None:
        """Close behind what the client has yet to read; a dead client is dropped by its missing pong."""
        if self._giving_up is None:
            reason = f"too slow; go on after {self._cursor}" if self._cursor else "too slow"
            self._giving_up = asyncio.create_task(self.close(TOO_SLOW, reason))

    async def close(self, code: int, reason: str) -> None:
        """Close, once, with a reason that fits into a close frame."""
        with suppress(RuntimeError, WebSocketDisconnect):
            await super().close(code, reason.encode()[:REASON_BYTES].decode(errors="ignore"))


class Conversation(BaseGraphQLTransportWSHandler[Context, None]):
    """One connection: refuses malformed messages with 4400, pings, and ends when the token does."""

    _closing: asyncio.Task[None] | None = None
    _pinging: asyncio.Task[None] | None = None

    async def handle_message(self, message: Message) -> None:
        """Take a message that has the form its type asks for."""
        problem = malformed(message)
        if problem is not None:
            await self.handle_invalid_message(problem)
            return
        with suppress(WebSocketDisconnected):
            await super().handle_message(message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Sign in, then watch over the connection."""
        header = self.context.connection_params
        if message.get("payload") is None:
            message = cast(ConnectionInitMessage, {"type": "connection_init", "payload": header})
        else:
            message["payload"] = {**header, **cast("dict[str, object]", message.get("payload") or {})}
        await super().handle_connection_init(message)
        if self.connection_acknowledged and self._closing is None:
            self._closing = asyncio.create_task(self._close_when_signed_out())
            self._pinging = asyncio.create_task(self._ping())

    async def shutdown(self) -> None:
        """Stop watching, then stop the operations."""
        for task in (self._closing, self._pinging):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await super().shutdown()

    async def _close_when_signed_out(self) -> None:
        if self.context.expires_at is None:
            return
        left = (self.context.expires_at - self.context.services.clock()).total_seconds()
        await asyncio.sleep(max(0.0, left))
        await self.websocket.close(FORBIDDEN, "the token has expired; sign in again and go on from the last cursor")

    async def _ping(self) -> None:
        with suppress(WebSocketDisconnected):
            while True:
                await asyncio.sleep(PING_SECONDS)
                await self.send_message({"type": "ping"})


def malformed(message: object) -> str | None:
    """What is wrong with the form of a message, or None."""
    if not isinstance(message, dict):
        return "a message must be an object"
    kind, identifier, payload = message.get("type"), message.get("id"), message.get("payload")
    if not isinstance(kind, str):
        return "a message must have a type"
    if kind in ("subscribe", "complete") and not (isinstance(identifier, str) and identifier):
        return f"{kind} must have an id"
    if kind == "subscribe":
        return _malformed_operation(payload)
    if payload is not None and not isinstance(payload, dict):
        return f"the payload of {kind} must be an object"
    return None


def _malformed_operation(payload: object) -> str | None:
    if not isinstance(payload, dict):
        return "the payload of subscribe must be an object"
    if not isinstance(payload.get("query"), str):
        return "the query must be text"
    if not isinstance(payload.get("operationName"), str | None):
        return "the operationName must be text"
    for name in ("variables", "extensions"):
        if not isinstance(payload.get(name), dict | None):
            return f"the {name} must be an object"
    return None


def _cursor_of(message: Mapping[str, Any]) -> str | None:
    """The cursor of the event in a `next` message, if it has one."""
    data = (message.get("payload") or {}).get("data") if message.get("type") == "next" else None
    for event in data.values() if isinstance(data, dict) else ():
        if isinstance(event, dict) and isinstance(event.get("cursor"), str):
            return str(event["cursor"])
    return None
