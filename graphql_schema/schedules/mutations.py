"""Pauses schedules, lets them go on, and gives out what webhooks are signed with."""

from typing import Annotated, TypeAlias

import strawberry

from graphql_schema.context import Info
from graphql_schema.fields import mutation
from graphql_schema.permissions import Permission, permitted
from graphql_schema.schedules.types import Schedule
from models.errors import NotFound
from runtime.bus import SCHEDULES
from runtime.pipelines import store as pipelines
from runtime.schedules import listing, store, webhooks

SCHEDULE = "schedule"

PipelineId: TypeAlias = Annotated[strawberry.ID, strawberry.argument(description="The pipeline's id or its name.")]


@permitted(Permission.ENGINEERS)
@strawberry.type(description="What a webhook's requests are signed with. It is told this once.")
class WebhookSecret:
    """The answer of `issueWebhookSecret`."""

    address: str = strawberry.field(description="Where requests go, by POST: a path on this server.")
    secret: str = strawberry.field(description="The key of their HMAC-SHA256.")


@strawberry.type
class ScheduleMutations:
    """Changes schedules."""

    @mutation(Permission.ENGINEERS, "Let a schedule's moments go by; the pipeline can still be started by hand.")
    async def pause_schedule(self, info: Info, id: PipelineId) -> Schedule:
        return await _paused(info, id, is_paused=True)

    @mutation(Permission.ENGINEERS, "Let a paused schedule start its pipeline again, from its next moment on.")
    async def resume_schedule(self, info: Info, id: PipelineId) -> Schedule:
        return await _paused(info, id, is_paused=False)

    @mutation(Permission.ENGINEERS, "Make a new secret for the webhook of a schedule; the one before is void at once.")
    async def issue_webhook_secret(self, info: Info, id: PipelineId) -> WebhookSecret:
        async with info.context.writing() as session:
            row = await pipelines.find(session, id)
            issued = await webhooks.issue(session, info.context.services.sealer, row)
            info.context.note("issue_secret", SCHEDULE, issued.schedule, pipeline=row.pipeline_name)
        return WebhookSecret(address=issued.path, secret=issued.secret)


async def _paused(info: Info, reference: str, *, is_paused: bool) -> Schedule:
    async with info.context.writing(SCHEDULES) as session:
        row = await pipelines.find(session, reference)
        identity = await store.set_paused(session, row, info.context.services.clock(), is_paused=is_paused)
        info.context.note("pause" if is_paused else "resume", SCHEDULE, identity, pipeline=row.pipeline_name)
        (found,) = await listing.of_pipelines(session, [row.id])
    if found is None:
        raise NotFound(f"pipeline {row.pipeline_name!r} has no schedule any more", hint="save it with one")
    return Schedule.of(found)
