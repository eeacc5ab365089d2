"""What begins and ends with the API process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette

from api.authentication import Authenticator
from graphql_schema.context import Services


def lifespan(
    services: Services, authenticator: Authenticator
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Starlette's lifespan: nothing has to be up for it to begin; all connections are closed at its end."""

    @asynccontextmanager
    async def run(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await services.hub.close()
            await authenticator.close()
            await services.bus.close()
            await services.database.close()

    return run
