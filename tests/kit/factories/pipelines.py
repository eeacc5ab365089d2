"""Pipelines for tests: a source and a destination that were discovered, definitions over them, and executions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from models.destinations import DataDestination, DestinationType
from models.events import EventKind, ExecutionEvent
from models.executions import ExecutionState, ExecutionType, PipelineExecution
from models.fields import Envelope, Json, JsonObject
from models.pipelines import DataPipeline
from models.sources import DataSource, SourceType
from models.work import WorkItem
from runtime.access.principal import Principal
from runtime.batches.types import Column, Columns
from runtime.connectors.discoveries import record_discovery
from runtime.database import Database
from runtime.pipelines import store
from runtime.queue.kinds import WorkKind
from tests.kit.identities import ENGINEER

NOTHING = Envelope(key_id="test", nonce="", ciphertext="")
BOOKINGS: Columns = (
    Column("id", "BIGINT", nullable=False),
    Column("venue", "STRUCT(name VARCHAR, city VARCHAR)"),
    Column("event_date", "DATE"),
    Column("price", "DECIMAL(10,2)"),
    Column("updated_at", "TIMESTAMP"),
)
FACTS: Columns = (
    Column("booking_id", "BIGINT", nullable=False),
    Column("venue_name", "VARCHAR"),
    Column("wedding_date", "DATE"),
)


async def places(database: Database) -> None:
    """The source `wedding-api-db` with `bookings`, and `analytics-warehouse` with `fact_bookings` by `booking_id`."""
    async with database.transaction(ENGINEER) as session:
        source = DataSource(
            source_name="wedding-api-db",
            source_type=SourceType.DATABASE,
            kind="postgres",
            connection_config=NOTHING,
        )
        destination = DataDestination(
            destination_name="analytics-warehouse",
            destination_type=DestinationType.FILE,
            kind="parquet",
            connection_config=NOTHING,
        )
        session.add_all([source, destination])
        await session.flush()
        await record_discovery(session, DataSource, source.id, {"bookings": BOOKINGS})
        keys = {"fact_bookings": ("booking_id",)}
        await record_discovery(session, DataDestination, destination.id, {"fact_bookings": FACTS}, keys)


def simple(name: str = "wedding-booking-etl", **changes: Json) -> JsonObject:
    """WS-269's own example of a pipeline, in the simple form."""
    return {
        "pipeline_name": name,
        "pipeline_type": "etl",
        "description": "Process wedding booking data",
        "source_config": {
            "source_id": "wedding-api-db",
            "query": "SELECT * FROM bookings WHERE updated_at > :last_run",
            "batch_size": 1000,
        },
        "destination_config": {
            "destination_id": "analytics-warehouse",
            "table_name": "fact_bookings",
            "write_mode": "upsert",
        },
        "transformation_config": {
            "transformations": [
                {
                    "type": "mapping",
                    "config": {
                        "mappings": {"booking_id": "id", "venue_name": "venue.name", "wedding_date": "event_date"}
                    },
                }
            ]
        },
        "schedule_config": {"type": "cron", "expression": "0 */4 * * *", "timezone": "UTC"},
        **changes,
    }


def explicit(name: str = "branches", *steps: JsonObject) -> JsonObject:
    """A pipeline in the explicit form: `read`, then `dear`, then `write`, and further steps."""
    listed: list[Json] = [
        {"name": "read", "type": "extract", "config": {"source_id": "wedding-api-db", "dataset": "bookings"}},
        {
            "name": "dear",
            "type": "transform",
            "depends_on": ["read"],
            "config": {"type": "filter", "config": {"condition": "price > 1000"}},
        },
        {
            "name": "write",
            "type": "load",
            "depends_on": ["dear"],
            "config": {"destination_id": "analytics-warehouse", "table_name": "dear_bookings"},
        },
        *steps,
    ]
    return {"pipeline_name": name, "pipeline_type": "etl", "steps": listed}


async def pipeline(database: Database, document: JsonObject | None = None, by: Principal = ENGINEER) -> DataPipeline:
    """A saved pipeline."""
    async with database.transaction(by) as session:
        return await store.create(session, document or simple(), by)


def execution(
    pipeline_id: UUID,
    state: ExecutionState = ExecutionState.COMPLETED,
    *,
    ago: timedelta = timedelta(hours=1),
    took: timedelta = timedelta(minutes=2),
    by: Principal = ENGINEER,
) -> PipelineExecution:
    """An execution accepted some time ago; not yet saved."""
    accepted = datetime.now(UTC) - ago
    identity = uuid4()
    return PipelineExecution(
        id=identity,
        pipeline_id=pipeline_id,
        execution_id=f"exec-{identity.hex[:12]}",
        execution_type=ExecutionType.MANUAL,
        started_at=accepted,
        completed_at=accepted + took if state.is_terminal else None,
        status=state.status,
        state=state,
        records_processed=100,
        data_quality_score=Decimal("97.5"),
        triggered_by=by.user_id,
        version=1,
    )


def dry(row: PipelineExecution) -> PipelineExecution:
    """The same as a dry run."""
    row.dry_run = True
    return row


async def saved(database: Database, *rows: PipelineExecution, by: Principal = ENGINEER) -> None:
    """Keep executions."""
    async with database.transaction(by) as session:
        session.add_all(rows)


async def submitted(database: Database, *rows: PipelineExecution, by: Principal = ENGINEER) -> None:
    """Keep executions, each with the work item that waits for a supervisor."""
    async with database.transaction(by) as session:
        session.add_all(rows)
        for row in rows:
            item = WorkItem(
                kind=WorkKind.EXECUTION, subject=row.id, pipeline_id=row.pipeline_id, requested_by=by.user_id
            )
            session.add(item)


async def told(
    database: Database, execution: PipelineExecution, kinds: Sequence[EventKind], by: Principal = ENGINEER
) -> None:
    """Write events of an execution in one transaction, as the runtime numbers them."""
    async with database.transaction(by) as session:
        row = await session.get(PipelineExecution, execution.id, with_for_update=True)
        assert row is not None
        for kind in kinds:
            row.last_event_seq += 1
            session.add(ExecutionEvent(execution_id=row.id, seq=row.last_event_seq, kind=kind, payload={"n": 1}))
            if kind in _ENDS:
                row.state = _ENDS[kind]
                row.status = row.state.status


_ENDS = {
    EventKind.EXECUTION_COMPLETED: ExecutionState.COMPLETED,
    EventKind.EXECUTION_FAILED: ExecutionState.FAILED,
    EventKind.EXECUTION_CANCELLED: ExecutionState.CANCELLED,
}
