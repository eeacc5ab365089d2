"""An HTTP source that answers when it is told to, or once enough ask at the same time, and knows who asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from models.fields import JsonObject
from tests.kit.eventually import eventually
from tests.kit.graphql import serving

ROWS = 10
PATIENCE_SECONDS = 600


@dataclass
class GatedApi:
    """The API: each GET gives `ROWS` rows `{"id"}` once the gate is open; `meeting` requests open it by themselves."""

    address: str = ""
    meeting: int | None = None
    visitors: list[int] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: Request) -> JSONResponse:
        """Note which process asks, and let it wait."""
        assert request.client is not None
        self.asked.append(dict(request.query_params))
        self.visitors.append(await asyncio.to_thread(process_at, request.client.port))
        if self.meeting is not None and len(self.visitors) >= self.meeting:
            self.open()
        await self._gate.wait()
        return JSONResponse([{"id": number} for number in range(ROWS)])

    def open(self) -> None:
        """Answer all who wait and whoever asks from now on."""
        self._gate.set()

    def close(self) -> None:
        """Let those who ask from now on wait."""
        self._gate.clear()

    async def visited(self, times: int = 1, within: float = 30.0) -> int:
        """Wait until that many have asked; the process that asked last."""

        async def came() -> bool:
            return len(self.visitors) >= times

        await eventually(came, within=within, because=f"the API is asked {times} times")
        return self.visitors[times - 1]

    @property
    def connection(self) -> JsonObject:
        """The configuration of a source of kind `http` with the dataset `rows`."""
        endpoint: JsonObject = {"path": "/rows", "columns": {"id": "BIGINT"}}
        patience: JsonObject = {"retry": {"attempts": 1}, "timeout_seconds": PATIENCE_SECONDS}
        return {"base_url": f"http://{self.address}", "endpoints": {"rows": endpoint}, **patience}


@asynccontextmanager
async def gated_api(meeting: int | None = None) -> AsyncIterator[GatedApi]:
    """The API on a free port of the loopback."""
    api = GatedApi(meeting=meeting)
    async with serving(Starlette(routes=[Route("/rows", api.answer)])) as address:
        api.address = address
        try:
            yield api
        finally:
            api.open()


def process_at(port: int) -> int:
    """The process whose end of a loopback connection has this port."""
    found = [one.pid for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port and one.pid]
    return int(found[0])
