"""What a table of files records about itself beside its files: columns, rows, and the commits that made it."""

from datetime import datetime
from uuid import UUID

import pyarrow as pa
from pydantic import Field

from models.base import StrictModel
from models.fields import parse
from runtime.batches.types import Column, columns_of, schema_of
from runtime.connectors._contract import LoadCounts, RunKey
from runtime.connectors._json_values import exact_loads

MANIFEST = "_wedsync.json"
COMMITS_KEPT = 1_000


class TableColumn(StrictModel):
    """A column, its type as DuckDB names it."""

    name: str
    type: str
    nullable: bool = True


class Commit(StrictModel):
    """One load that was published: its key, its true counts, and when."""

    pipeline_id: UUID
    execution_id: UUID
    step: str
    inserted: int
    updated: int
    deleted: int
    failed: int = 0
    committed_at: datetime

    @property
    def counts(self) -> LoadCounts:
        """What the load did."""
        return LoadCounts(self.inserted, self.updated, self.deleted, self.failed)


class KeptCursor(StrictModel):
    """Where the last published run of a pipeline's step ended."""

    pipeline_id: UUID
    step: str
    cursor: str
    committed_at: datetime


class Manifest(StrictModel):
    """One version of a table: its columns in order, its hive columns, its rows, and the ledger up to it."""

    version: int = Field(ge=1)
    columns: tuple[TableColumn, ...]
    partition_by: tuple[str, ...] = ()
    rows: int = 0
    commits: tuple[Commit, ...] = ()
    cursors: tuple[KeptCursor, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow types them."""
        return schema_of(tuple(Column(one.name, one.type, one.nullable) for one in self.columns))

    def commit_of(self, run: RunKey) -> Commit | None:
        """The commit of this execution's step, by whichever generation of its supervisor."""
        return next((c for c in self.commits if c.execution_id == run.execution_id and c.step == run.step), None)

    def cursor_of(self, pipeline_id: UUID, step: str) -> KeptCursor | None:
        """Where this pipeline's step ended last."""
        return next((c for c in self.cursors if c.pipeline_id == pipeline_id and c.step == step), None)

    def ledger(self, commit: Commit, cursor: str | None) -> tuple[tuple[Commit, ...], tuple[KeptCursor, ...]]:
        """The commits and cursors once this commit is published too."""
        if cursor is None:
            return (*self.commits, commit)[-COMMITS_KEPT:], self.cursors
        kept = KeptCursor(
            pipeline_id=commit.pipeline_id, step=commit.step, cursor=cursor, committed_at=commit.committed_at
        )
        others = tuple(c for c in self.cursors if (c.pipeline_id, c.step) != (commit.pipeline_id, commit.step))
        return (*self.commits, commit)[-COMMITS_KEPT:], (*others, kept)


def table_columns(schema: pa.Schema) -> tuple[TableColumn, ...]:
    """The columns that a table of this schema has."""
    return tuple(TableColumn(name=c.name, type=c.type, nullable=c.nullable) for c in columns_of(schema))


def read_manifest(content: bytes) -> Manifest:
    """The manifest from its JSON; raises `Invalid` where it is damaged."""
    return parse(Manifest, exact_loads(content), MANIFEST)
