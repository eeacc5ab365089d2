"""WS-269's REST endpoints as stored GraphQL operations: a table of route, operation and shape."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlencode

import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.authentication import Authenticator
from api.problems import STATUSES, problem, problem_of
from api.shapes import ACCEPTED, CHECK, DETAILS, EXECUTION, PIPELINE, STATS, STEP, SUMMARY, Key, Shape, at
from graphql_schema.context import Context, Services
from graphql_schema.problems import TOLD
from graphql_schema.schema import OperationSchema
from models.errors import DomainError, Invalid
from models.fields import Json, JsonObject, StrictModel, parse
from runtime.paging import LARGEST_PAGE

PIPELINES: Final = "/api/data-pipelines"

_ERROR: Final = "... on Error { code message hint path }"
_PAGE: Final = "pageInfo { hasNextPage endCursor }"
_STATUS_OF_TYPE: Final = {told.__name__: STATUSES[cause] for cause, told in reversed(TOLD.items())}
_STATUS_OF_CODE: Final = {
    **{cause.code: status for cause, status in STATUSES.items()},
    "token_expired": 401,
    "time_limit": 503,
    "internal": 500,
}
_NAME_HERE: Final = {"first": "limit", "after": "cursor", "idempotency_key": "Idempotency-Key"}


@dataclass(frozen=True, slots=True)
class Call:
    """What a client sent, read."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: JsonObject

    def page(self) -> JsonObject:
        """The variables of a page; raises `Invalid` for a limit that is none."""
        for name in self.query:
            if name not in ("limit", "cursor"):
                raise Invalid("is not a known parameter", hint="allowed: cursor, limit", path=name)
        limit = self.query.get("limit", str(LARGEST_PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= LARGEST_PAGE):
            raise Invalid("is not a limit", hint=f"say a number from 1 to {LARGEST_PAGE}", path="limit")
        return {"first": int(limit), "after": self.query.get("cursor")}


Variables: TypeAlias = Callable[[Call], JsonObject]


@dataclass(frozen=True, slots=True)
class Operation:
    """A stored operation: its document, its variables, and its answer as the shape of GraphQL's.

    `whole` names the field whose object is the answer; `page` the connection that the next page is of.
    """

    document: str
    variables: Variables
    answer: Shape
    whole: str | None = None
    page: str | None = None
    status: int = 200


class _Flags(StrictModel):
    """What a PUT may change beside the definition."""

    is_paused: bool | None = None
    is_active: bool | None = None


class _Execute(StrictModel):
    """WS-269's `ExecutePipelineRequest`; a retry may name what it takes up; else that is what failed last."""

    execution_type: Literal["manual", "retry"] = "manual"
    parameters: dict[str, Json] = Field(default_factory=dict)
    dry_run: bool = False
    retry_of: str | None = None
    priority: int | None = None


def _update(call: Call) -> JsonObject:
    given = {name: value for name, value in call.body.items() if name in _Flags.model_fields}
    changes = {name: value for name, value in call.body.items() if name not in given}
    flags = parse(_Flags, given)
    edit: JsonObject = {"changes": changes or None, "isPaused": flags.is_paused, "isActive": flags.is_active}
    return {"id": call.path["pipeline_id"], "input": edit}


def _execute(call: Call) -> JsonObject:
    given = parse(_Execute, call.body)
    how: JsonObject = {
        "executionType": given.execution_type.upper(),
        "parameters": given.parameters,
        "dryRun": given.dry_run,
        "idempotencyKey": call.headers.get("idempotency-key"),
        "retryOf": given.retry_of,
        "priority": given.priority,
    }
    return {"id": call.path["pipeline_id"], "input": how}


LIST: Final = Operation(
    f"""query($first: Int!, $after: String) {{
        pipelines(first: $first, after: $after) {{ nodes {{ {PIPELINE.selection()} }} {_PAGE} }}
        pipelineSummary {{ {SUMMARY.selection()} }}
    }}""",
    Call.page,
    Shape(Key("pipelines", PIPELINE, source="pipelines.nodes"), Key("summary", SUMMARY, source="pipelineSummary")),
    page="pipelines",
)
CREATE: Final = Operation(
    f"""mutation($definition: JSON!) {{
        createPipeline(input: {{definition: $definition}}) {{
            __typename ... on Pipeline {{ {PIPELINE.selection()} }} {_ERROR}
        }}
    }}""",
    lambda call: {"definition": call.body},
    PIPELINE,
    whole="createPipeline",
    status=201,
)
UPDATE: Final = Operation(
    f"""mutation($id: ID!, $input: UpdatePipelineInput!) {{
        updatePipeline(id: $id, input: $input) {{ __typename ... on Pipeline {{ {PIPELINE.selection()} }} {_ERROR} }}
    }}""",
    _update,
    PIPELINE,
    whole="updatePipeline",
)
EXECUTE: Final = Operation(
    f"""mutation($id: ID!, $input: ExecutePipelineInput!) {{
        executePipeline(id: $id, input: $input) {{ __typename ... on Execution {{ {ACCEPTED.selection()} }} {_ERROR} }}
    }}""",
    _execute,
    ACCEPTED,
    whole="executePipeline",
)
EXECUTIONS: Final = Operation(
    f"""query($reference: String!, $first: Int!, $after: String) {{
        pipeline(reference: $reference) {{
            executions(first: $first, after: $after) {{ nodes {{ {EXECUTION.selection()} }} {_PAGE} }}
            executionStats {{ {STATS.selection()} }}
        }}
    }}""",
    lambda call: {"reference": call.path["pipeline_id"], **call.page()},
    Shape(
        Key("executions", EXECUTION, source="pipeline.executions.nodes"),
        Key("execution_stats", STATS, source="pipeline.executionStats"),
    ),
    page="pipeline.executions",
)
EXECUTION_DETAILS: Final = Operation(
    f"""query($pipeline: String!, $reference: String!) {{
        execution(reference: $reference, pipeline: $pipeline) {{
            {DETAILS.selection()}
            steps {{ {STEP.selection()} }}
            qualityChecks {{ {CHECK.selection()} }}
        }}
    }}""",
    lambda call: {"pipeline": call.path["pipeline_id"], "reference": call.path["execution_id"]},
    Shape(
        Key("execution", DETAILS),
        Key("steps", STEP, source="execution.steps"),
        Key("quality_checks", CHECK, source="execution.qualityChecks"),
    ),
)

ROUTES: Final[Mapping[str, Mapping[str, Operation]]] = {
    PIPELINES: {"GET": LIST, "POST": CREATE},
    f"{PIPELINES}/{{pipeline_id}}": {"PUT": UPDATE},
    f"{PIPELINES}/{{pipeline_id}}/execute": {"POST": EXECUTE},
    f"{PIPELINES}/{{pipeline_id}}/executions": {"GET": EXECUTIONS},
    f"{PIPELINES}/{{pipeline_id}}/executions/{{execution_id}}/details": {"GET": EXECUTION_DETAILS},
}


class Rest:
    """Answers REST's routes through the schema, with its permissions, limits and errors."""

    def __init__(self, schema: OperationSchema, services: Services, authenticator: Authenticator) -> None:
        self._schema = schema
        self._services = services
        self._authenticator = authenticator

    def routes(self) -> list[BaseRoute]:
        """The routes of the table."""
        return [
            Route(path, self._endpoint(operations), methods=list(operations)) for path, operations in ROUTES.items()
        ]

    def _endpoint(self, operations: Mapping[str, Operation]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            operation = operations["GET" if request.method == "HEAD" else request.method]
            try:
                return await self._answer(request, operation)
            except DomainError as error:
                return problem_of(error)

        return answer

    async def _answer(self, request: Request, operation: Operation) -> Response:
        signed_in = await self._authenticator.sign_in(request.headers.get("authorization"))
        context = Context(self._services, request_id=request.scope.get("state", {}).get("request_id", ""))
        if signed_in is not None:
            context.principal, context.expires_at = signed_in.principal, signed_in.expires_at
        call = Call(request.path_params, request.query_params, request.headers, await _body(request))
        result = await self._schema.execute(operation.document, operation.variables(call), context)
        if result.errors:
            return _told(result.errors[0].message, result.errors[0].extensions or {})
        data = result.data or {}
        found = data if operation.whole is None else data[operation.whole]
        if str(found.get("__typename", "")) in _STATUS_OF_TYPE:
            return _refused(found)
        response = Response(orjson.dumps(operation.answer.of(found)), operation.status, media_type="application/json")
        page = at(data, [*operation.page.split("."), "pageInfo"]) if operation.page else None
        if page is not None and page["hasNextPage"]:
            following = urlencode({"limit": call.page()["first"], "cursor": page["endCursor"]})
            response.headers["link"] = f'<{request.url.path}?{following}>; rel="next"'
        return response


async def _body(request: Request) -> JsonObject:
    """The body as a JSON object; an absent one is empty."""
    content = await request.body() if request.method in ("POST", "PUT") else b""
    if not content.strip():
        return {}
    try:
        given = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"the body is not JSON: {error}", hint="send an object") from None
    if not isinstance(given, dict):
        raise Invalid("the body is not an object", hint="send an object")
    return given


def _refused(member: Mapping[str, Any]) -> Response:
    """An expected failure of a mutation."""
    status = _STATUS_OF_TYPE[member["__typename"]]
    return problem(status, member["code"], member["message"], hint=member["hint"], path=_here(member["path"]))


def _told(message: str, extensions: Mapping[str, Any]) -> Response:
    """An entry of `errors`."""
    code = str(extensions.get("code", "invalid"))
    status = 429 if code.endswith("_limit") and code not in _STATUS_OF_CODE else _STATUS_OF_CODE.get(code, 400)
    others = {name: extensions.get(name) for name in ("hint", "error_id")}
    return problem(status, code, message, path=_here(extensions.get("path")), **others)


def _here(path: str | None) -> str | None:
    return None if path is None else _NAME_HERE.get(path, path)
