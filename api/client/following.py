"""Subscriptions that go on however often their connection is lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from api.client.transport import Transport
from models.errors import Exhausted, Unavailable
from models.fields import Json

CUT: Final = "stream_cut"
RECONNECTS: Final = 40
RECONNECT_SECONDS: Final = 0.5


async def followed(transport: Transport, document: str, **variables: Json) -> AsyncIterator[Json]:
    """The values of a subscription to its end; behind the `cursor` of the last one where values have that.

    A stream that is cut is followed again; a server that is away is waited for up to 20 s, once it was there.
    """
    was_there, failures = variables.get("after") is not None, 0
    while True:
        try:
            async for value in transport.follow(document, **variables):
                was_there, failures = True, 0
                if isinstance(value, dict) and "cursor" in value:
                    variables["after"] = value["cursor"]
                yield value
            return
        except Exhausted:
            failures += 1
        except Unavailable as error:
            failures += error.specific_code != CUT
            if not was_there and error.specific_code != CUT:
                raise
        if failures > RECONNECTS:
            raise Unavailable(f"{transport.url} is away", hint="follow it again from its last cursor", code="no_server")
        await asyncio.sleep(RECONNECT_SECONDS)
