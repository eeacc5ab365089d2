"""Carries GraphQL operations to a server: one answer over HTTP, or a stream of them over server-sent events."""

from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx
import orjson

from models.errors import (
    Conflict,
    Denied,
    DomainError,
    Exhausted,
    Invalid,
    NotFound,
    Terminal,
    Unauthenticated,
    Unavailable,
)
from models.fields import Json, JsonObject

ANSWER_SECONDS: Final = 120.0
CONNECT_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 60.0
"""How long a stream may say nothing before it is taken for dead; whoever follows it goes on from its cursor then."""

MEMBERS: Final[Mapping[str, type[DomainError]]] = {
    "InvalidError": Invalid,
    "DeniedError": Denied,
    "NotFoundError": NotFound,
    "ConflictError": Conflict,
    "ExhaustedError": Exhausted,
    "UnavailableError": Unavailable,
    "FailedError": Terminal,
}
"""The errors that a mutation's result may be."""

CODES: Final[Mapping[str, type[DomainError]]] = {
    **{kind.code: kind for kind in (Invalid, Unauthenticated, Denied, NotFound, Conflict, Exhausted, Unavailable)},
    "token_expired": Unauthenticated,
    "unknown_role": Denied,
    "unknown_user": Denied,
    "internal": Unavailable,
    "time_limit": Unavailable,
    "not_migrated": Unavailable,
}

FAILURE: Final = "... on Error { code message hint path }"
"""What a mutation asks of its errors."""


class Transport:
    """One server, spoken to as one person; raises `DomainError`s only."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            trust_env=not _is_local(self.url),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, document: str, **variables: Json) -> Json:
        """The value of an operation's one field; an error, also one that is a mutation's result, is raised."""
        body: JsonObject = {"query": document, "variables": variables}
        headers = {"accept": "application/json"}
        try:
            answer = await self._http.post(f"{self.url}/graphql", json=body, headers=headers)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        return _value(_parsed(answer.content, answer.status_code))

    async def follow(self, document: str, **variables: Json) -> AsyncIterator[Json]:
        """The values of a subscription's one field until it ends.

        Raises `Unavailable`: `no_server` when there is no connection, `stream_cut` when it ends before the stream.
        """
        body: JsonObject = {"query": document, "variables": variables}
        headers = {"accept": "text/event-stream"}
        patient = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
        request = self._http.build_request("POST", f"{self.url}/graphql", json=body, headers=headers, timeout=patient)
        try:
            answer = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._away(error) from error
        try:
            async for value in _values(answer):
                yield value
        except httpx.HTTPError as error:
            raise _cut() from error
        finally:
            await answer.aclose()

    def _away(self, error: httpx.HTTPError) -> Unavailable:
        said = str(error) or type(error).__name__
        hint = "start one with `wedsync up`, or set WEDSYNC_URL to where it is"
        return Unavailable(f"no server answers at {self.url}: {said}", hint=hint, code="no_server")


async def _values(answer: httpx.Response) -> AsyncIterator[Json]:
    """The values of a stream up to its `complete`; raises what a refusal, an error in it or its early end tells."""
    if "event-stream" not in answer.headers.get("content-type", ""):
        yield _value(_parsed(await answer.aread(), answer.status_code))
        return
    is_complete = False
    async for kind, data in _events(answer.aiter_lines()):
        if kind == "complete":
            is_complete = True
            continue  # to the end of the answer, so that its connection can serve again
        if kind == "next" and not is_complete:
            yield _value(_parsed(data.encode(), answer.status_code))
    if not is_complete:
        raise _cut()


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
    """The kind and data of each server-sent event; one that is cut off is none."""
    kind, data = "", list[str]()
    async for line in lines:
        if line.startswith("event:"):
            kind = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line:
            if kind:
                yield kind, "\n".join(data)
            kind, data = "", []


def _cut() -> Unavailable:
    return Unavailable("the stream ended early", hint="follow it again from its last cursor", code="stream_cut")


def _parsed(content: bytes, status: int) -> JsonObject:
    """The JSON object of an answer; raises what a problem+json answer tells."""
    try:
        answer = orjson.loads(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        hint = "is WEDSYNC_URL the address of a WedSync server?"
        raise Unavailable(f"the server answered {status} with something that is no GraphQL", hint=hint)
    if "detail" in answer and "data" not in answer:
        raise raised({**answer, "message": answer["detail"]})
    return answer


def _value(answer: JsonObject) -> Json:
    """The value of the one field; raises the first error."""
    errors = answer.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        extensions = errors[0].get("extensions")
        told = extensions if isinstance(extensions, dict) else {}
        raise raised({**told, "message": errors[0].get("message")})
    data = answer.get("data")
    if not isinstance(data, dict) or len(data) != 1:
        raise Unavailable("the server's answer has no data", hint="are server and client of the same version?")
    (value,) = data.values()
    if isinstance(value, dict) and value.get("__typename") in MEMBERS:
        raise raised(value)
    return value


def raised(told: Mapping[str, Json]) -> DomainError:
    """The error that a server told: by the member's type, else by its code."""
    code = str(told.get("code") or Invalid.code)
    kind = MEMBERS.get(str(told.get("__typename"))) or CODES.get(code, Invalid)
    hint, path = told.get("hint"), told.get("path")
    return kind(
        str(told.get("message") or "the server gave no reason"),
        hint=hint if isinstance(hint, str) else None,
        path=path if isinstance(path, str) else None,
        code=code,
    )


def _is_local(url: str) -> bool:
    """Whether a proxy of the environment has to be passed by."""
    return httpx.URL(url).host in ("localhost", "127.0.0.1", "::1")
