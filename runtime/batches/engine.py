"""DuckDB over Arrow, locked down: no files, no network, no extensions, capped memory and threads."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeAlias

import duckdb
import pyarrow as pa

from models.errors import DomainError, RunError, Terminal
from runtime.batches.prepared import Preparations, Prepared, Rows

Input: TypeAlias = pa.Table | pa.RecordBatchReader

_LOCKDOWN = """
SET python_enable_replacements = false;
SET autoinstall_known_extensions = false;
SET autoload_known_extensions = false;
SET enable_external_access = false;
SET TimeZone = 'UTC';
SET lock_configuration = true;
"""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What one engine may use: threads, memory in MB, spill space in MB in `spill_folder`."""

    threads: int = 2
    memory_mb: int = 1024
    spill_mb: int = 20_000
    spill_folder: Path | None = None


class Engine:
    """One locked-down DuckDB database; queries see only the inputs they are given."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_mb}MB",
            "max_temp_directory_size": f"{limits.spill_mb}MB",
        }
        if limits.spill_folder is not None:
            limits.spill_folder.mkdir(parents=True, exist_ok=True)
            config["temp_directory"] = str(limits.spill_folder)
        self._database = duckdb.connect(config=config)
        self._database.execute(_LOCKDOWN)
        self._preparations = Preparations(self._database)
        self._running: set[Prepared] = set()

    def interrupt(self) -> None:
        """Make the queries that run now end with an error; from any thread."""
        for query in tuple(self._running):
            query.interrupt()

    def close(self) -> None:
        """Give back memory and spill files."""
        self._preparations.close()
        self._database.close()

    @contextmanager
    def stream(
        self, sql: str, inputs: Mapping[str, Input], *, batch_rows: int = 122_880
    ) -> Iterator[pa.RecordBatchReader]:
        """The result of a query over the named inputs, in batches of at most `batch_rows` rows.

        A typed error raised while an input is read comes out as it was; what DuckDB itself refuses comes out as
        `Terminal` with the code `overflow`, `bad_value`, `bad_sql`, `memory_limit` or `engine`.
        """
        raised, ended = list[Exception](), list[bool]()
        rows = {name: _scans(data, raised) for name, data in inputs.items()}
        with _translated(raised):
            key, query = self._preparations.take(sql, {name: data.schema for name, data in inputs.items()})
            self._running.add(query)
            try:
                yield _checked(query.run(rows, batch_rows), raised, ended)
            finally:
                self._running.discard(query)
                if ended:
                    self._preparations.give_back(key, query)
                else:
                    query.close()

    def table(self, sql: str, inputs: Mapping[str, Input]) -> pa.Table:
        """The whole result of a query, for results known to be small."""
        with self.stream(sql, inputs) as reader:
            return reader.read_all()


def _scans(data: Input, raised: list[Exception]) -> Rows:
    """What a query scans: a table as often as it likes, a stream once. The error that breaks a scan is kept, since
    DuckDB would turn it into text.
    """
    scans = count()

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            if next(scans) and isinstance(data, pa.RecordBatchReader):
                raise Terminal("a stream was read twice by one query", hint="report this plan", code="bad_plan")
            yield from data.to_reader() if isinstance(data, pa.Table) else data
        except Exception as error:
            raised.append(error)
            raise

    return lambda: pa.RecordBatchReader.from_batches(data.schema, batches())


def _checked(reader: pa.RecordBatchReader, raised: list[Exception], ended: list[bool]) -> pa.RecordBatchReader:
    """The same stream, whose errors are ours: whoever reads it (a driver, say) may turn them into text again.

    `ended` gets an item once it was read to its end.
    """

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
            ended.append(True)
        except Exception as error:
            # DuckDB's Arrow stream tells of whatever breaks it as an OSError; an input's own is remembered.
            failure = _terminal(error, str(error)) if not raised and type(error) is OSError else _typed(error, raised)
            raised.append(failure)
            raise failure from error

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _translated(raised: list[Exception]) -> Iterator[None]:
    try:
        yield
    except RunError:
        raise
    except (duckdb.Error, pa.ArrowException, DomainError, OSError) as error:
        raise _typed(error, raised) from error


def _typed(error: Exception, raised: list[Exception]) -> Exception:
    """The typed error behind what a reader raised: the first one remembered, or DuckDB's own in our terms."""
    first = next((one for one in raised if isinstance(one, DomainError)), None)
    if first is not None:
        return first
    return _terminal(error, str(error)) if isinstance(error, duckdb.Error | pa.ArrowException) else error


_CODES: tuple[tuple[str, str, str], ...] = (
    ("out of range", "overflow", "cast the column to a wider type, or filter the value out"),
    ("overflow", "overflow", "cast the column to a wider type, or filter the value out"),
    ("conversion error", "bad_value", "use TRY_CAST, or a cast step with `on_error: null`"),
    ("could not convert", "bad_value", "use TRY_CAST, or a cast step with `on_error: null`"),
    ("could not parse", "bad_value", "use try_strptime, or a cast step with `on_error: null`"),
    ("out of memory", "memory_limit", "give the step more memory, or aggregate fewer rows at once"),
    (
        "malformed json",
        "bad_value",
        "the column holds text that is no JSON: take it whole, or filter such rows out before",
    ),
    ("no function matches", "bad_sql", "cast the values to types that the function or operator takes"),
    ("binder error", "bad_sql", "check the column names against the step's input schema"),
    ("catalog error", "bad_sql", "check the names of tables and functions"),
    ("parser error", "bad_sql", "check the step's SQL"),
)


def _terminal(error: Exception, text: str) -> Terminal:
    lowered, told = text.lower(), _told(text)
    for mark, code, hint in _CODES:
        if mark in lowered:
            return Terminal(told, hint=hint, code=code)
    return Terminal(told, hint="see the step's SQL with `wedsync plan`", code="engine")


def _told(text: str) -> str:
    """DuckDB's message in one line: without the list of functions there are, and with the SQL it points at."""
    said, _, line = text.partition("\n\nLINE ")
    said = " ".join(said.partition("\n\tCandidate functions")[0].split())
    place = line.partition(": ")[2].partition("\n")[0].strip()
    return f"{said}, at: {place}" if place else said
