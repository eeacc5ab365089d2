"""The sources and destinations that the definitions of these tests name."""

from uuid import UUID

import pytest

from models.destinations import DestinationType, WriteMode
from models.errors import Invalid
from models.fields import Json, JsonObject
from models.sources import SourceType
from runtime.batches.types import Column
from runtime.connectors.catalog import Catalog, DestinationEntry, SourceEntry
from runtime.pipelines.compile import compile_definition
from runtime.pipelines.definition import PipelineDefinition, parse_definition
from runtime.pipelines.plan import Plan

BOOKINGS = (
    Column("id", "BIGINT", False),
    Column("venue_id", "INT"),
    Column("couple", "VARCHAR"),
    Column("wedding_date", "DATE"),
    Column("price", "DECIMAL(10, 2)"),
    Column("venue", "JSON"),
    Column("updated_at", "TIMESTAMPTZ"),
)
VENUES = (Column("id", "INT", False), Column("name", "VARCHAR"), Column("capacity", "INT"))

DATABASE_ID = UUID("00000000-0000-0000-0000-000000000001")
WAREHOUSE_ID = UUID("00000000-0000-0000-0000-000000000011")

CATALOG = Catalog(
    sources=(
        SourceEntry(
            DATABASE_ID,
            "wedding-api-db",
            SourceType.DATABASE,
            "postgres",
            datasets={"public.bookings": BOOKINGS, "public.venues": VENUES},
            primary_keys={"public.bookings": ("id",), "public.venues": ("id", "name")},
        ),
        SourceEntry(UUID(int=2), "guest-files", SourceType.FILE, "csv", datasets={"guests.csv": VENUES}),
        SourceEntry(UUID(int=3), "new-db", SourceType.DATABASE, "postgres"),
        SourceEntry(UUID(int=4), "old-db", SourceType.DATABASE, "postgres", active=False),
        SourceEntry(UUID(int=5), "vendor-api", SourceType.API, "no-such-kind"),
    ),
    destinations=(
        DestinationEntry(
            WAREHOUSE_ID,
            "analytics-warehouse",
            DestinationType.WAREHOUSE,
            "parquet",
            datasets={"fact_bookings": BOOKINGS},
            primary_keys={"fact_bookings": ("booking_id",)},
        ),
        DestinationEntry(UUID(int=12), "old-warehouse", DestinationType.WAREHOUSE, "parquet", active=False),
        DestinationEntry(UUID(int=14), "store", DestinationType.DATABASE, "postgres"),
        DestinationEntry(UUID(int=13), "mirror", DestinationType.FILE, "parquet", write_mode=WriteMode.OVERWRITE),
    ),
)


def extract(name: str, dataset: str = "bookings", **more: Json) -> JsonObject:
    """An extract step of the database."""
    return {"name": name, "type": "extract", "config": {"source_id": "wedding-api-db", "dataset": dataset}, **more}


def transform(name: str, kind: str, config: JsonObject, *depends_on: str, **more: Json) -> JsonObject:
    """A transform step."""
    entry: JsonObject = {"type": kind, "config": config}
    return {"name": name, "type": "transform", "depends_on": list(depends_on), "config": entry, **more}


def load(name: str, *depends_on: str, **more: Json) -> JsonObject:
    """A load step that appends to the warehouse."""
    config: JsonObject = {"destination_id": "analytics-warehouse", "table_name": name, "write_mode": "append"}
    return {"name": name, "type": "load", "depends_on": list(depends_on), "config": config, **more}


def explicit(*steps: JsonObject, **more: Json) -> JsonObject:
    """A definition in the explicit form."""
    return {"pipeline_name": "bookings-etl", "pipeline_type": "etl", "steps": list(steps), **more}


def simple(*transformations: JsonObject, **more: Json) -> JsonObject:
    """A definition in the simple form, over the bookings table."""
    return {
        "pipeline_name": "bookings-etl",
        "pipeline_type": "etl",
        "source_config": {"source_id": "wedding-api-db", "dataset": "bookings"},
        "destination_config": {"destination_id": "analytics-warehouse", "table_name": "t", "write_mode": "append"},
        "transformation_config": {"transformations": list(transformations)},
        **more,
    }


def entry(kind: str, **config: Json) -> JsonObject:
    """One transformation of the simple form."""
    return {"type": kind, "config": config}


def definition(document: JsonObject) -> PipelineDefinition:
    """The definition that a document holds."""
    return parse_definition(document)


def compiled(document: JsonObject, catalog: Catalog = CATALOG) -> Plan:
    """The plan of a document."""
    return compile_definition(parse_definition(document), catalog)


def refused(document: JsonObject) -> Invalid:
    """The error with which a document is refused, when it is read or compiled."""
    with pytest.raises(Invalid) as caught:
        compiled(document)
    assert caught.value.hint or caught.value.path
    return caught.value
