"""How late does a schedule fire, when 10,000 of them are due over a minute?"""

import time
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.headline import Headline, percentile, seconds
from benchmarks.server import Server
from benchmarks.sizes import Sized
from runtime.embedded.stack import METADATA

SCHEDULES: Final = 10_000
MINUTE: Final = 60
WAIT_SECONDS: Final = 120.0
POLL_SECONDS: Final = 5.0

_PIPELINES: Final = """
    INSERT INTO data_pipelines (pipeline_name, pipeline_type, source_config, destination_config, version)
    SELECT format('tick-%s', n), 'etl', '{{}}', '{{}}', 1 FROM generate_series(1, {schedules}) n
"""
_SCHEDULES: Final = """
    WITH at AS (SELECT date_trunc('second', now()) + interval '15 seconds' AS first)
    INSERT INTO schedules (pipeline_id, config, next_fire_at, due_at)
    SELECT id, '{"type": "cron", "expression": "0 0 1 1 *"}', moment, moment
    FROM (
        SELECT pipeline.id, at.first + (row_number() OVER () * interval '1 minute' / count(*) OVER ()) AS moment
        FROM data_pipelines AS pipeline CROSS JOIN at WHERE pipeline_name LIKE 'tick-%'
    ) AS spread
"""
_LAGS: Final = """
    SELECT extract(epoch FROM item.created_at - fire.fire_time)::float8 AS lag
    FROM schedule_fires AS fire JOIN work_items AS item ON item.subject = fire.execution_id
    WHERE fire.outcome = 'submitted'
"""
# Only when they are submitted is asked: none of the executions is to take the machine's time.
_HOLD: Final = """
    CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.run_after := now() + interval '1 day'; RETURN NEW; END $$;
    CREATE TRIGGER hold_back BEFORE INSERT ON work_items FOR EACH ROW EXECUTE FUNCTION hold_back();
"""


@pytest.fixture(scope="session")
def schedules(server: Server, sized: Sized) -> int:
    """So many schedules, due one after the other over a minute that begins soon."""
    wanted = sized(SCHEDULES)
    server.sql(METADATA, _HOLD, _PIPELINES.format(schedules=wanted), _SCHEDULES, "ANALYZE schedules")
    return wanted


def test_fire_lag(server: Server, schedules: int, benchmark: BenchmarkFixture) -> None:
    found: list[float] = []

    def wait() -> None:
        end = time.monotonic() + WAIT_SECONDS
        while len(found) < schedules and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            found[:] = [row["lag"] for row in server.sql(METADATA, _LAGS)]

    seconds(benchmark, wait)
    assert len(found) == schedules
    p50, p99 = (percentile(found, percent) for percent in (50, 99))
    Headline(
        value=f"{p50:.2f} / {p99:.2f}",
        unit="s from the moment to the submission, p50 / p99",
        against=f"{schedules:,} schedules due over {MINUTE} s, each fired once",
        target="p99 <= 1 s",
    ).on(benchmark, most=max(found))
