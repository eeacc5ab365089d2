"""Errors over plain HTTP: problem+json (RFC 9457), with the status that each class of error means."""

import secrets
from collections.abc import Mapping
from typing import Final

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models.errors import (
    Conflict,
    Denied,
    DomainError,
    Exhausted,
    Invalid,
    NotFound,
    RunError,
    Unauthenticated,
    Unavailable,
)
from models.fields import JsonObject
from runtime.access.mask import mask_text

log = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"

STATUSES: Final[Mapping[type[DomainError], int]] = {
    Invalid: 400,
    Unauthenticated: 401,
    Denied: 403,
    NotFound: 404,
    Conflict: 409,
    Exhausted: 429,
    Unavailable: 503,
    RunError: 422,
}
"""The HTTP status of each class of expected failure."""

_TITLES: Final[Mapping[int, str]] = {
    400: "The input is wrong",
    401: "Nobody is signed in",
    403: "This is not allowed",
    404: "There is no such thing",
    405: "This method is not offered here",
    409: "It conflicts with what is there",
    413: "The request is too large",
    422: "The work was done and failed",
    429: "This is too much",
    500: "Something went wrong",
    503: "A part is away",
}


def status_of(error: DomainError) -> int:
    """The HTTP status of an expected failure."""
    if error.specific_code == "body_limit":
        return 413
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 400)


def problem(status: int, code: str, detail: str, **others: str | None) -> Response:
    """A problem+json answer."""
    body: JsonObject = {
        "type": f"urn:wedsync:error:{code}",
        "title": _TITLES.get(status, "It failed"),
        "status": status,
        "code": code,
        "detail": detail,
        **{name: value for name, value in others.items() if value is not None},
    }
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return Response(orjson.dumps(body), status, headers, media_type=MEDIA_TYPE)


def problem_of(error: DomainError) -> Response:
    """The answer that tells an expected failure."""
    hint = None if error.hint is None else mask_text(error.hint)
    return problem(status_of(error), error.specific_code, mask_text(error.message), hint=hint, path=error.path)


async def on_domain_error(_: Request, error: Exception) -> Response:
    """Starlette's handler of expected failures."""
    if not isinstance(error, DomainError):
        raise error
    return problem_of(error)


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Starlette's handler of what its routes refuse: no such path, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    headers = error.headers or {}
    match error.status_code:
        case 404:
            hint = "there are /graphql, /api/data-pipelines, /livez, /readyz and /metrics"
            answer = problem(404, "not_found", "there is nothing at this path", hint=hint)
        case 405:
            hint = f"this path takes {headers.get('allow') or headers.get('Allow')}"
            answer = problem(405, "method_not_allowed", "this path does not take this method", hint=hint)
        case status:
            answer = problem(status, "http_error", error.detail)
    answer.headers.update(headers)
    return answer


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Starlette's handler of everything else: says an id, logs the rest under it."""
    identifier = secrets.token_hex(6)
    request_id = request.scope.get("state", {}).get("request_id")
    log.error("unexpected_error", error_id=identifier, path=request.url.path, request_id=request_id, exc_info=error)
    detail = f"something went wrong that is not your doing; it is logged as {identifier}"
    return problem(500, "internal", detail, error_id=identifier)
