"""Where an incremental read begins and ends: half-open ranges, kept by the loads that publish what was read."""

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from uuid import UUID

import orjson

from models.base import StrictModel
from models.errors import Invalid, Terminal
from models.fields import Json
from runtime.connectors._contract import CursorRange, ReadRequest, Source
from runtime.executions.program import TaskRequest
from runtime.pipelines.plan import ExtractPlan

if TYPE_CHECKING:
    from runtime.executions.steps import Connections

EPOCH = "1970-01-01T00:00:00+00:00"
DRY_RUN_ROWS = 1_000


def read_request(request: TaskRequest) -> ReadRequest:
    """What to ask the source for; every parameter of the query is bound, `:last_run` to the lower bound."""
    extract, context = _extract(request), request.context
    parameters: dict[str, Json] = dict(context.parameters)
    if extract.reads_last_run:
        parameters["last_run"] = request.lower or extract.cursor_initial or EPOCH
    cursor = None
    if extract.cursor_column is not None and request.upper is not None:
        cursor = CursorRange(request.lower, request.upper, extract.cursor_column)
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


def lower_bound(request: TaskRequest, connections: "Connections") -> str | None:
    """Where the last published run ended: what the loads' destinations recorded, else what the caller knows."""
    extract, step = _extract(request), request.program.extract_step
    kept: list[str] = []
    for owner in request.program.cursor_owners:
        identity = UUID(owner.load.destination)
        revision = request.context.revisions[identity]
        destination, _ = connections.destination(identity, revision, owner.load)
        try:
            text = destination.cursor(request.context.pipeline_id, owner.step)
        finally:
            destination.close()
        value = orjson.loads(text).get(step) if text else None
        if value is None:
            return request.lower or extract.cursor_initial
        kept.append(str(value))
    return min(kept, key=_order) if kept else request.lower or extract.cursor_initial


def upper_bound(source: Source[StrictModel], request: TaskRequest, lower: str | None) -> str:
    """The source's watermark less the lag, and never below `lower`."""
    extract = _extract(request)
    upper = source.watermark(read_request(request), extract.cursor_column)
    if extract.cursor_lag_seconds:
        upper = _earlier(upper, extract.cursor_lag_seconds)
    return upper if lower is None or _order(upper) >= _order(lower) else lower


def cursor_text(cursors: dict[str, str]) -> str | None:
    """The cursors of several extracts as the one text that a destination keeps."""
    return orjson.dumps(cursors, option=orjson.OPT_SORT_KEYS).decode() if cursors else None


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
        return 0, Decimal(value)
    except InvalidOperation:
        return 1, _instant(value)


def _instant(value: str) -> str:
    try:
        return f"{datetime.fromisoformat(value).timestamp():020.6f}"
    except ValueError:
        return value
