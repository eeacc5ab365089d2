"""The rows of schedules: they follow the newest versions of pipelines, and each of their moments is decided once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

from sqlalchemy import text

from models.errors import NotFound
from models.executions import ExecutionType
from models.fields import JsonObject, jsonb_text
from models.parsing import adapter_of, parse
from models.pipelines import DataPipeline
from models.schedules import EventSchedule, FireOutcome, ScheduleConfig
from runtime.database import Session
from runtime.executions import bulk
from runtime.schedules.decide import Decision, Due, Fire, Moment
from runtime.schedules.due import jitter, next_fire
from runtime.schedules.events import watched

CONFIG: Final = "schedule_config"
INACTIVE: Final = "the pipeline was not active"
IDLE_MILLISECONDS: Final = 3000

_KNOWN: Final = text("""
    SELECT id, config, next_fire_at, watches, is_paused FROM schedules WHERE pipeline_id = :pipeline_id FOR UPDATE
""")
_FORGET: Final = text("DELETE FROM schedules WHERE pipeline_id = :pipeline_id")
_KEEP: Final = text("""
    INSERT INTO schedules (id, pipeline_id, config, next_fire_at, due_at, watches)
    VALUES (:id, :pipeline_id, CAST(:config AS jsonb), :next_fire_at, :due_at, :watches)
    ON CONFLICT (pipeline_id) DO UPDATE SET
        config = excluded.config, next_fire_at = excluded.next_fire_at, due_at = excluded.due_at,
        watches = excluded.watches,
        event_cursor = CASE WHEN schedules.watches IS NOT DISTINCT FROM excluded.watches
            THEN schedules.event_cursor ELSE '{}' END
""")
_FORGET_ARRIVALS: Final = text("""
    DELETE FROM schedule_arrivals WHERE schedule_id = :id AND decided_at IS NULL
""")


async def follow(session: Session, pipeline: DataPipeline, now: datetime) -> None:
    """Make the schedule of a pipeline what its newest version says, in the transaction that saves it.

    An archived pipeline has none; that of an inactive one stands still. Raises `Invalid` for an event of something
    that is not there, and for one that would start the pipeline over and over.
    """
    config = config_of(pipeline)
    if config is None or pipeline.archived_at is not None:
        await session.execute(_FORGET, {"pipeline_id": pipeline.id})
        return
    known = (await session.execute(_KNOWN, {"pipeline_id": pipeline.id})).first()
    watches = await watched(session, config, pipeline.id) if isinstance(config, EventSchedule) else None
    if known is not None and pipeline.is_active and _stays(known, pipeline, watches):
        return
    identity = uuid4() if known is None else known.id
    fire = next_fire(config, now) if pipeline.is_active else None
    values = {
        "id": identity,
        "pipeline_id": pipeline.id,
        "config": jsonb_text(pipeline.schedule_config),
        "next_fire_at": fire,
        "due_at": None if fire is None else fire + jitter(identity, fire, config),
        "watches": watches if pipeline.is_active else None,
    }
    await session.execute(_KEEP, values)
    if known is not None and values["watches"] != known.watches:
        await session.execute(_FORGET_ARRIVALS, {"id": identity})


_OF_NAME: Final = text("SELECT id FROM data_pipelines WHERE archived_at IS NULL AND pipeline_name = :name")


async def check(session: Session, document: JsonObject) -> None:
    """Raise what `follow` would raise if a definition, which holds otherwise, were saved."""
    config = document.get(CONFIG)
    known = parse(adapter_of(ScheduleConfig), config, CONFIG) if config else None
    if isinstance(known, EventSchedule):
        row = (await session.execute(_OF_NAME, {"name": document.get("pipeline_name")})).first()
        await watched(session, known, None if row is None else row.id)


def _stays(known: Any, pipeline: DataPipeline, watches: str | None) -> bool:
    is_same = known.config == pipeline.schedule_config and known.watches == watches
    return is_same and (known.next_fire_at is not None or watches is not None)


def config_of(pipeline: DataPipeline) -> ScheduleConfig | None:
    """When a pipeline runs by itself; None where it does not."""
    if not pipeline.schedule_config:
        return None
    return parse(adapter_of(ScheduleConfig), pipeline.schedule_config, CONFIG)


_MOMENT: Final = timedelta(microseconds=1)
_PAUSE: Final = text("""
    UPDATE schedules SET is_paused = :is_paused,
        next_fire_at = CASE WHEN :moves THEN CAST(:next AS timestamptz) ELSE next_fire_at END,
        due_at = CASE WHEN :moves THEN CAST(:due AS timestamptz) ELSE due_at END
    WHERE id = :id
""")


async def set_paused(session: Session, pipeline: DataPipeline, now: datetime, *, is_paused: bool) -> UUID:
    """Pause a pipeline's schedule, or let it go on from now; answers its id. Raises `NotFound` where there is none."""
    known = (await session.execute(_KNOWN, {"pipeline_id": pipeline.id})).first()
    config = config_of(pipeline)
    if known is None or config is None:
        hint = "save it with a schedule_config first"
        raise NotFound(f"pipeline {pipeline.pipeline_name!r} has no schedule", hint=hint)
    # One that is not paused is left: what is due, and not decided yet, stays due.
    moves = known.is_paused and not is_paused and known.next_fire_at is not None
    # Never back: while this waited for the row, moments after `now` may have been decided.
    fire = next_fire(config, max(now, known.next_fire_at - _MOMENT)) if moves else None
    due = None if fire is None else fire + jitter(known.id, fire, config)
    await session.execute(_PAUSE, {"id": known.id, "is_paused": is_paused, "moves": moves, "next": fire, "due": due})
    return UUID(str(known.id))


_BUSY: Final = f"""EXISTS (
    SELECT FROM pipeline_executions AS execution WHERE execution.pipeline_id = schedule.pipeline_id
        AND {bulk.OF_SCHEDULES}) AS is_busy"""
_DUE: Final = text(f"""
    SELECT schedule.id, schedule.pipeline_id, schedule.config, schedule.next_fire_at, schedule.updated_at,
        schedule.is_paused OR pipeline.is_paused AS is_paused, {_BUSY}
    FROM schedules AS schedule JOIN data_pipelines AS pipeline ON pipeline.id = schedule.pipeline_id
    WHERE schedule.due_at <= :now
    ORDER BY schedule.due_at LIMIT :most
""")
_ARRIVED: Final = text(f"""
    SELECT schedule.id, schedule.pipeline_id, schedule.config, schedule.updated_at,
        schedule.is_paused OR pipeline.is_paused AS is_paused, {_BUSY}, arrived.causes, arrived.moments
    FROM (
        SELECT schedule_id, array_agg(cause ORDER BY happened_at) AS causes,
            array_agg(happened_at ORDER BY happened_at) AS moments
        FROM (
            SELECT schedule_id, cause, happened_at FROM schedule_arrivals WHERE decided_at IS NULL
            ORDER BY happened_at LIMIT :most
        ) AS first
        GROUP BY schedule_id
    ) AS arrived
    JOIN schedules AS schedule ON schedule.id = arrived.schedule_id AND schedule.watches IS NOT NULL
    JOIN data_pipelines AS pipeline ON pipeline.id = schedule.pipeline_id
""")
_NEXT: Final = text("SELECT min(due_at) AS next FROM schedules WHERE due_at IS NOT NULL")


async def due(session: Session, now: datetime, most: int) -> list[Due]:
    """The schedules that are due by now, those due longest first, and those that something arrived for."""
    rows = (await session.execute(_DUE, {"now": now, "most": most})).all()
    arrived = (await session.execute(_ARRIVED, {"most": most})).all()
    return [_due(row, row.next_fire_at, ()) for row in rows] + [
        _due(row, None, tuple(Moment(at, cause) for at, cause in zip(row.moments, row.causes, strict=True)))
        for row in arrived
    ]


async def next_due(session: Session) -> datetime | None:
    """When a schedule is due next; None where none is."""
    found: datetime | None = (await session.execute(_NEXT)).one().next
    return found


def _due(row: Any, next_fire_at: datetime | None, arrivals: tuple[Moment, ...]) -> Due:
    config = config_read(row.config)
    return Due(row.id, row.pipeline_id, config, next_fire_at, arrivals, row.is_paused, row.is_busy, row.updated_at)


def config_read(stored: JsonObject) -> ScheduleConfig:
    """A configuration as it was kept; keys of newer versions are passed over."""
    kept: ScheduleConfig = adapter_of(ScheduleConfig).validate_python(stored, strict=False, extra="ignore")
    return kept


@dataclass(frozen=True, slots=True)
class Outcome:
    """What deciding has done: how many moments were decided, and the executions to wake."""

    decided: int = 0
    submitted: int = 0
    cancelled: tuple[UUID, ...] = ()


_BRIEFLY: Final = text("SELECT set_config('idle_in_transaction_session_timeout', :milliseconds, true)")
_ADVANCE: Final = text("""
WITH given AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:expected AS timestamptz[]), CAST(:seen AS timestamptz[]),
        CAST(:next AS timestamptz[]), CAST(:due AS timestamptz[]), CAST(:last AS timestamptz[])
    ) AS given (id, expected, seen, next_fire_at, due_at, last_fire_at)
), ours AS (
    SELECT schedule.id FROM schedules AS schedule JOIN given USING (id)
    WHERE schedule.next_fire_at IS NOT DISTINCT FROM given.expected AND schedule.updated_at = given.seen
    FOR UPDATE OF schedule SKIP LOCKED
)
UPDATE schedules AS schedule SET next_fire_at = given.next_fire_at, due_at = given.due_at,
    last_fire_at = coalesce(given.last_fire_at, schedule.last_fire_at)
FROM given JOIN ours USING (id)
WHERE schedule.id = given.id
RETURNING schedule.id
""")
_TAKE: Final = text("""
    UPDATE schedule_arrivals AS arrival SET decided_at = now()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:causes AS text[])) AS given (schedule_id, cause)
    WHERE arrival.schedule_id = given.schedule_id AND arrival.cause = given.cause AND arrival.decided_at IS NULL
    RETURNING arrival.schedule_id, arrival.cause, arrival.parameters
""")
_DECIDED: Final = text("""
    SELECT schedule_id, fire_time FROM schedule_fires
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:times AS timestamptz[])) AS given (schedule_id, fire_time)
        USING (schedule_id, fire_time)
""")
_RECORD: Final = text("""
    INSERT INTO schedule_fires (schedule_id, fire_time, outcome, reason, execution_id, decided_at)
    SELECT * , CAST(:now AS timestamptz) FROM unnest(
        CAST(:ids AS uuid[]), CAST(:times AS timestamptz[]), CAST(:outcomes AS text[]), CAST(:reasons AS text[]),
        CAST(:executions AS uuid[]))
    ON CONFLICT DO NOTHING
""")


async def perform(
    session: Session, decisions: Sequence[Decision], now: datetime, mint: Callable[[], UUID] = uuid4
) -> Outcome:
    """Write decisions down and submit what they start, each only where nobody decided or changed it meanwhile.

    `mint` gives each execution its id.

    One who is stopped in the middle of it keeps the schedules locked for three seconds, then PostgreSQL undoes it.
    """
    await session.execute(_BRIEFLY, {"milliseconds": str(IDLE_MILLISECONDS)})
    ours, given = await _taken(session, decisions)
    cancelled = await bulk.cancel(session, [one.due.pipeline_id for one in ours if one.cancels])
    orders = {
        (one.due.id, fire.at): _order(one, fire, given.get((one.due.id, fire.cause), {}), mint())
        for one in ours
        for fire in one.fires
        if fire.outcome is FireOutcome.SUBMITTED
    }
    accepted = await bulk.submit(session, list(orders.values()), now)
    fires = [(one.due.id, fire, orders.get((one.due.id, fire.at))) for one in ours for fire in one.fires]
    await _record(session, fires, accepted, now)
    return Outcome(len(fires), len(accepted), tuple(cancelled))


Given: TypeAlias = dict[tuple[UUID, str | None], JsonObject]
"""The parameters that arrivals brought, by schedule and cause."""


async def _taken(session: Session, decisions: Sequence[Decision]) -> tuple[list[Decision], Given]:
    """The decisions that are still ours to make, with the fires of arrivals that nobody took, and what these gave."""
    parameters = {
        "ids": [one.due.id for one in decisions],
        "expected": [one.due.next_fire_at for one in decisions],
        "seen": [one.due.seen for one in decisions],
        "next": [one.next_fire_at for one in decisions],
        "due": [one.due_at for one in decisions],
        "last": [_last(one) for one in decisions],
    }
    advanced = {row.id for row in (await session.execute(_ADVANCE, parameters)).all()}
    ours = await _undecided(session, [one for one in decisions if one.due.id in advanced])
    causes = [(one.due.id, fire.cause) for one in ours for fire in one.fires if fire.cause is not None]
    if not causes:
        return ours, {}
    given = {"ids": [identity for identity, _ in causes], "causes": [cause for _, cause in causes]}
    taken: Given = {(row.schedule_id, row.cause): row.parameters for row in (await session.execute(_TAKE, given)).all()}
    mine = [
        replace(one, fires=tuple(f for f in one.fires if f.cause is None or (one.due.id, f.cause) in taken))
        for one in ours
    ]
    return mine, taken


async def _undecided(session: Session, decisions: Sequence[Decision]) -> list[Decision]:
    """Decisions whose schedules are locked, without moments of the clock that are decided already.

    A schedule that is saved or resumed by somebody whose clock is behind may come to one again.
    """
    moments = [(one.due.id, fire.at) for one in decisions for fire in one.fires if fire.cause is None]
    if not moments:
        return list(decisions)
    asked = {"ids": [identity for identity, _ in moments], "times": [at for _, at in moments]}
    decided = {(row.schedule_id, row.fire_time) for row in (await session.execute(_DECIDED, asked)).all()}
    return [
        replace(one, fires=tuple(f for f in one.fires if f.cause is not None or (one.due.id, f.at) not in decided))
        for one in decisions
    ]


def _last(decision: Decision) -> datetime | None:
    return max((fire.at for fire in decision.fires if fire.outcome is FireOutcome.SUBMITTED), default=None)


def _order(decision: Decision, fire: Fire, parameters: JsonObject, identity: UUID) -> bulk.Order:
    kind = ExecutionType.SCHEDULED if fire.cause is None else ExecutionType.TRIGGERED
    key = f"schedule:{decision.due.id}:{fire.cause or fire.at.isoformat()}"
    return bulk.Order(decision.due.pipeline_id, kind, key, held=fire.held, parameters=parameters, id=identity)


async def _record(
    session: Session, fires: Sequence[tuple[UUID, Fire, bulk.Order | None]], accepted: set[UUID], now: datetime
) -> None:
    if not fires:
        return
    told = [_told(fire, order, accepted) for _, fire, order in fires]
    parameters = {
        "now": now,
        "ids": [identity for identity, _, _ in fires],
        "times": [fire.at for _, fire, _ in fires],
        "outcomes": [outcome.value for outcome, _, _ in told],
        "reasons": [reason for _, reason, _ in told],
        "executions": [execution for _, _, execution in told],
    }
    await session.execute(_RECORD, parameters)


def _told(fire: Fire, order: bulk.Order | None, accepted: set[UUID]) -> tuple[FireOutcome, str | None, UUID | None]:
    if order is None:
        return fire.outcome, fire.reason, None
    if order.id not in accepted:
        return FireOutcome.SKIPPED, INACTIVE, None
    return fire.outcome, fire.reason, order.id


_PRUNE: Final = (
    text("DELETE FROM schedule_fires WHERE decided_at < :before"),
    text("DELETE FROM schedule_arrivals WHERE decided_at < :before"),
)


async def prune(session: Session, before: datetime) -> None:
    """Forget what was decided before a moment."""
    for statement in _PRUNE:
        await session.execute(statement, {"before": before})
