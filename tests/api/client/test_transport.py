"""What a server says, and what it fails to say, arrives as values and typed errors."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from api.client.transport import MEMBERS, Transport, raised
from graphql_schema.problems import TOLD
from models.errors import (
    Denied,
    DomainError,
    Exhausted,
    Invalid,
    NotFound,
    Terminal,
    Unauthenticated,
    Unavailable,
)
from tests.kit.graphql import serving, token
from tests.kit.identities import ENGINEER


@asynccontextmanager
async def answering(response: Response) -> AsyncIterator[Transport]:
    """A transport to a server that gives one answer, whatever it is asked."""

    async def answer(_: Request) -> Response:
        return response

    app = Starlette(routes=[Route("/graphql", answer, methods=["POST"])])
    async with serving(app) as address:
        transport = Transport(f"http://{address}/", "t")
        yield transport
        await transport.close()


def stream(*lines: str) -> StreamingResponse:
    """Server-sent events, a piece each."""

    async def pieces() -> AsyncIterator[bytes]:
        for line in lines:
            yield line.encode()

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def test_the_value_of_the_one_field_is_the_answer(live: str) -> None:
    transport = Transport(f"http://{live}", token(ENGINEER))
    assert await transport.ask("{ sources { nodes { id } } }") == {"nodes": []}
    await transport.close()


async def test_an_error_of_a_query_is_raised_as_what_it_is(live: str) -> None:
    transport = Transport(f"http://{live}", token(ENGINEER))
    with pytest.raises(NotFound, match="there is no source 'x'"):
        await transport.ask("query ($name: String!) { source(reference: $name) { id } }", name="x")
    with pytest.raises(Invalid, match="Cannot query field"):
        await transport.ask("{ nothing }")
    await transport.close()


async def test_a_token_that_is_not_accepted_is_told(live: str) -> None:
    transport = Transport(f"http://{live}", "nonsense")
    with pytest.raises(Unauthenticated, match="the token is not accepted"):
        await transport.ask("{ sources { nodes { id } } }")
    await transport.close()


async def test_a_mutations_error_is_raised(live: str) -> None:
    transport = Transport(f"http://{live}", token(ENGINEER))
    mutation = """
    mutation { createSource(input: {sourceName: "x", kind: "nothing", connectionConfig: {}}) {
      __typename ... on Error { code message hint path } } }
    """
    with pytest.raises(Invalid) as refusal:
        await transport.ask(mutation)
    assert refusal.value.path == "kind"
    await transport.close()


def test_every_member_of_a_result_has_its_error() -> None:
    assert set(MEMBERS) == {member.__name__ for member in TOLD.values()}


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"__typename": "FailedError", "code": "unreachable", "message": "m"}, Terminal),
        ({"code": "token_expired", "message": "m"}, Unauthenticated),
        ({"code": "denied", "message": "m"}, Denied),
        ({"code": "exhausted", "message": "m"}, Exhausted),
        ({"code": "internal", "message": "m"}, Unavailable),
        ({"code": "of_a_later_version", "message": "m"}, Invalid),
    ],
)
def test_an_errors_code_says_its_class(told: dict[str, str], kind: type[DomainError]) -> None:
    error = raised({**told, "hint": "h", "path": "p"})
    assert type(error) is kind
    assert (error.message, error.hint, error.path, error.specific_code) == ("m", "h", "p", told["code"])


async def test_no_server_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        transport = Transport(f"http://127.0.0.1:{taken.getsockname()[1]}", "t")
        with pytest.raises(Unavailable, match="no server answers at") as refusal:
            await transport.ask("{ x }")
        assert refusal.value.hint == "start one with `wedsync up`, or set WEDSYNC_URL to where it is"
        await transport.close()


async def test_another_kind_of_server_is_told() -> None:
    async with answering(PlainTextResponse("<html>", 502)) as transport:
        with pytest.raises(Unavailable, match="answered 502 with something that is no GraphQL"):
            await transport.ask("{ x }")


async def test_a_streams_events_are_values_up_to_its_end() -> None:
    whole = stream(
        ': hello\n\nevent: next\ndata: {"data": {"x": 1}}\n\n',
        "event: next\ndata: {\n",
        'data: "data": {"x": 2}}\n\n: still there\n\n',
        'event: complete\ndata:\n\nevent: next\ndata: {"data": {"x": 3}}\n\n',
    )
    async with answering(whole) as transport:
        assert [value async for value in transport.follow("subscription { x }")] == [1, 2]


async def test_a_stream_that_ends_early_is_told_and_half_an_event_is_none() -> None:
    cut = stream('event: next\ndata: {"data": {"x": 1}}\n\n', 'event: next\ndata: {"da')
    async with answering(cut) as transport:
        following = transport.follow("subscription { x }")
        assert await anext(following) == 1
        with pytest.raises(Unavailable) as ending:
            await anext(following)
        assert ending.value.specific_code == "stream_cut"


async def test_an_error_in_a_stream_is_raised() -> None:
    lost = 'event: next\ndata: {"errors": [{"message": "too slow", "extensions": {"code": "exhausted"}}]}\n\n'
    async with answering(stream(lost)) as transport:
        with pytest.raises(Exhausted, match="too slow"):
            await anext(transport.follow("subscription { x }"))


async def test_a_subscription_that_is_refused_is_told(live: str) -> None:
    transport = Transport(f"http://{live}", token(ENGINEER))
    with pytest.raises(Invalid, match="Cannot query field"):
        await anext(transport.follow("subscription { nothing }"))
    await transport.close()
