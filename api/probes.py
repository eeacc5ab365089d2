"""What orchestrators and Prometheus ask: does the API answer, is PostgreSQL ready, can executions run."""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.problems import problem
from models.errors import DomainError, Unavailable
from models.migrations.run import HEAD_REVISION
from runtime.access.principal import Principal
from runtime.database import Database

_REVISION: Final = text("SELECT version_num FROM wedsync.alembic_version")
_DISPATCHER: Final = text("SELECT EXISTS (SELECT FROM leases WHERE name LIKE 'dispatcher:%' AND expires_at > now())")


class Probes:
    """The four probes; none of them needs a sign-in or tells more than its answer."""

    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._registry = registry

    def routes(self) -> list[Route]:
        """Their routes."""
        return [
            Route("/livez", self.alive),
            Route("/readyz", self.ready),
            Route("/readyz/runtime", self.runtime_ready),
            Route("/metrics", self.metrics),
        ]

    async def alive(self, _: Request) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """PostgreSQL answers and has the migrations of this version."""
        try:
            revision = await self._revision()
        except DomainError as error:
            return problem(503, error.specific_code, error.message, hint=error.hint)
        if revision != HEAD_REVISION:
            found = f"at {revision}" if revision else "not migrated"
            detail = f"the database is {found}, this version needs {HEAD_REVISION}"
            return problem(503, "not_migrated", detail, hint="run `wedsync migrate`")
        return JSONResponse({"status": "ok", "revision": revision})

    async def runtime_ready(self, _: Request) -> Response:
        """A dispatcher holds its lease, so what is submitted will run."""
        try:
            async with self._database.transaction(Principal.runtime()) as session:
                is_live = bool(await session.scalar(_DISPATCHER))
        except DomainError as error:
            return problem(503, error.specific_code, error.message, hint=error.hint)
        except DBAPIError:
            return problem(503, "not_migrated", "the database is not migrated", hint="run `wedsync migrate`")
        if not is_live:
            hint = "start the runtime: `wedsync up`, or `python -m runtime.cluster`; what is submitted waits until then"
            return problem(503, "runtime_unavailable", "no dispatcher is running", hint=hint)
        return JSONResponse({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        """The figures of this process, for Prometheus."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    async def _revision(self) -> str | None:
        """The revision of the database; None when it was never migrated. As the login itself: no role is needed."""
        try:
            async with self._database.engine.connect() as connection:
                return str(await connection.scalar(_REVISION))
        except DBAPIError as error:
            if error.connection_invalidated or getattr(error.orig, "sqlstate", None) is None:
                raise Unavailable(
                    "PostgreSQL cannot be reached", hint="is it running, and does the URL name it?"
                ) from error
            return None
        except OSError as error:
            raise Unavailable(
                "PostgreSQL cannot be reached", hint="is it running, and does the URL name it?"
            ) from error
