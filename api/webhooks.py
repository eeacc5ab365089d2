"""Requests from outside that start pipelines: signed, timely, and taken once."""

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.problems import problem_of
from graphql_schema.context import Services
from models.errors import DomainError
from runtime.access.principal import Principal
from runtime.bus import SCHEDULES
from runtime.schedules.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Delivery, arrive

PATH: Final = "/api/webhooks/{name}"


class Webhooks:
    """Takes deliveries; who sends them proves it with the webhook's secret."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Their route."""
        return [Route(PATH, self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Answer 202 for a delivery that is taken, and again when it is repeated, which starts nothing more."""
        delivery = Delivery(
            name=request.path_params["name"],
            timestamp=request.headers.get(TIMESTAMP_HEADER),
            signature=request.headers.get(SIGNATURE_HEADER),
            body=await request.body(),
        )
        services = self._services
        try:
            async with services.database.statements(Principal.runtime()) as session:
                is_new = await arrive(session, services.sealer, delivery, services.clock())
        except DomainError as error:
            return problem_of(error)
        await services.bus.publish(SCHEDULES)
        return JSONResponse({"status": "accepted" if is_new else "known"}, status_code=202)
