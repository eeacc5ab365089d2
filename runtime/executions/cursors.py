"""Where an incremental read begins and ends: half-open ranges, kept by the loads that publish what was read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from models.base import StrictModel
from models.errors import Invalid, Terminal
from models.fields import Json, JsonObject
from runtime.connectors._contract import CursorMove, CursorRange, ReadRequest, Source, cursor_moved
from runtime.executions.program import TaskRequest
from runtime.executions.state import ReadRange
from runtime.pipelines.plan import ExtractPlan

if TYPE_CHECKING:
    from runtime.executions.steps import Connections

EPOCH = "1970-01-01T00:00:00+00:00"
DRY_RUN_ROWS = 1_000
LARGEST = 2**63


def read_request(request: TaskRequest) -> ReadRequest:
    """What to ask the source for; every parameter of the query is bound, `:last_run` to the lower bound."""
    extract, context = _extract(request), request.context
    parameters: dict[str, Json] = dict(context.parameters)
    if extract.reads_last_run:
        lower = request.lower if request.range is None else request.range.lower
        parameters["last_run"] = lower or extract.cursor_initial or EPOCH
    cursor = None
    if extract.cursor_column is not None and request.range is not None:
        cursor = CursorRange(request.range.lower, request.range.upper, extract.cursor_column)
    limit = context.sample_rows or (DRY_RUN_ROWS if context.dry_run else None)
    return ReadRequest(
        dataset=extract.dataset,
        query=extract.query,
        filters=extract.filters,
        parameters=parameters,
        cursor=cursor,
        batch_rows=extract.batch_rows,
        limit=limit,
        partition_column=extract.partition_column,
    )


def kept_cursors(request: TaskRequest, connections: "Connections") -> dict[str, str | None]:
    """The cursor that each load downstream has in its destination; none are asked where the run covers a range."""
    kept: dict[str, str | None] = {}
    if request.context.covers is not None:
        return kept
    for owner in request.program.cursor_owners:
        identity = UUID(owner.load.destination)
        destination, _ = connections.destination(identity, request.context.revisions[identity], owner.load)
        try:
            kept[owner.step] = destination.cursor(request.context.pipeline_id, owner.step)
        finally:
            destination.close()
    return kept


def read_range(source: Source[StrictModel], request: TaskRequest, kept: Mapping[str, str | None]) -> ReadRange:
    """From where the last published run ended to the source's watermark less the lag, and never below where it began.

    Where several loads follow, from the earliest of the cursors that they have `kept`; from what the caller knows
    where one has none. A run that covers a range of its own, as a backfill's do, reads that one.
    """
    if request.context.covers is not None:
        return ReadRange(*request.context.covers)
    extract = _extract(request)
    ends = [_kept_value(text, request.program.extract_step) for text in kept.values()]
    known = [end for end in ends if end is not None]
    lower = request.lower or extract.cursor_initial
    if known and len(known) == len(ends):
        lower = min(known, key=_order)
    upper = source.watermark(read_request(replace(request, lower=lower)), extract.cursor_column)
    if extract.cursor_lag_seconds:
        upper = _earlier(upper, extract.cursor_lag_seconds)
    if lower is not None and _order(upper) < _order(lower):
        upper = lower
    return ReadRange(lower, upper, kept)


def ranges_read(request: TaskRequest) -> dict[str, ReadRange]:
    """The ranges that a task's rows come from, its own read's among them, as cursors are to follow them.

    None do where the run covers a range of its own: what follows it goes on from where live runs have come.
    """
    ranges = dict(request.ranges)
    if request.range is not None and request.program.extract_step and request.context.covers is None:
        ranges[request.program.extract_step] = request.range
    return ranges


def cursor_move(ranges: Mapping[str, ReadRange], load: str) -> CursorMove | None:
    """The move of the one cursor that a load keeps for all extracts upstream; none of them moves back.

    Raises `cursor_moved` when they began at different cursors of this load, so that it must have moved in between.
    """
    if not ranges:
        return None
    before = {read.kept.get(load) for read in ranges.values()}
    if len(before) > 1:
        raise cursor_moved(load)
    (text,) = before
    ends = {step: _later(_kept_value(text, step), read.upper) for step, read in ranges.items()}
    return CursorMove(orjson.dumps(ends, option=orjson.OPT_SORT_KEYS).decode(), text)


def cursor_document(value: str) -> JsonObject:
    """A cursor as the database keeps it: its value, and what tells the later of two, a number or a text."""
    _, rank = _order(value)
    if isinstance(rank, str):
        return {"value": value, "rank": rank}
    whole = int(rank)
    return {"value": value, "rank": whole if whole == rank and abs(whole) < LARGEST else float(rank)}


def _kept_value(text: str | None, extract: str | None) -> str | None:
    value = orjson.loads(text).get(extract) if text else None
    return None if value is None else str(value)


def _later(one: str | None, other: str) -> str:
    """The later of two cursors of one kind; the new one where the kind has changed."""
    if one is None or _order(one)[0] != _order(other)[0]:
        return other
    return max(one, other, key=_order)


def _extract(request: TaskRequest) -> ExtractPlan:
    if request.program.extract is None:
        raise Terminal(f"task {request.program.task} reads no source", hint="report this plan", code="bad_plan")
    return request.program.extract


def _earlier(upper: str, seconds: int) -> str:
    try:
        return (datetime.fromisoformat(upper) - timedelta(seconds=seconds)).isoformat()
    except ValueError:
        raise Invalid(
            f"lag_seconds needs a cursor column of dates or timestamps; this one ends at {upper!r}",
            hint="remove lag_seconds",
            path="incremental.lag_seconds",
        ) from None


def _order(value: str) -> tuple[int, Decimal | str]:
    """Numbers by value, everything else (ISO dates and timestamps) as text."""
    try:
        number = Decimal(value)
    except InvalidOperation:
        return 1, _instant(value)
    return (0, number) if number.is_finite() else (1, value)


def _instant(value: str) -> str:
    try:
        return f"{datetime.fromisoformat(value).timestamp():020.6f}"
    except ValueError:
        return value
