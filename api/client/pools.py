"""Pools that limit how many executions run at once: listed, sized and removed."""

from pydantic import TypeAdapter

from api.client import operations
from api.client.transport import Transport
from api.client.values import Value


class Pool(Value):
    """A pool: how many executions may run in it at once (None: any number), and how many do."""

    name: str
    slots: int | None
    running: int


_POOLS = TypeAdapter(list[Pool])


class Pools:
    """The pools of a server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def all(self) -> list[Pool]:
        """The pools that have a size, and those that pipelines name without one, by name."""
        return _POOLS.validate_python(await self._transport.ask(operations.POOLS))

    async def set(self, name: str, slots: int) -> Pool:
        """Give a pool its size; raises `Invalid` for what cannot be a name or a size."""
        return Pool.model_validate(await self._transport.ask(operations.SET_POOL, name=name, slots=slots))

    async def remove(self, name: str) -> Pool:
        """Let any number run in a pool; answers what it was. Raises `NotFound` for one that has no size."""
        return Pool.model_validate(await self._transport.ask(operations.REMOVE_POOL, name=name))
