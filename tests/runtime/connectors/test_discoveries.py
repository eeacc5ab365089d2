"""Each discovery that finds something else makes a version, and the catalog shows the newest."""

from uuid import UUID, uuid4

import pytest

from models.destinations import DataDestination
from models.schemas import ChangeKind, ColumnDefinition, SchemaDefinition
from models.sources import DataSource
from runtime.batches.types import Column, Columns
from runtime.connectors.discoveries import (
    active_versions,
    catalog,
    columns,
    differences,
    record_discovery,
    versions_by_source,
)
from runtime.connectors.store import DestinationDraft, SourceDraft, archive, create_destination, create_source
from runtime.database import Database
from tests.kit.identities import ANALYST, ENGINEER, RUNTIME
from tests.kit.statements import recorded
from tests.runtime.connectors.test_configs import SEALER

VENUES: Columns = (Column("id", "BIGINT", False), Column("name", "VARCHAR"))
VENDORS: Columns = (Column("id", "BIGINT", False), Column("price", "DECIMAL(12, 2)"))


async def a_source(database: Database, name: str = "app") -> UUID:
    async with database.transaction(ENGINEER) as session:
        draft = SourceDraft(name=name, connection={"root": "/data"})
        return (await create_source(session, SEALER, ENGINEER, "csv", draft)).id


async def discovered(database: Database, source: UUID, **found: Columns) -> list[str]:
    async with database.transaction(RUNTIME) as session:
        made = await record_discovery(session, DataSource, source, found)
        return sorted(f"{version.dataset} {version.version_number}" for version in made)


async def test_a_version_is_made_of_what_is_new_or_changed(database: Database) -> None:
    source = await a_source(database)
    assert await discovered(database, source, venues=VENUES, vendors=VENDORS) == ["vendors 1", "venues 1"]
    assert await discovered(database, source, venues=VENUES, vendors=VENDORS) == []
    assert await discovered(database, source, venues=VENUES, vendors=VENDORS[:1]) == ["vendors 2"]


async def test_a_dataset_that_vanished_is_no_longer_shown_and_counts_on_when_it_returns(database: Database) -> None:
    source = await a_source(database)
    await discovered(database, source, venues=VENUES, vendors=VENDORS)
    await discovered(database, source, venues=VENUES)
    async with database.transaction(ANALYST) as session:
        assert [version.dataset for version in await active_versions(session, DataSource, [source])] == ["venues"]
        assert await columns(session, DataSource, source, "vendors") is None
    assert await discovered(database, source, venues=VENUES, vendors=VENDORS) == ["vendors 2"]


async def test_the_versions_of_many_sources_are_read_with_one_statement(database: Database) -> None:
    sources = [await a_source(database, f"source {number}") for number in range(3)]
    await discovered(database, sources[1], venues=VENUES)
    with recorded(database) as statements:
        async with database.transaction(ANALYST) as session:
            groups = await versions_by_source(session, sources)
    assert [[version.dataset for version in group] for group in groups] == [[], ["venues"], []]
    assert len(statements) == 1


async def test_the_catalog_shows_what_there_is_with_its_columns_and_keys(database: Database) -> None:
    source, gone = await a_source(database), await a_source(database, "gone")
    await discovered(database, source, venues=VENUES)
    async with database.transaction(ENGINEER) as session:
        draft = DestinationDraft(name="lake", connection={"root": "/lake"})
        destination = (await create_destination(session, SEALER, ENGINEER, "parquet", draft)).id
        await archive(session, DataSource, gone)
    async with database.transaction(RUNTIME) as session:
        await record_discovery(session, DataDestination, destination, {"fact": VENDORS}, {"fact": ("id",)})
    async with database.transaction(ANALYST) as session:
        whole = await catalog(session)
        some = await catalog(session, [str(destination), "app"])
        none = await catalog(session, ["nothing", str(uuid4())])
    assert [entry.name for entry in whole.sources] == ["app"]
    assert whole.sources[0].datasets == {"venues": VENUES}
    assert whole.destinations[0].primary_keys == {"fact": ("id",)}
    assert some == whole
    assert (none.sources, none.destinations) == ([], [])


@pytest.mark.parametrize(
    ("after", "kind", "breaking"),
    [
        (ColumnDefinition(name="a", type="BIGINT"), None, False),
        (ColumnDefinition(name="a", type="VARCHAR"), ChangeKind.TYPE_CHANGED, True),
        (ColumnDefinition(name="a", type="BIGINT", nullable=False), ChangeKind.NULLABILITY_CHANGED, False),
    ],
)
def test_what_happened_to_a_column_is_told(after: ColumnDefinition, kind: ChangeKind | None, breaking: bool) -> None:
    before = SchemaDefinition(columns=(ColumnDefinition(name="a", type="BIGINT"),))
    found = differences(before, SchemaDefinition(columns=(after,)))
    assert [(change.kind, change.breaking) for change in found] == ([(kind, breaking)] if kind else [])


def test_columns_that_came_and_went_are_told() -> None:
    before = SchemaDefinition(columns=(ColumnDefinition(name="old", type="BIGINT"),))
    after = SchemaDefinition(columns=(ColumnDefinition(name="new", type="DATE"),))
    assert [(change.kind, change.column, change.breaking) for change in differences(before, after)] == [
        (ChangeKind.COLUMN_REMOVED, "old", True),
        (ChangeKind.COLUMN_ADDED, "new", False),
    ]
