"""The vendor REST API: three datasets in pages, behind a key and a rate limit, that can be told to misbehave.

GET /v1/{vendors|prices|availability} answers `{"data": [...], "total": n, "page": n, "total_pages": n,
"next_cursor": text or null}`. It pages by `page` and `per_page` (pages count from 1), by `offset` and `limit`, or by
`cursor` and `limit`; `Link` names the next page. The key comes as `X-API-Key` or as a bearer token. PUT /v1/behaviour
`{"mode": "slow", "times": 2}` makes the next two answers slow.
"""

import asyncio
import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from secrets import compare_digest
from time import monotonic

import orjson
from pydantic import Field, ValidationError
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from models.base import StrictModel
from runtime.demo.pages import Pages

API_KEY = "demo-vendor-key"
PAGE_SIZE, LARGEST_PAGE = 1_000, 5_000


class Mode(StrEnum):
    """How the API behaves: as it should, slowly, with status 503, with 500, or with a page of HTML and status 200."""

    NORMAL = "normal"
    SLOW = "slow"
    BUSY = "busy"
    FAILING = "failing"
    HTML = "html"


class Behaviour(StrictModel):
    """A mode, for the next `times` answers (without: until told otherwise); `seconds` is how long slow takes."""

    mode: Mode = Mode.NORMAL
    times: int | None = Field(default=None, ge=1)
    seconds: float = Field(default=1.0, ge=0, le=60)


@dataclass(slots=True)
class RateLimit:
    """A bucket of `burst` requests that refills by `per_second`."""

    per_second: float = 50.0
    burst: int = 50
    _level: float = field(default=math.inf)
    _seen: float = 0.0

    def wait(self, now: float) -> float:
        """0 and one request taken, or the seconds until there is one; `now` is monotonic."""
        self._level = min(float(self.burst), self._level + (now - self._seen) * self.per_second)
        self._seen = now
        if self._level >= 1:
            self._level -= 1
            return 0.0
        return (1 - self._level) / self.per_second


@dataclass(frozen=True, slots=True)
class Window:
    """The rows asked for."""

    offset: int
    limit: int


class BadQuery(ValueError):
    """A parameter that cannot be understood."""


@dataclass(slots=True)
class VendorApi:
    """The API's rows and rules; `app()` makes the ASGI application that serves them."""

    pages: Mapping[str, Pages]
    key: str = API_KEY
    rate: RateLimit = field(default_factory=RateLimit)
    behaviour: Behaviour = field(default_factory=Behaviour)
    answered: int = 0
    limited: int = 0

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/v1/behaviour", self._behave, methods=["PUT"]),
                Route("/v1/{dataset}", self._list),
            ]
        )

    async def _behave(self, request: Request) -> Response:
        if not self._knows(request):
            return _unauthorised()
        try:
            self.behaviour = Behaviour.model_validate_json(await request.body())
        except ValidationError as error:
            return _problem(HTTPStatus.BAD_REQUEST, error.errors()[0]["msg"])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _list(self, request: Request) -> Response:
        """Refuse strangers first, so that they cannot use up the limit."""
        if not self._knows(request):
            return _unauthorised()
        wait = self.rate.wait(monotonic())
        if wait:
            self.limited += 1
            return _problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"more than {self.rate.per_second:g} requests a second",
                {"Retry-After": str(math.ceil(wait))},
            )
        return await self._misbehave() or self._page(request)

    async def _misbehave(self) -> Response | None:
        told = self.behaviour
        if told.times is not None:
            left = told.times - 1
            self.behaviour = told.model_copy(update={"times": left}) if left else Behaviour()
        match told.mode:
            case Mode.NORMAL:
                return None
            case Mode.SLOW:
                await asyncio.sleep(told.seconds)
                return None
            case Mode.BUSY:
                return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many ask at once")
            case Mode.FAILING:
                return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the vendor directory is out of order")
            case Mode.HTML:
                return HTMLResponse("<html><body><h1>We are back soon</h1></body></html>")

    def _page(self, request: Request) -> Response:
        pages = self.pages.get(request.path_params["dataset"])
        if pages is None:
            return _problem(HTTPStatus.NOT_FOUND, f"there are {', '.join(self.pages)}")
        try:
            window = window_of(request.query_params)
        except BadQuery as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        end = window.offset + window.limit
        more = end < pages.total
        facts = orjson.dumps(
            {
                "total": pages.total,
                "page": window.offset // window.limit + 1,
                "total_pages": math.ceil(pages.total / window.limit),
                "next_cursor": _cursor(end) if more else None,
            }
        )
        self.answered += 1
        body = b'{"data":' + pages.page(window.offset, window.limit) + b"," + facts[1:]
        headers = {"Link": f'<{_next(request, end, window.limit)}>; rel="next"'} if more else {}
        return Response(body, media_type="application/json", headers=headers)

    def _knows(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
        return compare_digest(given.encode(), self.key.encode())


def window_of(query: QueryParams) -> Window:
    """The rows that the parameters ask for; raises `BadQuery` for what cannot be understood, or is out of bounds."""
    if "page" in query or "per_page" in query:
        limit = _number(query, "per_page", PAGE_SIZE, least=1, most=LARGEST_PAGE)
        return Window((_number(query, "page", 1, least=1) - 1) * limit, limit)
    limit = _number(query, "limit", PAGE_SIZE, least=1, most=LARGEST_PAGE)
    if "cursor" not in query:
        return Window(_number(query, "offset", 0), limit)
    try:
        kind, _, offset = base64.urlsafe_b64decode(query["cursor"].encode()).decode().partition(":")
    except (binascii.Error, UnicodeError) as error:
        raise BadQuery("cursor is none of ours") from error
    if kind != "after" or not offset.isdecimal():
        raise BadQuery("cursor is none of ours")
    return Window(int(offset), limit)


def _number(query: QueryParams, name: str, default: int, least: int = 0, most: int | None = None) -> int:
    given = query.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) < 16):
        raise BadQuery(f"{name} is not a whole number")
    if int(given) < least or (most is not None and int(given) > most):
        raise BadQuery(f"{name} is not between {least} and {most}" if most else f"{name} is less than {least}")
    return int(given)


def _cursor(offset: int) -> str:
    return base64.urlsafe_b64encode(f"after:{offset}".encode()).decode()


def _next(request: Request, offset: int, limit: int) -> str:
    if "page" in request.query_params or "per_page" in request.query_params:
        return str(request.url.include_query_params(page=offset // limit + 1, per_page=limit))
    return str(request.url.remove_query_params("offset").include_query_params(cursor=_cursor(offset), limit=limit))


def _unauthorised() -> Response:
    return _problem(HTTPStatus.UNAUTHORIZED, "the key is not known", {"WWW-Authenticate": 'Bearer realm="vendors"'})


def _problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    body = orjson.dumps({"status": status.value, "title": status.phrase, "detail": detail})
    return Response(body, status, headers, media_type="application/problem+json")
