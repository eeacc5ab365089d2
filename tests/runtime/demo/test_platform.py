"""The platform as a whole: prepared on a real server, served, and described to its sources."""

from pathlib import Path

import asyncpg
import httpx

from runtime.demo.definitions import demo_sources
from runtime.demo.platform import DemoPlatform
from tests.runtime.demo.conftest import SMALL


async def test_a_prepared_platform_has_all_it_says(scratch: str, tmp_path: Path) -> None:
    platform = await DemoPlatform.prepare(tmp_path, scratch, SMALL)
    connection = await asyncpg.connect(scratch)
    try:
        assert await connection.fetchval("SELECT count(*) FROM bookings") == platform.rows["bookings"]
    finally:
        await connection.close()
    assert len(list((tmp_path / "guest-files").glob("guests-*.csv"))) > 6
    async with platform.serve() as url, httpx.AsyncClient(base_url=url) as client:
        headers = {"X-API-Key": platform.vendor_api.key}
        page = (await client.get("/v1/vendors", params={"limit": 1}, headers=headers)).json()
        places = str([entry.document for entry in demo_sources(platform.connections(url, "postgresql://warehouse"))])
        assert url in places
    assert page["total"] == platform.rows["vendors"]
    assert scratch in places
    assert str(tmp_path) in places
    assert sum(platform.rows.values()) == platform.world.rows
