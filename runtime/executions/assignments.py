"""Takes an execution in hand: raises its generation, and reads all that its supervisor needs in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import text

from models.errors import Terminal
from models.fields import Json, JsonObject
from models.parsing import parse
from runtime.database import Session
from runtime.executions.entries import Left
from runtime.executions.journal import Holding
from runtime.executions.program import RunContext, TaskProgram, programs
from runtime.executions.recovery import Link, chain, commit_keys
from runtime.pipelines.plan import Plan
from runtime.queue.store import Claim

KEPT_PLANS = 256
MOST_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """An execution in our hands."""

    holding: Holding
    plan: Plan
    programs: dict[str, TaskProgram]
    context: RunContext
    accepted_at: datetime
    lower: dict[str, str]
    cancelling: bool
    taken_over: bool = False
    links: Sequence[Link] = ()


_TAKE = text("""
    UPDATE pipeline_executions AS execution
    SET generation = :generation, state = CASE WHEN cancel_requested_at IS NULL THEN 'starting' ELSE state END
    FROM pipeline_versions AS version
    WHERE execution.id = :id AND execution.generation < :generation
        AND execution.state NOT IN ('completed', 'failed', 'cancelled')
        AND version.pipeline_id = execution.pipeline_id AND version.version = execution.version
    RETURNING execution.pipeline_id, execution.version, execution.started_at, execution.execution_context,
        execution.dry_run, execution.cancel_requested_at IS NOT NULL AS cancelling, version.fingerprint,
        (SELECT before.generation FROM pipeline_executions AS before WHERE before.id = :id) AS earlier_generation,
        (SELECT jsonb_object_agg(cursor.step_name, cursor.cursor -> 'value') FROM pipeline_cursors AS cursor
         WHERE cursor.pipeline_id = execution.pipeline_id) AS cursors,
        (SELECT jsonb_object_agg(place.id, place.revision) FROM (
            SELECT id, updated_at::text AS revision FROM data_sources WHERE id = ANY(:places)
            UNION ALL SELECT id, updated_at::text FROM data_destinations WHERE id = ANY(:places)
         ) AS place) AS revisions
""")

_PLAN = text("SELECT plan FROM pipeline_versions WHERE pipeline_id = :pipeline_id AND version = :version")

_REVISIONS = text("""
    SELECT id, updated_at::text AS revision FROM data_sources WHERE id = ANY(:ids)
    UNION ALL SELECT id, updated_at::text FROM data_destinations WHERE id = ANY(:ids)
""")


class Plans:
    """Plans and their programs by fingerprint, so that a pipeline that runs often is read and prepared once.

    `places` are the ids of their sources and destinations, which `take` asks after beforehand.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Plan, dict[str, TaskProgram]]] = {}
        self.places: set[UUID] = set()

    async def of(
        self, session: Session, fingerprint: str, pipeline_id: UUID, version: int
    ) -> tuple[Plan, dict[str, TaskProgram]]:
        """The plan of a version; raises `Terminal` when the version was saved without one."""
        if fingerprint not in self._kept:
            row = (await session.execute(_PLAN, {"pipeline_id": pipeline_id, "version": version})).one()
            if row.plan is None:
                raise Terminal("this version has no plan", hint="save the pipeline again", code="no_plan")
            plan = parse(Plan, row.plan)
            if len(self._kept) >= KEPT_PLANS:
                del self._kept[next(iter(self._kept))]
            self._kept[fingerprint] = (plan, programs(plan))
            self.places = {place for kept, _ in self._kept.values() for place in places_of(kept)}
        return self._kept[fingerprint]


async def take(session: Session, claim: Claim, plans: Plans, block_rows: int) -> Taken | None:
    """Take the execution of a claim; None when it has ended or somebody newer holds it."""
    known = {"id": claim.subject, "generation": claim.generation, "places": list(plans.places)}
    row = (await session.execute(_TAKE, known)).first()
    if row is None or claim.subject is None:
        return None
    revisions = {UUID(place): revision for place, revision in (row.revisions or {}).items()}
    plan, prepared = await plans.of(session, row.fingerprint, row.pipeline_id, row.version)
    taken_over = row.earlier_generation > 0
    links = await chain(session, plan, claim.subject) if taken_over or row.execution_context.get("retry_of") else []
    context = RunContext(
        pipeline_id=row.pipeline_id,
        execution_id=claim.subject,
        generation=claim.generation,
        parameters=_parameters(plan, row.execution_context),
        revisions=await revisions_of(session, plan, revisions),
        dry_run=row.dry_run,
        sample_rows=_sample_rows(row.execution_context),
        block_rows=block_rows,
        commits=commit_keys(plan, links) if len(links) > 1 else {},
        covers=_covers(row.execution_context),
    )
    return Taken(
        holding=Holding(claim.subject, row.pipeline_id, claim.id, claim.generation),
        plan=plan,
        programs=prepared,
        context=context,
        accepted_at=row.started_at,
        lower={step: _as_text(value) for step, value in (row.cursors or {}).items()},
        cancelling=row.cancelling,
        taken_over=taken_over,
        links=links,
    )


_REFUSE = text("""
    UPDATE pipeline_executions SET generation = :generation
    WHERE id = :id AND generation <= :generation AND state NOT IN ('completed', 'failed', 'cancelled')
    RETURNING pipeline_id
""")


async def hold_to_refuse(session: Session, claim: Claim) -> Holding | None:
    """Hold an execution that cannot be run, in order to end it; None when it has ended or somebody newer holds it."""
    row = (await session.execute(_REFUSE, {"id": claim.subject, "generation": claim.generation})).first()
    if row is None or claim.subject is None:
        return None
    return Holding(claim.subject, row.pipeline_id, claim.id, claim.generation)


_LEFT = text("""
    SELECT step_name, attempt, started_at FROM step_executions
    WHERE pipeline_execution_id = :id AND state IN ('running', 'backing_off') ORDER BY started_at, step_name
""")


async def left_open(session: Session, execution_id: UUID) -> list[Left]:
    """The steps that supervisors which died have left running, or waiting for their next try."""
    rows = (await session.execute(_LEFT, {"id": execution_id})).all()
    return [Left(row.step_name, row.attempt, row.started_at) for row in rows]


# A row keeps the generation that finished its step; who restores it leaves it.
_PROGRESS = text("""
    SELECT coalesce(max(generation), 0) AS generation FROM step_executions
    WHERE pipeline_execution_id = :id AND state = 'completed'
""")


async def refuse_hopeless(session: Session, claim: Claim) -> None:
    """Raise `Terminal` for an execution whose supervisors keep dying and finish no step: it may be what kills them."""
    if claim.generation <= MOST_ATTEMPTS:
        return
    progress = (await session.execute(_PROGRESS, {"id": claim.subject})).one().generation
    if claim.generation - progress > MOST_ATTEMPTS:
        raise Terminal(
            f"{MOST_ATTEMPTS} supervisors died or were lost with this execution, and none finished a step",
            hint="see the runtime's log; execute the pipeline again once the cause is gone",
            code="gave_up",
        )


def places_of(plan: Plan) -> set[UUID]:
    """The ids of a plan's sources and destinations."""
    sources = {UUID(step.extract.source) for step in plan.steps if step.extract}
    return sources | {UUID(step.load.destination) for step in plan.steps if step.load}


async def revisions_of(session: Session, plan: Plan, known: Mapping[UUID, str] | None = None) -> dict[UUID, str]:
    """When each source and destination of a plan changed last, so that workers know a stale configuration.

    Only those that are not `known` are asked after.
    """
    revisions = {place: known[place] for place in places_of(plan) if known and place in known}
    missing = places_of(plan) - revisions.keys()
    if missing:
        found = (await session.execute(_REVISIONS, {"ids": list(missing)})).all()
        revisions |= {row.id: row.revision for row in found}
    return revisions


def _parameters(plan: Plan, context: JsonObject) -> dict[str, Json]:
    """The pipeline's defaults, overridden by what the execution was given and by the range that it covers."""
    given, covers = context.get("parameters"), _covers(context)
    bounds: dict[str, Json] = {} if covers is None else {"range_start": covers[0], "range_end": covers[1]}
    return {**plan.parameters, **(given if isinstance(given, dict) else {}), **bounds}


def _covers(context: JsonObject) -> tuple[str, str] | None:
    """The range that a backfill's execution covers, both ends as they were written."""
    written = context.get("date_range")
    return (str(written["start"]), str(written["end"])) if isinstance(written, dict) else None


def _sample_rows(context: JsonObject) -> int | None:
    rows = context.get("sample_rows")
    return rows if isinstance(rows, int) else None


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
