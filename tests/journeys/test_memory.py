"""Two million rows go from PostgreSQL to PostgreSQL in a worker that has no room for them all."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kit.database import Postgres

ROWS = 2_000_000
CAP_MIB = 224
WANTED = "SELECT id, price, upper(note) AS note, price * 1.2 AS gross FROM bookings WHERE id % 10 > 0"
FIGURES = "SELECT count(*), sum(id), sum(price), sum(gross), sum(hashtextextended(note, id)) FROM {}"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def bookings(postgres: Postgres) -> AsyncIterator[str]:
    """A database with two million rows of some 190 bytes; its name."""
    name = await postgres.create()
    async with postgres.connect(name) as connection:
        await connection.execute(f"""
            CREATE UNLOGGED TABLE bookings AS
            SELECT n::bigint AS id, (n % 10000)::numeric(10, 2) AS price, 'no. ' || n || repeat(' guest', 25) AS note
            FROM generate_series(1, {ROWS}) AS n
        """)
        await connection.execute("CREATE UNLOGGED TABLE facts (id bigint, price numeric, note text, gross numeric)")
    yield name
    await postgres.drop(name)


async def capped(postgres: Postgres, database: str, what: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """`tests.journeys.capped`, ended."""
    words = [sys.executable, "-m", "tests.journeys.capped", str(postgres.server.folder), database, str(CAP_MIB), what]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "ARROW_DEFAULT_MEMORY_POOL": "system"}
    return await asyncio.to_thread(
        subprocess.run, words, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300
    )


async def test_two_million_rows_are_filtered_and_derived_under_a_memory_cap(
    postgres: Postgres, bookings: str, tmp_path: Path
) -> None:
    done = await capped(postgres, bookings, "move", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"rows": ROWS * 9 // 10}
    async with postgres.connect(bookings) as connection:
        arrived = await connection.fetchrow(FIGURES.format("facts"))
        wanted = await connection.fetchrow(FIGURES.format(f"({WANTED}) AS wanted"))
    assert arrived == wanted


async def test_the_cap_does_not_let_all_rows_be_held_at_once(postgres: Postgres, bookings: str, tmp_path: Path) -> None:
    done = await capped(postgres, bookings, "hold", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
