"""Backfills of pipelines: requested, previewed, followed, paused, resumed and cancelled."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

from pydantic import BeforeValidator

from api.client import operations
from api.client.following import followed
from api.client.transport import Transport
from api.client.values import PipelineName, State, Value, lowered
from models.backfills import BackfillState
from models.fields import JsonObject

StateOfBackfill: TypeAlias = Annotated[BackfillState, BeforeValidator(lowered)]


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """Which range of a pipeline to run: days or moments, in chunks such as `6h`, `1d` or `1mo`, so many at once.

    `again` runs also what has completed before.
    """

    range_start: str
    range_end: str
    chunk: str = "1d"
    most_at_once: int = 1
    priority: int | None = None
    parameters: JsonObject = field(default_factory=dict)
    again: bool = False

    def told(self) -> JsonObject:
        """As GraphQL takes it."""
        given: JsonObject = {
            "rangeStart": self.range_start,
            "rangeEnd": self.range_end,
            "chunk": self.chunk,
            "mostAtOnce": self.most_at_once,
            "parameters": self.parameters,
            "again": self.again,
        }
        return given if self.priority is None else {**given, "priority": self.priority}


class BackfillProgress(Value):
    """How many of a backfill's executions stand where; `percent` of them (0-100) have ended."""

    waiting: int
    running: int
    completed: int
    failed: int
    cancelled: int
    percent: float


class Backfill(Value):
    """A backfill and how far it is; `total` executions, and `already` chunks that needed none."""

    id: UUID
    pipeline: PipelineName
    range_start: datetime
    range_end: datetime
    chunk: str
    most_at_once: int
    priority: int
    total: int
    already: int
    state: StateOfBackfill
    created_at: datetime
    finished_at: datetime | None = None
    progress: BackfillProgress


class BackfillChunk(Value):
    """A chunk: its range, whether it would run, and how its last execution stands."""

    start: str
    end: str
    will_run: bool
    state: State | None = None


class BackfillPreview(Value):
    """What a backfill would do: how many executions it would have, how many chunks need none, and the first chunks."""

    total: int
    already: int
    chunks: tuple[BackfillChunk, ...]


class Backfills:
    """Runs ranges of pipelines' pasts; every method raises typed errors."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def request(self, pipeline: str, wanted: BackfillRequest) -> Backfill:
        """Request a backfill; the same one again adds only what is missing or failed."""
        answer = await self._transport.ask(operations.REQUEST_BACKFILL, pipeline=pipeline, input=wanted.told())
        return Backfill.model_validate(answer)

    async def preview(self, pipeline: str, wanted: BackfillRequest, first: int = 20) -> BackfillPreview:
        """What `request` would do; adds nothing."""
        given: JsonObject = {"pipeline": pipeline, "input": wanted.told(), "first": first}
        return BackfillPreview.model_validate(await self._transport.ask(operations.PREVIEW_BACKFILL, **given))

    async def all(self, pipeline: str, count: int = 20) -> list[Backfill]:
        """The backfills of a pipeline, those requested last first."""
        answer = await self._transport.ask(operations.BACKFILLS, pipeline=pipeline, first=count)
        return list(_Requested.model_validate(answer).backfills.nodes)

    async def find(self, reference: UUID | str) -> Backfill:
        """A backfill as it stands."""
        return Backfill.model_validate(await self._transport.ask(operations.BACKFILL, id=str(reference)))

    async def pause(self, reference: UUID | str) -> Backfill:
        """Start no more chunks; those that run go on."""
        return Backfill.model_validate(await self._transport.ask(operations.PAUSE_BACKFILL, id=str(reference)))

    async def resume(self, reference: UUID | str) -> Backfill:
        """Go on with a paused one."""
        return Backfill.model_validate(await self._transport.ask(operations.RESUME_BACKFILL, id=str(reference)))

    async def cancel(self, reference: UUID | str) -> Backfill:
        """Withdraw the chunks that wait and stop those that run."""
        return Backfill.model_validate(await self._transport.ask(operations.CANCEL_BACKFILL, id=str(reference)))

    async def follow(self, reference: UUID | str) -> AsyncIterator[Backfill]:
        """How a backfill stands, at once and whenever that has changed, to its end.

        A stream that is cut is followed again; a server that is away is waited for up to 20 s, once it was there.
        """
        async for value in followed(self._transport, operations.BACKFILL_PROGRESS, id=str(reference)):
            yield Backfill.model_validate(value)


class _Nodes(Value):
    nodes: tuple[Backfill, ...]


class _Requested(Value):
    backfills: _Nodes
