"""Puts the API process together: the GraphQL endpoint, the REST paths, the probes, and what wraps them."""

from typing import Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from api import welcome
from api.authentication import Authenticator
from api.graphql import GraphQLEndpoint
from api.lifespan import lifespan
from api.middleware import BodyLimit, Figures, RequestId, SafeHeaders
from api.probes import Probes
from api.problems import on_domain_error, on_http_exception, on_unexpected
from api.rest import Rest
from api.webhooks import Webhooks
from graphql_schema.context import Services
from graphql_schema.schema import Options, build_schema
from models.errors import DomainError
from runtime.access.sealing import sealer_of
from runtime.access.tokens import Clock, utc_now
from runtime.bus import Bus
from runtime.database import Database
from runtime.settings import Settings

GRAPHQL_PATH: Final = "/graphql"


def create_app(settings: Settings, database: Database, bus: Bus, *, clock: Clock = utc_now) -> Starlette:
    """The ASGI application. It owns `database` and `bus` from here on: its end closes them.

    Needs neither PostgreSQL nor the runtime to start. Raises `Invalid` for secrets that cannot be used.
    """
    schema = build_schema(Options.of(settings))
    services = Services(settings, database, bus, sealer_of(settings), clock)
    authenticator = Authenticator.of(settings, database, clock)
    registry = CollectorRegistry()
    endpoint = GraphQLEndpoint(schema, services, authenticator)
    routes: list[BaseRoute] = [
        welcome.ROUTE,
        Route(GRAPHQL_PATH, endpoint),
        WebSocketRoute(GRAPHQL_PATH, endpoint),
        *Rest(schema, services, authenticator).routes(),
        *Webhooks(services).routes(),
        *Probes(database, registry).routes(),
    ]
    return Starlette(
        routes=routes,
        middleware=_middleware(settings, registry),
        exception_handlers={
            DomainError: on_domain_error,
            HTTPException: on_http_exception,
            Exception: on_unexpected,
        },
        lifespan=lifespan(services, authenticator),
    )


def _middleware(settings: Settings, registry: CollectorRegistry) -> list[Middleware]:
    wrapping = [
        Middleware(RequestId),
        Middleware(Figures, registry=registry),
        Middleware(SafeHeaders, secure=settings.is_production),
        Middleware(BodyLimit, most=settings.body_limit_bytes),
    ]
    if settings.cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "x-request-id"],
            expose_headers=["link", "x-request-id"],
            max_age=600,
        )
        wrapping.insert(3, cors)
    return wrapping
