"""What event schedules wait for: names become ids when a schedule is saved, so that renaming breaks none."""

import difflib
from collections.abc import Sequence
from typing import Final, assert_never
from uuid import UUID

from sqlalchemy import TextClause, text

from models.errors import Invalid
from models.schedules import EventKind, EventSchedule
from models.sources import SourceType
from runtime.database import Session

PATH: Final = "schedule_config.expression"

_PIPELINES: Final = text("SELECT id, pipeline_name AS name FROM data_pipelines WHERE archived_at IS NULL")
_SOURCES: Final = text("SELECT id, source_name AS name, source_type FROM data_sources WHERE archived_at IS NULL")
_DESTINATIONS: Final = text("SELECT id, destination_name AS name FROM data_destinations WHERE archived_at IS NULL")
_WEBHOOK: Final = text("""
    SELECT pipeline.id, pipeline.pipeline_name FROM schedules AS schedule
    JOIN data_pipelines AS pipeline ON pipeline.id = schedule.pipeline_id WHERE schedule.watches = :watches
""")
# Whose completion tells what, and back from what is to be waited for over the schedules of those that tell it. What a
# pipeline loads itself does not start it.
_CIRCLE: Final = text("""
    WITH RECURSIVE watched AS MATERIALIZED (
        SELECT watches FROM schedules WHERE starts_with(watches, 'dataset:')
        UNION
        SELECT CAST(:watches AS text) WHERE starts_with(CAST(:watches AS text), 'dataset:')
    ), told (pipeline_id, watches) AS MATERIALIZED (
        SELECT id, 'pipeline:' || id FROM data_pipelines
        UNION ALL
        SELECT DISTINCT pipeline.id, watched.watches
        FROM data_pipelines AS pipeline
        JOIN pipeline_versions AS version
            ON version.pipeline_id = pipeline.id AND version.version = pipeline.version
        CROSS JOIN LATERAL json_array_elements(version.plan -> 'steps') AS step
        JOIN watched
            ON watched.watches = 'dataset:' || (step #>> '{load,destination}') || '/' || (step #>> '{load,table}')
        WHERE pipeline.archived_at IS NULL AND coalesce((step ->> 'enabled')::boolean, true)
            AND EXISTS (SELECT FROM watched)
    ), before (id) AS (
        SELECT pipeline_id FROM told
        WHERE watches = :watches AND (pipeline_id <> :own OR starts_with(watches, 'pipeline:'))
        UNION
        SELECT told.pipeline_id
        FROM before
        JOIN schedules AS schedule ON schedule.pipeline_id = before.id
        JOIN told ON told.watches = schedule.watches AND told.pipeline_id <> before.id
    )
    SELECT id FROM before WHERE id = :own
""")


async def watched(session: Session, config: EventSchedule, own: UUID | None) -> str:
    """What `schedules.watches` holds of an event, by ids; `own` is the pipeline that it is to start.

    Raises `Invalid` at the expression for what is not there, and for what would start the pipeline over and over.
    """
    kind, (place, _, rest) = config.kind, config.subject.partition("/")
    match kind:
        case EventKind.PIPELINE:
            found = f"{kind.value}:{await _named(session, _PIPELINES, 'pipeline', config.subject)}"
            await _refuse_circle(session, found, own, config.subject)
            return found
        case EventKind.DATASET:
            found = f"{kind.value}:{await _named(session, _DESTINATIONS, 'destination', place)}/{rest}"
            await _refuse_circle(session, found, own, config.subject)
            return found
        case EventKind.FILE | EventKind.STREAM:
            return f"{kind.value}:{await _named(session, _SOURCES, 'source', place, SourceType(kind.value))}/{rest}"
        case EventKind.WEBHOOK:
            return await _free(session, config.expression, own)
        case _:
            assert_never(kind)


async def _named(session: Session, statement: TextClause, noun: str, name: str, kind: SourceType | None = None) -> str:
    rows = (await session.execute(statement)).all()
    for row in rows:
        if name in (row.name, str(row.id)):
            if kind is not None and row.source_type != kind.value:
                hint = f"name a source of the type {kind.value}"
                raise Invalid(f"the source {name!r} is of the type {row.source_type}", hint=hint, path=PATH)
            return str(row.id)
    raise Invalid(f"there is no {noun} {name!r}", hint=_near(name, [row.name for row in rows], noun), path=PATH)


def _near(name: str, names: Sequence[str], noun: str) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"save the {noun} first, or name one there is"


async def _refuse_circle(session: Session, watches: str, own: UUID | None, name: str) -> None:
    if own is None:
        return
    if (await session.execute(_CIRCLE, {"watches": watches, "own": own})).first() is not None:
        hint = "start one of them by cron, by an interval, or by another event"
        raise Invalid(f"it would start itself over and over, by way of {name!r}", hint=hint, path=PATH)


async def _free(session: Session, watches: str, own: UUID | None) -> str:
    for row in (await session.execute(_WEBHOOK, {"watches": watches})).all():
        if row.id != own:
            hint = "choose another name, or let that pipeline's end start this one"
            raise Invalid(f"{watches} starts pipeline {row.pipeline_name!r} already", hint=hint, path=PATH)
    return watches
