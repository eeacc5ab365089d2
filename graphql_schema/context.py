"""What a resolver may use: who asks, the parts of the process, and one transaction and loaders per operation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar, cast
from uuid import UUID

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from models.access import Role
from models.errors import DomainError, Unauthenticated
from models.fields import Json
from runtime.access.audit import Deed, record
from runtime.access.principal import Principal
from runtime.access.sealing import Sealer
from runtime.access.tokens import Clock, utc_now
from runtime.bus import Bus
from runtime.database import Database
from runtime.executions.hub import Hub
from runtime.settings import Settings
from runtime.statements import Statements

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Batch: TypeAlias = Callable[[AsyncSession, list[K]], Awaitable[Sequence[V]]]
"""A query for many keys at once: the values in the order of the keys."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the process that every operation shares."""

    settings: Settings
    database: Database
    bus: Bus
    sealer: Sealer
    clock: Clock = utc_now
    hub: Hub = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hub", Hub(self.database, self.bus))


class ReadTransaction:
    """The one transaction that the reads of an operation share; it opens with the first of them.

    They take turns in it, because a connection answers one statement at a time.
    """

    def __init__(self, database: Database, principal: Principal) -> None:
        self._database = database
        self._principal = principal
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._session: AsyncSession | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[AsyncSession]:
        """A turn in the transaction; an unexpected error ends it, so that the next read opens another."""
        async with self._turn:
            session = self._session or await self._open()
            try:
                yield session
            except DomainError:
                raise
            except BaseException as error:
                self._session = None
                stack, self._stack = self._stack, AsyncExitStack()
                # What the database refused leaves here as the typed error that the transaction makes of it.
                await stack.__aexit__(type(error), error, error.__traceback__)
                raise

    async def close(self, deeds: Sequence[Deed]) -> None:
        """Record what was read and commit; nothing when nothing was read."""
        async with self._turn:
            if self._session is not None:
                await record(self._session, self._principal, *deeds)
            self._session = None
            stack, self._stack = self._stack, AsyncExitStack()
            await stack.aclose()

    @property
    def is_open(self) -> bool:
        """Whether something was read since the last close."""
        return self._session is not None

    async def _open(self) -> AsyncSession:
        opened = await self._stack.enter_async_context(self._database.transaction(self._principal))
        self._session = opened
        return opened


@dataclass(slots=True)
class Context:
    """One operation: its principal, its read transaction, its loaders. `for_operation` gives the next one a fresh set.

    Nothing awaited inside a `reading` block may read again, or it would wait for itself.
    """

    services: Services
    principal: Principal | None = None
    expires_at: datetime | None = None
    request_id: str = ""
    connection_params: dict[str, object] = field(default_factory=dict)
    streaming: bool = False
    _deadline: asyncio.Timeout | None = field(default=None, repr=False)
    _reads: ReadTransaction | None = field(default=None, repr=False)
    _deeds: list[Deed] = field(default_factory=list, repr=False)
    _loaders: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def for_operation(self) -> "Context":
        """The same principal with a transaction and loaders of its own: a WebSocket carries many operations."""
        return Context(self.services, self.principal, self.expires_at, self.request_id, self.connection_params)

    @property
    def role(self) -> Role | None:
        """The role of whoever asks; None when nobody is signed in."""
        return self.principal.role if self.principal else None

    @property
    def signed_in(self) -> Principal:
        """Whoever asks; raises `Unauthenticated` when nobody is signed in."""
        if self.principal is None:
            hint = "send `Authorization: Bearer <token>`; see `wedsync token`"
            raise Unauthenticated("nobody is signed in", hint=hint)
        return self.principal

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """The operation's read transaction; in a subscription a short one of its own, so no stream holds one."""
        principal = self.signed_in
        if self.streaming:
            async with self.services.database.transaction(principal) as session:
                yield session
                await record(session, principal, *self._take_deeds())
            return
        if self._reads is None:
            self._reads = ReadTransaction(self.services.database, principal)
        async with self._reads.turn() as session:
            yield session

    @asynccontextmanager
    async def glancing(self) -> AsyncIterator[Statements]:
        """A short transaction beside the operation's, to read with plain statements only, at a tenth of the cost."""
        async with self.services.database.statements(self.signed_in) as session:
            yield session

    @asynccontextmanager
    async def writing(self, *topics: str) -> AsyncIterator[AsyncSession]:
        """A transaction of its own for one mutation field; `topics` are woken once it has committed."""
        principal = self.signed_in
        await self.close()
        async with self.services.database.transaction(principal) as session:
            yield session
            await record(session, principal, *self._take_deeds())
        await self.services.bus.publish(*topics)

    @asynccontextmanager
    async def stating(self, *topics: str) -> AsyncIterator[Statements]:
        """As `writing`, for a mutation that needs plain statements only, at a tenth of the cost."""
        principal = self.signed_in
        await self.close()
        async with self.services.database.statements(principal) as session:
            yield session
            await record(session, principal, *self._take_deeds())
        await self.services.bus.publish(*topics)

    def note(self, action: str, entity_type: str, entity_id: UUID | str | None = None, **detail: Json) -> None:
        """Have the audit log tell, at the end of the transaction, what whoever asks did or which data they read."""
        self._deeds.append(Deed(action, entity_type, entity_id, detail))

    async def load(self, batch: Batch[K, V], key: K) -> V:
        """The value of a key through the operation's loader of this query: one statement for all keys of a level."""
        loader = cast("DataLoader[K, V] | None", self._loaders.get(batch))
        if loader is None:

            async def read(keys: list[K]) -> Sequence[V]:
                async with self.reading() as session:
                    return await batch(session, keys)

            loader = DataLoader(load_fn=read)
            self._loaders[batch] = loader
        return await loader.load(key)

    def become_stream(self) -> None:
        """Go on until the sign-in ends: reads become short transactions and the time limit falls away."""
        self.streaming = True
        if self._deadline is not None:
            self._deadline.reschedule(_end_of(self))

    def time_left(self, seconds: float) -> asyncio.Timeout:
        """The time limit of the next result: `seconds`, or for a stream the end of the sign-in."""
        end = _end_of(self) if self.streaming else asyncio.get_running_loop().time() + seconds
        self._deadline = asyncio.timeout_at(end)
        return self._deadline

    def forget(self) -> None:
        """Drop what loaders remember, so that the next event of a stream is read anew."""
        self._loaders.clear()

    async def close(self) -> None:
        """End the read transaction; what is read afterwards is read anew."""
        self.forget()
        if self._reads is not None and not self.streaming:
            await self._reads.close(self._take_deeds() if self._reads.is_open else ())

    def _take_deeds(self) -> list[Deed]:
        deeds, self._deeds = self._deeds, []
        return deeds


def _end_of(context: Context) -> float | None:
    """When the sign-in of a context ends, on the event loop's clock."""
    if context.expires_at is None:
        return None
    left = (context.expires_at - context.services.clock()).total_seconds()
    return asyncio.get_running_loop().time() + left


Info: TypeAlias = strawberry.Info[Context, None]
"""What a resolver gets: `info.context` is a `Context`."""
