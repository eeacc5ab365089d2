"""Copies a PostgreSQL table with dlt's defaults, filtered and with a derived column; prints the seconds it took.

Run by `bench_load.py` as `python copy_with_dlt.py SOURCE_URL TARGET_URL TABLE CONDITION DERIVED_SQL FOLDER`.
"""

import sys
import time

import dlt  # type: ignore[import-not-found]
import sqlalchemy as sa
from dlt.sources.sql_database import sql_table  # type: ignore[import-not-found]

WARM_UP = "id <= 100"


def load(loading: "dlt.Pipeline", source: str, name: str, condition: str, derived: str) -> float:
    """Load the rows that meet the condition; seconds."""

    def narrowed(_: sa.Select[tuple[object, ...]], table: sa.Table) -> sa.Select[tuple[object, ...]]:
        return sa.select(table, sa.literal_column(derived).label("gross")).where(sa.text(condition))

    rows = sql_table(credentials=source, table=name, query_adapter_callback=narrowed)
    began = time.perf_counter()
    loading.run(rows, write_disposition="append").raise_on_failed_jobs()
    return time.perf_counter() - began


def main(source: str, target: str, name: str, condition: str, derived: str, folder: str) -> None:
    """Load a few rows, so that dlt's own tables are there; then the others, which is what counts."""
    destination = dlt.destinations.postgres(target)
    loading = dlt.pipeline("bench", destination=destination, dataset_name="dlt", pipelines_dir=folder)
    load(loading, source, name, f"{condition} AND {WARM_UP}", derived)
    print(load(loading, source, name, f"{condition} AND NOT ({WARM_UP})", derived))


if __name__ == "__main__":
    main(*sys.argv[1:])
