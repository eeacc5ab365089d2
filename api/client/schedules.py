"""What the client does with schedules: lists them, tells their moments, pauses them and lets them go on."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BeforeValidator

from api.client import operations
from api.client.following import followed
from api.client.transport import Transport
from api.client.values import Value
from models.errors import NotFound
from models.fields import Json, JsonObject
from models.schedules import FireOutcome

S = TypeVar("S")

PAGE = 100

Outcome: TypeAlias = Annotated[FireOutcome, BeforeValidator(str.lower)]


class Schedule(Value):
    """When a pipeline starts by itself, and how far that has come."""

    id: UUID
    pipeline_name: str
    config: JsonObject
    is_paused: bool
    next_fire_at: datetime | None = None
    last_fire_at: datetime | None = None
    problem: str | None = None


class StartedExecution(Value):
    """The execution that a moment started."""

    execution_id: str


class ScheduleFire(Value):
    """What became of a moment of a schedule."""

    pipeline_name: str
    fire_time: datetime
    outcome: Outcome
    reason: str | None = None
    decided_at: datetime
    execution: StartedExecution | None = None


class WebhookSecret(Value):
    """Where a webhook's requests go, and what they are signed with."""

    address: str
    secret: str


class Schedules:
    """The schedules of a server; pipelines are named by id or name. Every method raises typed errors."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def all(self) -> list[Schedule]:
        """All schedules, by the names of their pipelines."""
        found, after = list[Schedule](), None
        while True:
            page = _Page.model_validate(await self._transport.ask(operations.SCHEDULES, first=PAGE, after=after))
            found.extend(page.nodes)
            if not page.page_info.has_next_page:
                return found
            after = page.page_info.end_cursor

    async def next_runs(self, pipeline: str, count: int = 10) -> list[datetime]:
        """The next moments of a pipeline's schedule."""
        answer = await self._transport.ask(operations.NEXT_RUNS, name=pipeline, first=count)
        return list(_scheduled(pipeline, _Coming.model_validate(answer).schedule).next_runs)

    async def fires(self, pipeline: str, count: int = 20) -> list[ScheduleFire]:
        """What became of the moments of a pipeline's schedule, the latest first."""
        answer = await self._transport.ask(operations.FIRES, name=pipeline, first=count)
        return list(_scheduled(pipeline, _Past.model_validate(answer).schedule).fires)

    async def follow(
        self, pipeline: str | None = None, outcomes: Sequence[FireOutcome] | None = None
    ) -> AsyncIterator[ScheduleFire]:
        """What becomes of the moments of a pipeline's schedule, or of all schedules, from now on; never ends.

        A stream that is cut is followed again; a server that is away is waited for up to 20 s, once it was there.
        """
        wanted: Json = None if outcomes is None else [outcome.name for outcome in outcomes]
        async for value in followed(self._transport, operations.FOLLOW_FIRES, pipeline=pipeline, outcomes=wanted):
            yield ScheduleFire.model_validate(value)

    async def pause(self, pipeline: str) -> Schedule:
        """Let the moments of a pipeline's schedule go by."""
        return Schedule.model_validate(await self._transport.ask(operations.PAUSE_SCHEDULE, id=pipeline))

    async def resume(self, pipeline: str) -> Schedule:
        """Let a paused schedule start its pipeline again."""
        return Schedule.model_validate(await self._transport.ask(operations.RESUME_SCHEDULE, id=pipeline))

    async def new_secret(self, pipeline: str) -> WebhookSecret:
        """Make a new secret for the webhook that starts a pipeline."""
        return WebhookSecret.model_validate(await self._transport.ask(operations.ISSUE_WEBHOOK_SECRET, id=pipeline))


class _PageInfo(Value):
    has_next_page: bool
    end_cursor: str | None = None


class _Page(Value):
    nodes: tuple[Schedule, ...]
    page_info: _PageInfo


class _NextRuns(Value):
    next_runs: tuple[datetime, ...]


class _Coming(Value):
    schedule: _NextRuns | None


class _Fires(Value):
    fires: tuple[ScheduleFire, ...]


class _Past(Value):
    schedule: _Fires | None


def _scheduled(pipeline: str, found: S | None) -> S:
    if found is None:
        raise NotFound(f"pipeline {pipeline!r} has no schedule", hint="save it with a schedule_config")
    return found
