"""A small real API for tests: records behind every kind of pagination, and every way to go wrong."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pyarrow as pa
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from runtime.connectors._row_writers import JsonLinesWriter

MOST_PER_PAGE = 7


@dataclass(slots=True)
class VendorApi:
    """The records it serves (each as JSON text), how it misbehaves, and what it was asked."""

    url: str = ""
    records: list[bytes] = field(default_factory=list)
    failures: list[Response] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    answer: Response | None = None
    date: str | None = None

    def put(self, rows: pa.Table, folder: Path) -> None:
        """Serve these rows."""
        path = folder / "served.jsonl"
        writer = JsonLinesWriter(path, rows.schema)
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()
        self.records = path.read_bytes().splitlines()

    def app(self) -> Starlette:
        """The application."""
        routes = {
            "/pages/guests": self.by_page,
            "/offsets/guests": self.by_offset,
            "/cursors/guests": self.by_cursor,
            "/links/guests": self.by_link,
            "/plain/guests": self.plain,
            "/venues/{venue}/guests": self.plain,
            "/stuck/guests": self.stuck,
            "/away": self.away,
            "/custom": self.custom,
        }
        return Starlette(routes=[Route(path, endpoint, methods=["GET", "POST"]) for path, endpoint in routes.items()])

    def by_page(self, request: Request) -> Response:
        """Numbered pages, never longer than seven records whatever was asked."""
        size = min(int(request.query_params.get("per_page", "5")), MOST_PER_PAGE)
        start = (int(request.query_params["page"]) - 1) * size
        pages = -(-len(self.records) // size)
        return self._served(request, self.records[start : start + size], b',"meta":{"pages":%d}' % pages)

    def by_offset(self, request: Request) -> Response:
        """Pages by offset."""
        start = int(request.query_params["offset"])
        size = min(int(request.query_params["limit"]), MOST_PER_PAGE)
        total = b',"meta":{"total":%d}' % len(self.records)
        return self._served(request, self.records[start : start + size], total)

    def by_cursor(self, request: Request) -> Response:
        """Pages by an opaque cursor."""
        start = int(request.query_params.get("after", "t0")[1:])
        following = start + MOST_PER_PAGE
        token = b'"t%d"' % following if following < len(self.records) else b"null"
        return self._served(request, self.records[start:following], b',"meta":{"next":%s}' % token)

    def by_link(self, request: Request) -> Response:
        """Pages by Link header."""
        start = int(request.query_params.get("from", "0"))
        response = self._served(request, self.records[start : start + MOST_PER_PAGE])
        if start + MOST_PER_PAGE < len(self.records):
            response.headers["Link"] = f'</links/guests?from={start + MOST_PER_PAGE}>; rel="next", </x>; rel="last"'
        return response

    def plain(self, request: Request) -> Response:
        """Everything at once, as a list."""
        self.requests.append(request)
        return Response(b"[" + b",".join(self.records) + b"]", media_type="application/json")

    def stuck(self, request: Request) -> Response:
        """The same page whatever is asked."""
        return self._served(request, self.records[:3])

    def away(self, request: Request) -> Response:
        """A redirect to wherever is asked."""
        self.requests.append(request)
        return RedirectResponse(request.query_params["to"], status_code=302)

    def custom(self, request: Request) -> Response:
        """Whatever the test prepared."""
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0)
        return self.answer or HTMLResponse("<html>Please sign in</html>")

    def _served(self, request: Request, records: list[bytes], more: bytes = b"") -> Response:
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0)
        headers = {"Date": self.date} if self.date else None
        body = b'{"data":{"items":[' + b",".join(records) + b"]}" + more + b"}"
        return Response(body, media_type="application/json", headers=headers)


@contextmanager
def served(api: VendorApi, host: str = "127.0.0.1") -> Iterator[VendorApi]:
    """The API on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        api.url = f"http://{host}:{listener.getsockname()[1]}"
        config = uvicorn.Config(api.app(), log_level="warning", lifespan="off", ws="none", date_header=api.date is None)
        server = uvicorn.Server(config)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        _wait_until(lambda: server.started)
        try:
            yield api
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def _wait_until(done: Callable[[], bool]) -> None:
    until = monotonic() + 10
    while not done():
        assert monotonic() < until, "the vendor API did not start"
        sleep(0.005)
