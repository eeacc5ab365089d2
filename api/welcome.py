"""What answers at the root: a small page of what there is, for whoever opens the server's address."""

from html import escape
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

PLACES: Final = {
    "/graphql": "the GraphQL API, with GraphiQL in development",
    "/api/data-pipelines": "the REST API",
    "/livez": "whether this process answers",
    "/readyz": "whether the database can be reached and is migrated",
    "/readyz/runtime": "whether executions can run",
    "/metrics": "figures for Prometheus",
}

_ITEMS: Final = "".join(f'<li><a href="{path}">{path}</a>: {escape(what)}</li>' for path, what in PLACES.items())
_PAGE: Final = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>WedSync Pipelines</title></head>
<body><h1>WedSync Pipelines</h1><ul>{_ITEMS}</ul></body></html>
"""


async def welcome(_: Request) -> Response:
    """The page."""
    return HTMLResponse(_PAGE)


ROUTE: Final = Route("/", welcome)
