"""`/graphql`: GraphQL over HTTP as its specification says, and over server-sent events; WebSockets beside it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, cast

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.unset import UNSET, UnsetType

from api.authentication import Authenticator
from api.graphiql import signing_in
from api.problems import status_of
from api.streams import Streaming
from graphql_schema.context import Context, Services
from graphql_schema.schema import OperationSchema
from models.errors import DomainError, Unauthenticated
from runtime.access.tokens import SignIn

GRAPHQL_MEDIA_TYPE: Final = "application/graphql-response+json"
JSON_MEDIA_TYPE: Final = "application/json"
INIT_SECONDS: Final = 10
OPERATIONS_PER_SOCKET: Final = 100

_STATUS_OF_CODE: Final = {
    "unauthenticated": 401,
    "token_expired": 401,
    "denied": 403,
    "internal": 500,
    "time_limit": 503,
}
_GRAPHIQL_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' https://unpkg.com; "
    "connect-src 'self' ws: wss:; "
    "style-src 'self' 'unsafe-inline' https://unpkg.com; img-src 'self' data:; font-src 'self' data: https://unpkg.com"
)


class _Draft(Response):
    """The headers that a resolver may set, and the media type that the client accepts."""

    media_type = JSON_MEDIA_TYPE


class GraphQLEndpoint(Streaming):
    """The stock view, made to pass every audit of `graphql-http`, with our sign-in, errors and WebSocket protocol."""

    def __init__(self, schema: OperationSchema, services: Services, authenticator: Authenticator) -> None:
        development = not services.settings.is_production
        super().__init__(
            schema,
            graphql_ide="graphiql" if development else None,
            allow_queries_via_get=development,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
            max_subscriptions_per_connection=OPERATIONS_PER_SOCKET,
            allowed_origins=services.settings.cors_origins,
        )
        self._services = services
        self._authenticator = authenticator
        self._get_is_offered = development

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; whatever is wrong with it is told as GraphQL tells errors."""
        if scope["type"] == "websocket":
            await self.run(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response = await self.run(request)
        except HTTPException as error:
            response = _refusal(request, error.status_code, str(error.reason), {"code": "invalid"})
        except DomainError as error:
            extensions = {"code": error.specific_code, "hint": error.hint}
            response = _refusal(request, status_of(error), error.message, extensions)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Whose operation it is; a WebSocket may also say so in its first message."""
        context = Context(self._services, request_id=request.scope.get("state", {}).get("request_id", ""))
        authorization = request.headers.get("authorization")
        if authorization and request.scope["type"] == "http":
            _enter(context, await self._authenticator.sign_in(authorization))
        elif authorization:
            context.connection_params = {"authorization": authorization}
        return context

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Check the token of `connection_init`; without one the socket is refused with 4403."""
        parameters = {name.lower(): value for name, value in context.connection_params.items()}
        given = parameters.get("authorization") or parameters.get("token")
        if not isinstance(given, str):
            raise ConnectionRejectionError
        authorization = given if given.lower().startswith("bearer ") else f"Bearer {given}"
        try:
            _enter(context, await self._authenticator.sign_in(authorization))
        except DomainError as error:
            raise ConnectionRejectionError from error
        return cast(UnsetType, UNSET)

    def is_request_allowed(self, request: AsyncHTTPRequestAdapter) -> bool:  # type: ignore[override]
        """GET is offered in development only: a link must not be able to run a query with somebody's cookies."""
        return request.method == "POST" or (request.method == "GET" and self._get_is_offered)

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        """A response to be filled, which remembers the media type that the client accepts."""
        draft = await super().get_sub_response(request)
        draft.media_type = negotiated(request.headers.get("accept"))
        return draft

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | list[GraphQLRequestData]:
        """Read the parameters; one of a wrong type is refused with 400."""
        try:
            data = await super().parse_http_body(request)
        except (AttributeError, RecursionError):
            raise HTTPException(400, "The request must be an object with the key `query`.") from None
        if isinstance(data, GraphQLRequestData) and not isinstance(data.operation_name, str | None):
            raise HTTPException(400, "`operationName` must be text or null.")
        return data

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Leave `data` out when nothing was executed."""
        answer = await super().process_result(request, result)
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            del answer["data"]
        if not answer.get("extensions"):
            answer.pop("extensions", None)
        return answer

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        """The answer in the media type that the client accepts; only GraphQL's own has a status of its own."""
        media_type = sub_response.media_type or JSON_MEDIA_TYPE
        status = sub_response.status_code or 200
        if media_type == GRAPHQL_MEDIA_TYPE and isinstance(response_data, dict) and "data" not in response_data:
            status = _status_of(cast("list[Mapping[str, Any]]", response_data.get("errors") or []))
        response = Response(orjson.dumps(response_data), status, media_type=f"{media_type}; charset=utf-8")
        response.headers.raw.extend(sub_response.headers.raw)
        response.background = sub_response.background
        return response

    async def render_graphql_ide(self, request: Request) -> Response:
        """GraphiQL, for development: its scripts come from a public address, which the page's policy allows."""
        return HTMLResponse(signing_in(self.graphql_ide_html), headers={"content-security-policy": _GRAPHIQL_POLICY})

    def decode_json(self, data: str | bytes) -> object:
        """Read JSON."""
        return orjson.loads(data)

    def encode_json(self, data: object) -> str:
        """Write JSON as text, which WebSockets need."""
        return orjson.dumps(data).decode()


def negotiated(accept: str | None) -> str:
    """The media type of an answer: GraphQL's own where the client names it first, else `application/json`."""
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if "q=0" in parameters:
            continue
        if name in (GRAPHQL_MEDIA_TYPE, JSON_MEDIA_TYPE):
            return name
    return JSON_MEDIA_TYPE


def _enter(context: Context, signed_in: SignIn | None) -> None:
    if signed_in is not None:
        context.principal = signed_in.principal
        context.expires_at = signed_in.expires_at


def _status_of(errors: list[Mapping[str, Any]]) -> int:
    code = errors[0].get("extensions", {}).get("code") if errors else None
    return _STATUS_OF_CODE.get(str(code), 400)


def _refusal(request: Request, status: int, message: str, extensions: Mapping[str, str | None]) -> Response:
    """An answer to a request that is no GraphQL request, or of nobody we know."""
    known = {name: value for name, value in extensions.items() if value is not None}
    body = {"errors": [{"message": message, "extensions": known}]}
    response = Response(orjson.dumps(body), status, media_type=negotiated(request.headers.get("accept")))
    if status == status_of(Unauthenticated("")):
        response.headers["www-authenticate"] = "Bearer"
    if status == 405:
        response.headers["allow"] = "POST"
    return response
