"""What a schedule shows: when it fires, and what became of its moments."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.executions.types import Execution, executions_by_id
from graphql_schema.fields import computed
from graphql_schema.permissions import Permission, permitted
from graphql_schema.scalars import Json
from models.errors import NotFound
from models.schedules import FireOutcome
from runtime.paging import Window
from runtime.schedules import listing
from runtime.schedules.due import fires_after
from runtime.schedules.store import config_read

strawberry.enum(FireOutcome, description="What became of a moment at which a schedule was due.")

Few: TypeAlias = Annotated[int, strawberry.argument(description="How many at most, 1-100.")]


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="What was decided about one moment of a schedule, once.")
class ScheduleFire:
    """A row of `schedule_fires`."""

    row: strawberry.Private[listing.Decided]
    fire_time: datetime = strawberry.field(description="The moment; of an event, when it happened.")
    outcome: FireOutcome = strawberry.field(description="Whether it was submitted, skipped or missed.")
    reason: str | None = strawberry.field(description="Why nothing was submitted.")
    decided_at: datetime = strawberry.field(description="When that was decided.")
    cursor: str = strawberry.field(description="Give this as `after` to `scheduleFires` to go on behind it.")

    @classmethod
    def of(cls, row: listing.Decided) -> "ScheduleFire":
        """Show a row."""
        return cls(
            row=row,
            fire_time=row.fire_time,
            outcome=row.outcome,
            reason=row.reason,
            decided_at=row.decided_at,
            cursor=str(row.position),
        )

    @computed("The name of the pipeline that it is to start.")
    async def pipeline_name(self, info: Info) -> str:
        found = await info.context.load(listing.by_ids, self.row.schedule_id)
        if found is None:
            raise NotFound("the schedule is gone", hint="its pipeline was saved without one, or archived")
        return found.pipeline_name

    @computed("The execution that it started; null for none, and for one that you may not see.")
    async def execution(self, info: Info) -> Execution | None:
        if self.row.execution_id is None:
            return None
        found = await info.context.load(executions_by_id, self.row.execution_id)
        return None if found is None else Execution.of(found)


@permitted(Permission.SIGNED_IN)
@strawberry.type(description="When a pipeline starts by itself, and how far that has come.")
class Schedule:
    """A row of `schedules`."""

    row: strawberry.Private[listing.Listed]
    id: strawberry.ID = strawberry.field(description="Its id.")
    pipeline_name: str = strawberry.field(description="The pipeline that it starts.")
    is_paused: bool = strawberry.field(description="Whether its moments go by for now.")
    next_fire_at: datetime | None = strawberry.field(
        description="Its next moment; null where an event starts it, where it has ended, and of an inactive pipeline."
    )
    last_fire_at: datetime | None = strawberry.field(description="The last moment that started an execution.")
    problem: str | None = strawberry.field(
        description="Why it cannot be looked at what it waits for; null where it can, and where it waits for nothing."
    )

    @classmethod
    def of(cls, row: listing.Listed) -> "Schedule":
        """Show a row."""
        return cls(
            row=row,
            id=strawberry.ID(str(row.id)),
            pipeline_name=row.pipeline_name,
            is_paused=row.is_paused,
            next_fire_at=row.next_fire_at,
            last_fire_at=row.last_fire_at,
            problem=row.problem,
        )

    @computed("Its `schedule_config`, as it was written.")
    def config(self) -> Json:
        return Json(self.row.config)

    @computed("Its next moments, without jitter; none where an event starts it.")
    def next_runs(self, info: Info, first: Few = 10) -> list[datetime]:
        return next_runs(self.row, Window(first).first)

    @computed("What became of its moments, the latest first.")
    async def fires(self, info: Info, first: Few = 20) -> list[ScheduleFire]:
        wanted = listing.Latest(self.row.id, Window(first).first)
        found: Sequence[listing.Decided] = await info.context.load(listing.fires, wanted)
        return [ScheduleFire.of(row) for row in found]


def next_runs(row: listing.Listed, most: int) -> list[datetime]:
    """The next moments of a schedule, from the one that was not decided yet on."""
    if row.next_fire_at is None:
        return []
    later = fires_after(config_read(row.config), row.next_fire_at)
    return [row.next_fire_at, *islice(later, most - 1)]
