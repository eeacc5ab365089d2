"""What a connector is: a source that reads Arrow in partitions, a destination that commits it exactly once.

Connectors are synchronous and run in worker processes, never in the API. A connector is one module in this package
that registers its classes in `SOURCES` or `DESTINATIONS`; third parties use the entry-point groups
`wedsync.sources` and `wedsync.destinations`. Each passes the shared suite in `tests/kit/contracts`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final, Generic, TypeVar
from uuid import UUID

import pyarrow as pa

from models.base import StrictModel
from models.destinations import DestinationType, WriteMode
from models.errors import NotFound, Retryable, Terminal
from models.fields import Json
from models.sources import SourceType
from runtime.connectors._pace import Pace, Unpaced
from runtime.registry import Registry

PRIMARY_KEY: Final = b"primary_key"
"""The key of a discovered schema's metadata under which a connector tells a table's key columns, as a JSON list."""

CURSOR_MOVED: Final = "cursor_moved"
"""The code of the error that says so: the range was loaded by somebody else, and has to be read anew."""

C_co = TypeVar("C_co", bound=StrictModel, covariant=True)


def primary_key_of(schema: pa.Schema) -> tuple[str, ...]:
    """The key columns that a connector told with a schema; empty where it told none."""
    told = (schema.metadata or {}).get(PRIMARY_KEY)
    return tuple(json.loads(told)) if told else ()


def with_primary_key(schema: pa.Schema, keys: Sequence[str]) -> pa.Schema:
    """The schema that tells its key columns."""
    return schema.with_metadata({PRIMARY_KEY: json.dumps(list(keys)).encode()}) if keys else schema


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of `check`: what was reached and how long it took, in milliseconds."""

    ok: bool
    message: str
    latency_ms: float
    version: str | None = None


@dataclass(frozen=True, slots=True)
class CursorRange:
    """The half-open range `[lower, upper)` of an incremental read, both as text in the cursor column's type.

    `lower` is None on the first run. `column` is None when only `:last_run` inside the query uses the range.
    """

    lower: str | None
    upper: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read from a source.

    `dataset` names a table, an endpoint or a file pattern; `query` is SQL in the source's own dialect with `:name`
    parameters, which are bound and never pasted. `filters` maps a column to a value, a list of values, or a mapping
    of operator (`=`, `!=`, `<`, `<=`, `>`, `>=`, `in`) to value. `limit` caps the rows (previews, dry runs).
    """

    dataset: str | None = None
    query: str | None = None
    filters: Mapping[str, Json] = field(default_factory=dict)
    parameters: Mapping[str, Json] = field(default_factory=dict)
    cursor: CursorRange | None = None
    batch_rows: int = 65_536
    limit: int | None = None
    partition_column: str | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """One partition of a read, made by `Source.split`; opaque to everyone but its connector, and picklable."""

    index: int
    token: Json = None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that a source could not take: where it is (`guests.csv, line 17`), why, and how its text begins."""

    place: str
    reason: str
    text: str


@dataclass(slots=True)
class Rejections:
    """What a source set aside since it was opened: how many rows, and the first of them."""

    KEPT: ClassVar[int] = 1_000
    LONGEST: ClassVar[int] = 2_000

    count: int = 0
    rows: list[RejectedRow] = field(default_factory=list)

    def add(self, place: str, reason: str, text: str, *, keep: bool = True) -> None:
        """Count a row, and keep it while there is room."""
        self.count += 1
        if keep and len(self.rows) < self.KEPT:
            self.rows.append(RejectedRow(place, reason, text[: self.LONGEST]))


class Source(ABC, Generic[C_co]):
    """A place that rows come from, opened with its unsealed configuration; used by one thread, closed after use.

    One that is asked by requests has a field `rate_limit_config` in its `Config`, and sends each request within
    `self.pace.turn()`; whoever opens a saved source sets the pace that it shares with all who ask it.
    """

    kind: ClassVar[str]
    source_type: ClassVar[SourceType]
    Config: ClassVar[type[StrictModel]]
    incremental: ClassVar[bool] = False

    def __init__(self, config: C_co) -> None:
        self.config = config
        self.pace: Pace = Unpaced()
        self.rejections = Rejections()

    @abstractmethod
    def check(self) -> Health:
        """Reach the source; raises `Unavailable`, `Unauthenticated` or `Invalid` with the remedy when it cannot."""

    @abstractmethod
    def discover(self) -> dict[str, pa.Schema]:
        """The schema of each dataset by name; cheap enough to run at every save."""

    @abstractmethod
    def schema(self, request: ReadRequest) -> pa.Schema:
        """The schema that `read` will deliver for this request, without reading the rows."""

    def watermark(self, request: ReadRequest, cursor_column: str | None) -> str:
        """The upper end of the next incremental range, by the source's own clock or the column's greatest value."""
        raise Terminal(
            f"a {self.kind} source cannot be read incrementally",
            hint="remove `incremental` and `:last_run` from the extract step",
            code="incremental_unsupported",
        )

    def split(self, request: ReadRequest, count: int) -> list[Split]:
        """At most `count` disjoint parts that together are the whole read; one part where it cannot be divided."""
        return [Split(0)]

    @abstractmethod
    def read(self, request: ReadRequest, split: Split) -> pa.RecordBatchReader:
        """Stream the rows of one split in bounded memory; raises `Retryable` or `Terminal`."""

    def close(self) -> None:
        """Give back connections; safe to call twice."""


class Watchable(ABC):
    """What a source is too, where schedules can wait for something new in it."""

    @abstractmethod
    def marks(self, subject: str, most: int) -> Mapping[str, str]:
        """What a subject means now, each part with a text that is another once there is something new in it.

        Empty where it means nothing yet; raises `Invalid` for one that it cannot mean, and for more than `most` parts.
        """


@dataclass(frozen=True, slots=True)
class RunKey:
    """Which commit this is; a repeated commit of the same key has no second effect."""

    pipeline_id: UUID
    execution_id: UUID
    step: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how a load writes.

    `key_columns` are the upsert keys; `partition_by`, `partition`, `indexing` and `backup` carry WS-269's
    `partition_by`, `partition_config`, `indexing_config` and `backup_config`.
    """

    table: str
    write_mode: WriteMode
    key_columns: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    partition: Mapping[str, Json] = field(default_factory=dict)
    indexing: Mapping[str, Json] = field(default_factory=dict)
    backup: Mapping[str, Json] = field(default_factory=dict)
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What landed in staging for one partition, with its ledger row; picklable."""

    partition: int
    rows: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class CursorMove:
    """How a load moves the cursor that its destination keeps: to `after`, from the text that was kept when the read
    began (None where there was none). Both texts are opaque to the destination.
    """

    after: str
    before: str | None = None


def cursor_moved(step: str) -> Retryable:
    """What a commit raises when the kept cursor is no longer the one that its read began at."""
    return Retryable(
        f"another execution published rows for step {step} since this one began to read",
        hint="the step reads again from where that one ended; let executions overlap less if this is frequent",
        code=CURSOR_MOVED,
    )


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """True counts of rows, as the destination reports them."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class TableVersion:
    """An earlier version of a table that can be restored: its name, its rows, when it was replaced and by which
    execution, and until when it is kept.
    """

    version: str
    rows: int
    replaced_at: datetime
    replaced_by: UUID
    expires_at: datetime


class NoOptions(StrictModel):
    """A load that has nothing to choose."""


class Destination(ABC, Generic[C_co]):
    """A place that rows go to. Partitions land in staging; one final transaction publishes them all.

    Order of calls: `prepare`, then `write` once for each partition (in any process, in parallel), then `commit`, or
    `abort`. `load` does all of it for a single stream and may go straight into the target inside one transaction.
    Every call may be repeated after a crash: `write` of a partition that has landed replaces it, `commit` of a run
    that was published returns its recorded counts, `abort` of nothing is nothing.

    `Options` are what a load may choose beside its mode and keys; `has_indexes` says that `indexing_config` means
    something here.
    """

    kind: ClassVar[str]
    destination_type: ClassVar[DestinationType]
    Config: ClassVar[type[StrictModel]]
    Options: ClassVar[type[StrictModel]] = NoOptions
    write_modes: ClassVar[frozenset[WriteMode]] = frozenset(WriteMode)
    has_indexes: ClassVar[bool] = False

    def __init__(self, config: C_co) -> None:
        self.config = config

    @abstractmethod
    def check(self) -> Health:
        """Reach the destination; raises as `Source.check` does."""

    @abstractmethod
    def discover(self) -> dict[str, pa.Schema]:
        """The schema of each table that is there."""

    @abstractmethod
    def fit(self, target: Target, schema: pa.Schema) -> None:
        """Raise `Terminal` naming each column that the target cannot take (missing, type, nullability, keys)."""

    @abstractmethod
    def prepare(self, target: Target, schema: pa.Schema, run: RunKey) -> None:
        """Make the staging place of this run; includes `fit`."""

    @abstractmethod
    def write(self, target: Target, run: RunKey, partition: int, rows: pa.RecordBatchReader) -> Receipt:
        """Land one partition in staging."""

    @abstractmethod
    def commit(self, target: Target, run: RunKey, receipts: Sequence[Receipt], cursor: CursorMove | None) -> LoadCounts:
        """Publish all partitions, the ledger rows and the cursor in one transaction.

        Raises `cursor_moved` and publishes nothing when the kept cursor is not `cursor.before`, compared under a lock
        that is held until the transaction ends; so executions that overlap never load the same range twice.
        """

    @abstractmethod
    def abort(self, target: Target, run: RunKey) -> None:
        """Remove what this run left in staging; the target stays as it was before."""

    def load(self, target: Target, run: RunKey, rows: pa.RecordBatchReader, cursor: CursorMove | None) -> LoadCounts:
        """Prepare, write and commit one stream; leaves nothing behind when it fails."""
        self.prepare(target, rows.schema, run)
        try:
            receipt = self.write(target, run, 0, rows)
            return self.commit(target, run, [receipt], cursor)
        except BaseException:
            self.abort(target, run)
            raise

    def cursor(self, pipeline_id: UUID, step: str) -> str | None:
        """The cursor that the last published run of this pipeline's step left here, or None if it keeps none."""
        return None

    def close(self) -> None:
        """Give back connections; safe to call twice."""


class Restorable(ABC):
    """What a destination is too, where it keeps earlier versions of its tables as `backup_config` says."""

    @abstractmethod
    def versions(self, table: str) -> list[TableVersion]:
        """The earlier versions of a table that are kept, newest first."""

    @abstractmethod
    def restore(self, table: str, version: str) -> int:
        """Put an earlier version in the place of the table; answers its rows. Raises `NotFound`.

        The ledger and the cursors go on, so that nothing that was loaded before is loaded again.
        """


def no_version(table: str, version: str) -> NotFound:
    """What `restore` raises for a version that is not there, or not any more."""
    return NotFound(
        f"the table {table} has no earlier version {version!r}",
        hint="list its versions; they are kept where backup_config says so, for its retention",
        path="version",
    )


SOURCES: Registry[type[Source[StrictModel]]] = Registry("source", "runtime.connectors", "wedsync.sources")
DESTINATIONS: Registry[type[Destination[StrictModel]]] = Registry(
    "destination", "runtime.connectors", "wedsync.destinations"
)
