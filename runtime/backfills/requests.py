"""Accepts backfills: the row and an execution, an event and a work item for each chunk, in one statement."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from sqlalchemy import text

from models.errors import Conflict, Invalid, NotFound
from models.events import EventKind
from models.executions import DateRange, ExecutionState, ExecutionType
from models.fields import Json, jsonb_text
from models.parsing import as_uuid, parse
from runtime.backfills.chunks import Span, cut, span
from runtime.backfills.ranges import refuse_unbounded
from runtime.database import Identity, Session
from runtime.executions.submission import refuse_stopped
from runtime.pipelines.plan import Plan
from runtime.queue.kinds import WorkKind

MOST_AT_ONCE: Final = 1_000
MOST_PRIORITY: Final = 100
BEHIND_LIVE: Final = -10
"""The priority of a backfill: below that of live runs, which is 0."""

_UNDONE: Final = frozenset({ExecutionState.FAILED, ExecutionState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Request:
    """Which range of a pipeline, by its id or name, is to be run again, in what chunks, and how many at once.

    `again` runs also the chunks that have completed before.
    """

    pipeline: UUID | str
    range_start: str
    range_end: str
    chunk: str = "1d"
    most_at_once: int = 1
    priority: int = BEHIND_LIVE
    parameters: Mapping[str, Json] = field(default_factory=dict)
    again: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its range, its key among the pipeline's executions, and how the execution of that key stands."""

    range: DateRange
    key: str
    state: ExecutionState | None
    will_run: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that was found good: its pipeline, its whole range, and its chunks, the earliest first."""

    request: Request
    pipeline_id: UUID
    version: int
    span: Span
    chunks: Sequence[Chunk]

    @property
    def due(self) -> list[Chunk]:
        """The chunks that are to run."""
        return [chunk for chunk in self.chunks if chunk.will_run]


async def prepare(session: Session, request: Request, *, in_turn: bool = False) -> Prepared:
    """Check a request and cut its range; `in_turn`, once no other request for the pipeline is in its transaction.

    Raises `NotFound`, `Conflict` for a paused, inactive or archived pipeline, and `Invalid` for a range, a chunk or a
    pipeline that cannot be backfilled.
    """
    _check(request)
    whole = span(request.range_start, request.range_end)
    ranges = cut(whole, request.chunk)
    pipeline = await _pipeline(session, request.pipeline)
    if in_turn:
        await session.execute(_TURN, {"id": str(pipeline.id)})
    refuse_stopped(pipeline)
    refuse_unbounded(_plan(pipeline), len(ranges))
    keys = {_key(one, request.parameters): one for one in ranges}
    known = await _known(session, pipeline.id, list(keys))
    again = _UNDONE | ({ExecutionState.COMPLETED} if request.again else frozenset())
    chunks = [Chunk(one, key, known.get(key), known.get(key) in {None, *again}) for key, one in keys.items()]
    return Prepared(request, pipeline.id, pipeline.version, whole, chunks)


async def request(session: Session, wanted: Request, by: Identity) -> UUID:
    """Accept a backfill and answer its id; publish `runtime.bus.WORK` after the commit.

    Runs only the chunks that are missing, failed or were cancelled: one that has completed, or is under way, with the
    same parameters is left as it is. While the same backfill is under way it is answered as it stands; when nothing is
    left to run, the last one of the same range is. Raises as `prepare` does, and `Conflict` when other backfills have
    run, or run, all of it.
    """
    prepared = await prepare(session, wanted, in_turn=True)
    earlier = await _earlier(session, prepared)
    if earlier is not None and ((earlier.finished_at is None and not wanted.again) or not prepared.due):
        return UUID(str(earlier.id))
    if not prepared.due:
        raise Conflict(
            f"all {len(prepared.chunks)} chunks have completed or are under way",
            hint="to run those that have completed once more, ask for them `again`",
            code="nothing_to_run",
        )
    await _free(session, prepared)
    identity = uuid4()
    await session.execute(_INSERT, _values(identity, prepared, by))
    return identity


_PIPELINE: Final = text("""
    SELECT pipeline.id, pipeline_name, pipeline.version, is_paused, is_active, version.plan
    FROM data_pipelines AS pipeline
    LEFT JOIN pipeline_versions AS version
        ON version.pipeline_id = pipeline.id AND version.version = pipeline.version
    WHERE archived_at IS NULL
        AND CASE WHEN CAST(:id AS uuid) IS NULL THEN pipeline_name = :name ELSE pipeline.id = :id END
""")
_TURN: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('wedsync.backfills:' || :id, 0))")


async def _pipeline(session: Session, reference: UUID | str) -> Any:
    wanted = {"id": as_uuid(reference), "name": str(reference)}
    found = (await session.execute(_PIPELINE, wanted)).first()
    if found is None:
        hint = "see the pipelines there are, by id or name"
        raise NotFound(f"there is no pipeline {str(reference)!r}", hint=hint, path="pipeline")
    return found


def _plan(pipeline: Any) -> Plan:
    if pipeline.plan is None:
        raise Invalid("the pipeline's newest version has no plan", hint="save it again", path="pipeline")
    return parse(Plan, pipeline.plan)


def _check(request: Request) -> None:
    if not 1 <= request.most_at_once <= MOST_AT_ONCE:
        raise Invalid(f"must be between 1 and {MOST_AT_ONCE}, not {request.most_at_once}", path="most_at_once")
    if abs(request.priority) > MOST_PRIORITY:
        hint = f"live runs have 0; a backfill behind them has {BEHIND_LIVE}"
        raise Invalid(f"must be between -{MOST_PRIORITY} and {MOST_PRIORITY}", hint=hint, path="priority")
    given = {"range_start", "range_end"} & request.parameters.keys()
    if given:
        path = f"parameters.{min(given)}"
        raise Invalid("is given by each chunk", hint="leave it out; say the whole range instead", path=path)


def _key(one: DateRange, parameters: Mapping[str, Json]) -> str:
    """What makes a chunk the same as an earlier one of its pipeline: its range, and the parameters where there are."""
    bounds = one.model_dump(mode="json")
    key = f"backfill:{bounds['start']}/{bounds['end']}"
    if not parameters:
        return key
    told = orjson.dumps(dict(parameters), option=orjson.OPT_SORT_KEYS)
    return f"{key}:{hashlib.sha256(told).hexdigest()[:16]}"


# A chunk that failed, or was run again from a step, is as its last retry left it.
_KNOWN: Final = text("""
    WITH RECURSIVE taken_up AS (
        SELECT id, idempotency_key, state, started_at FROM pipeline_executions
        WHERE pipeline_id = :pipeline_id AND idempotency_key = ANY(CAST(:keys AS text[]))
        UNION ALL
        SELECT later.id, taken_up.idempotency_key, later.state, later.started_at
        FROM taken_up JOIN pipeline_executions AS later
            ON later.execution_context ->> 'retry_of' = CAST(taken_up.id AS text)
        WHERE later.pipeline_id = :pipeline_id AND later.execution_type = 'retry'
    )
    SELECT DISTINCT ON (idempotency_key) idempotency_key, state FROM taken_up
    ORDER BY idempotency_key, started_at DESC
""")


async def _known(session: Session, pipeline_id: UUID, keys: list[str]) -> dict[str, ExecutionState]:
    rows = (await session.execute(_KNOWN, {"pipeline_id": pipeline_id, "keys": keys})).all()
    return {row.idempotency_key: ExecutionState(row.state) for row in rows}


_EARLIER: Final = text("""
    SELECT id, finished_at FROM backfills
    WHERE pipeline_id = :pipeline_id AND range_start = :range_start AND range_end = :range_end AND chunk = :chunk
        AND parameters = CAST(:parameters AS jsonb) AND state <> 'cancelled'
    ORDER BY created_at DESC LIMIT 1
""")


async def _earlier(session: Session, prepared: Prepared) -> Any:
    """The last backfill of the same range, chunk and parameters, and whether it has finished."""
    asked = prepared.request
    parameters = {
        "pipeline_id": prepared.pipeline_id,
        "range_start": prepared.span.start,
        "range_end": prepared.span.end,
        "chunk": asked.chunk,
        "parameters": jsonb_text(dict(asked.parameters)),
    }
    return (await session.execute(_EARLIER, parameters)).first()


_FREE: Final = text("""
    UPDATE pipeline_executions SET idempotency_key = NULL
    WHERE pipeline_id = :pipeline_id AND idempotency_key = ANY(CAST(:keys AS text[]))
        AND state IN ('failed', 'cancelled', 'completed')
""")


async def _free(session: Session, prepared: Prepared) -> None:
    """Take the keys of those that ended, for the executions that do their chunks once more."""
    keys = [chunk.key for chunk in prepared.due if chunk.state is not None]
    if keys:
        await session.execute(_FREE, {"pipeline_id": prepared.pipeline_id, "keys": keys})


_INSERT: Final = text("""
WITH chunk AS (
    SELECT * FROM unnest(
        CAST(:ids AS uuid[]), CAST(:names AS text[]), CAST(:starts AS text[]), CAST(:ends AS text[]),
        CAST(:keys AS text[])
    ) WITH ORDINALITY AS given (id, name, range_start, range_end, key, place)
    WHERE NOT EXISTS (
        SELECT FROM pipeline_executions WHERE pipeline_id = :pipeline_id AND idempotency_key = given.key
    )
), backfill AS (
    INSERT INTO backfills (
        id, pipeline_id, range_start, range_end, chunk, most_at_once, priority, parameters, total, already,
        requested_by)
    SELECT CAST(:id AS uuid), CAST(:pipeline_id AS uuid), CAST(:range_start AS timestamptz),
        CAST(:range_end AS timestamptz), CAST(:chunk AS text), CAST(:most_at_once AS int), CAST(:priority AS int),
        CAST(:parameters AS jsonb), count(*), CAST(:of AS int) - count(*), CAST(:by AS uuid)
    FROM chunk
), execution AS (
    INSERT INTO pipeline_executions (
        id, pipeline_id, execution_id, execution_type, started_at, execution_context, triggered_by, version,
        idempotency_key, last_event_seq, backfill_id)
    SELECT chunk.id, CAST(:pipeline_id AS uuid), chunk.name, CAST(:execution_type AS text),
        CAST(:now AS timestamptz) + chunk.place * interval '1 microsecond',
        jsonb_build_object(
            'parameters', CAST(:parameters AS jsonb),
            'date_range', jsonb_build_object('start', chunk.range_start, 'end', chunk.range_end)),
        CAST(:by AS uuid), CAST(:version AS int), chunk.key, 1, CAST(:id AS uuid)
    FROM chunk
    RETURNING id, started_at
), item AS (
    INSERT INTO work_items (
        id, kind, subject, pipeline_id, pool, backfill_id, priority, requested_by, created_at, run_after, state)
    SELECT gen_random_uuid(), CAST(:work AS text), execution.id, CAST(:pipeline_id AS uuid),
        (SELECT pool FROM data_pipelines WHERE data_pipelines.id = :pipeline_id), CAST(:id AS uuid),
        CAST(:priority AS int), CAST(:by AS uuid), started_at, CAST(:now AS timestamptz),
        CASE WHEN row_number() OVER (ORDER BY started_at) <= CAST(:most_at_once AS int) THEN 'queued' ELSE 'held' END
    FROM execution
)
INSERT INTO execution_events (execution_id, seq, kind, payload)
SELECT execution.id, 1, CAST(:kind AS text), '{}' FROM execution
""")


def _values(identity: UUID, prepared: Prepared, by: Identity) -> dict[str, object]:
    asked, due, now = prepared.request, prepared.due, datetime.now(UTC)
    bounds = [chunk.range.model_dump(mode="json") for chunk in due]
    return {
        "id": identity,
        "pipeline_id": prepared.pipeline_id,
        "version": prepared.version,
        "range_start": prepared.span.start,
        "range_end": prepared.span.end,
        "chunk": asked.chunk,
        "most_at_once": asked.most_at_once,
        "priority": asked.priority,
        "parameters": jsonb_text(dict(asked.parameters)),
        "of": len(prepared.chunks),
        "by": by.user_id,
        "now": now,
        "ids": [uuid4() for _ in due],
        "names": [f"exec-{now:%Y%m%d%H%M%S}-{secrets.token_hex(5)}" for _ in due],
        "starts": [one["start"] for one in bounds],
        "ends": [one["end"] for one in bounds],
        "keys": [chunk.key for chunk in due],
        "execution_type": ExecutionType.TRIGGERED.value,
        "kind": EventKind.EXECUTION_QUEUED.value,
        "work": WorkKind.EXECUTION.value,
    }
