"""What begins and ends with the API process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.applications import Starlette

from api.authentication import Authenticator
from runtime.bus import Bus
from runtime.database import Database


def lifespan(
    database: Database, bus: Bus, authenticator: Authenticator
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """Starlette's lifespan: nothing has to be up for it to begin; all connections are closed at its end."""

    @asynccontextmanager
    async def run(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await authenticator.close()
            await bus.close()
            await database.close()

    return run
