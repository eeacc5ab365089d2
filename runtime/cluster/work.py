"""Does work that is not an execution: checks a connection, discovers schemas, previews a definition, restores."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID, uuid4

import pyarrow as pa

from models.base import StrictModel
from models.destinations import DataDestination
from models.errors import DomainError, Invalid, Terminal
from models.fields import Json, JsonObject
from models.sources import DataSource, HealthStatus
from runtime.access.principal import Principal
from runtime.access.sealing import Sealer
from runtime.batches.types import columns_of
from runtime.cluster.worker import Background
from runtime.connectors import discoveries
from runtime.connectors import store as places
from runtime.connectors._contract import (
    DESTINATIONS,
    SOURCES,
    Destination,
    Restorable,
    Source,
    TableVersion,
    Watchable,
    primary_key_of,
)
from runtime.connectors.configs import SOURCE, open_inline, placed
from runtime.connectors.opening import open_destination, open_source
from runtime.connectors.paces import Paces
from runtime.connectors.permits import Permits
from runtime.database import Database
from runtime.executions.assignments import revisions_of
from runtime.executions.preview import preview, sample_context
from runtime.executions.steps import Worker
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.definition import parse_definition
from runtime.pipelines.plan import Plan
from runtime.queue import store as queue
from runtime.queue.kinds import WorkKind
from runtime.queue.store import Claim
from runtime.schedules import watching

log = logging.getLogger(__name__)

RUNTIME = Principal.runtime()
PREVIEW_ROWS = 100
MOST_PREVIEW_ROWS = 1_000
MOST_TOLD = 100

Place: TypeAlias = Source[StrictModel] | Destination[StrictModel]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker process has at hand for other work."""

    worker: Worker
    database: Database
    background: Background
    sealer: Sealer
    permits: Permits = field(default_factory=Permits)
    paces: Paces = field(default_factory=Paces)

    def open(self, kind: str, config: StrictModel, *, is_source: bool) -> Place:
        """The source or destination of that configuration, allowed what the settings allow."""
        config = self.permits.applied(config)
        return SOURCES.get(kind)(config) if is_source else DESTINATIONS.get(kind)(config)


def perform(claim: Claim, tools: Tools) -> None:
    """Do one item and settle it, with its result or with its typed error."""
    result: Json = None
    failure: DomainError | None = None
    try:
        result = _HANDLERS[claim.kind](claim.payload, tools)
    except DomainError as error:
        failure = error
    except Exception:
        reference = uuid4().hex[:12]
        log.exception("work item %s failed unexpectedly, reference %s", claim.id, reference)
        failure = Terminal(f"unexpected failure, reference {reference}", hint="see the runtime's log", code="internal")
    tools.background.wait(_settle(claim, tools.database, result, failure))


async def _settle(claim: Claim, database: Database, result: Json, failure: DomainError | None) -> None:
    async with database.statements(RUNTIME) as session:
        await queue.settle(session, claim, result, failure)


def _check(payload: JsonObject, tools: Tools) -> Json:
    """Reach a saved or an unsaved source or destination; a saved one's health is recorded."""
    place = _opened(payload, tools)
    try:
        health = place.check()
    except DomainError as error:
        _record_health(payload, tools, HealthStatus.UNHEALTHY)
        raise _at_config(error, place) from None
    finally:
        place.close()
    _record_health(payload, tools, HealthStatus.HEALTHY if health.ok else HealthStatus.DEGRADED)
    return {
        "ok": health.ok,
        "message": health.message,
        "latency_ms": health.latency_ms,
        "version": health.version,
    }


def _at_config(error: DomainError, place: Place) -> DomainError:
    """The error whose path begins at the columns of the row, as those of a creation do."""
    error.path = None if error.path is None else placed(type(place), error.path)
    return error


def _opened(payload: JsonObject, tools: Tools) -> Place:
    if "id" not in payload:
        entity, kind, config = open_inline(tools.sealer, payload)
        return tools.open(kind, config, is_source=entity == SOURCE)
    identity, is_source = UUID(str(payload["id"])), payload.get("entity") == SOURCE
    return tools.background.wait(_open(identity, is_source, tools))


async def _open(identity: UUID, is_source: bool, tools: Tools) -> Place:
    async with tools.database.transaction(RUNTIME) as session:
        if is_source:
            source = await open_source(session, tools.sealer, identity)
            place = tools.open(source.kind, source.config, is_source=True)
            return tools.paces.set(place, identity) if isinstance(place, Source) else place
        destination = await open_destination(session, tools.sealer, identity)
        return tools.open(destination.kind, destination.config, is_source=False)


def _record_health(payload: JsonObject, tools: Tools, status: HealthStatus) -> None:
    if "id" in payload:
        tools.background.wait(_save_health(payload, tools, status))


async def _save_health(payload: JsonObject, tools: Tools, status: HealthStatus) -> None:
    identity, now = UUID(str(payload["id"])), datetime.now(UTC)
    async with tools.database.transaction(RUNTIME) as session:
        if payload.get("entity") == SOURCE:
            await places.record_health(session, DataSource, identity, status, now)
        else:
            await places.record_health(session, DataDestination, identity, status, now)


def _discover(payload: JsonObject, tools: Tools) -> Json:
    """Read the schema of each dataset and record what changed."""
    place = _opened(payload, tools)
    try:
        found = place.discover()
    except DomainError as error:
        raise _at_config(error, place) from None
    finally:
        place.close()
    tools.background.wait(_record(payload, tools, found))
    return {"datasets": [{"name": name, "columns": _told(schema)} for name, schema in sorted(found.items())]}


def _told(schema: pa.Schema) -> Json:
    return [{"name": c.name, "type": c.type, "nullable": c.nullable} for c in columns_of(schema)]


async def _record(payload: JsonObject, tools: Tools, found: Mapping[str, pa.Schema]) -> None:
    if "id" not in payload:
        return
    identity = UUID(str(payload["id"]))
    columns = {name: columns_of(schema) for name, schema in found.items()}
    keys = {name: primary_key_of(schema) for name, schema in found.items()}
    async with tools.database.transaction(RUNTIME) as session:
        if payload.get("entity") == SOURCE:
            await discoveries.record_discovery(session, DataSource, identity, columns, keys)
        else:
            await discoveries.record_discovery(session, DataDestination, identity, columns, keys)


def _versions(payload: JsonObject, tools: Tools) -> Json:
    """List the earlier versions that a destination keeps of a table."""
    with _restorable(payload, tools) as place:
        found = place.versions(str(payload["table"]))
    return {"versions": [_kept(version) for version in found]}


def _kept(version: TableVersion) -> Json:
    return {
        "version": version.version,
        "rows": version.rows,
        "replaced_at": version.replaced_at.isoformat(),
        "replaced_by": str(version.replaced_by),
        "expires_at": version.expires_at.isoformat(),
    }


def _restore(payload: JsonObject, tools: Tools) -> Json:
    """Put an earlier version in the place of a table; doing it twice is doing it once."""
    with _restorable(payload, tools) as place:
        rows = place.restore(str(payload["table"]), str(payload["version"]))
    return {"rows": rows}


@contextmanager
def _restorable(payload: JsonObject, tools: Tools) -> Iterator[Restorable]:
    place = _opened(payload, tools)
    try:
        if not isinstance(place, Restorable):
            hint = "restore what its operator backs up"
            raise Invalid(f"a {place.kind} destination keeps no earlier versions", hint=hint, path="id")
        yield place
    finally:
        place.close()


def _watch(payload: JsonObject, tools: Tools) -> Json:
    """Look what is new of that which a schedule waits for."""
    schedule = UUID(str(payload["schedule"]))
    watch = tools.background.wait(_wanted(schedule, tools))
    if watch is None:
        return {"changed": []}
    try:
        found = _looked(watch, tools)
    except DomainError as error:
        tools.background.wait(_failed(watch, error, tools))
        raise
    changed = tools.background.wait(_saw(watch, found, tools))
    return {"changed": list[Json](changed[:MOST_TOLD])}


def _looked(watch: watching.Watch, tools: Tools) -> Mapping[str, str]:
    place = tools.background.wait(_open(watch.source, True, tools))
    try:
        if not isinstance(place, Watchable):
            hint = "name a source of files or of streams"
            raise Invalid(f"nothing can be waited for in a {place.kind} source", hint=hint, path="expression")
        return place.marks(watch.subject, watching.MOST_FILES)
    finally:
        place.close()


async def _failed(watch: watching.Watch, error: DomainError, tools: Tools) -> None:
    async with tools.database.statements(RUNTIME) as session:
        await watching.failed(session, watch, error)


async def _wanted(schedule: UUID, tools: Tools) -> watching.Watch | None:
    async with tools.database.statements(RUNTIME) as session:
        return await watching.watch_of(session, schedule)


async def _saw(watch: watching.Watch, found: Mapping[str, str], tools: Tools) -> list[str]:
    async with tools.database.statements(RUNTIME) as session:
        return await watching.saw(session, watch, found)


def _preview(payload: JsonObject, tools: Tools) -> Json:
    """Compile a definition against what is known, and run each step on the first rows of its sources."""
    plan, revisions = tools.background.wait(_compiled(payload, tools))
    given = payload.get("parameters")
    parameters = {**plan.parameters, **(given if isinstance(given, dict) else {})}
    return preview(plan, sample_context(revisions, parameters, _rows(payload)), tools.worker)


async def _compiled(payload: JsonObject, tools: Tools) -> tuple[Plan, dict[UUID, str]]:
    definition = parse_definition(payload.get("definition"))
    async with tools.database.transaction(RUNTIME) as session:
        plan = compile_definition(definition, await discoveries.catalog(session))
        return plan, await revisions_of(session, plan)


def _rows(payload: JsonObject) -> int:
    limit = payload.get("limit", PREVIEW_ROWS)
    if not isinstance(limit, int) or not 1 <= limit <= MOST_PREVIEW_ROWS:
        raise Invalid(f"limit is 1 to {MOST_PREVIEW_ROWS} rows", path="limit")
    return limit


_HANDLERS: Mapping[WorkKind, Callable[[JsonObject, Tools], Json]] = {
    WorkKind.CHECK: _check,
    WorkKind.DISCOVER: _discover,
    WorkKind.PREVIEW: _preview,
    WorkKind.VERSIONS: _versions,
    WorkKind.RESTORE: _restore,
    WorkKind.WATCH: _watch,
}
