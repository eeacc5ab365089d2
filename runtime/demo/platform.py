"""The demo wedding platform put together: generated, loaded, written and served."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from runtime.demo.app_database import AppDatabase
from runtime.demo.blueprint import Blueprint
from runtime.demo.definitions import Connections
from runtime.demo.guest_files import write_guest_files
from runtime.demo.pages import vendor_pages
from runtime.demo.vendor_api import VendorApi
from runtime.demo.vendor_server import serve_vendor_api
from runtime.demo.world import World, make_world

GUEST_FOLDER = "guest-files"


@dataclass(frozen=True, slots=True)
class DemoPlatform:
    """A platform whose database and files are filled; its vendor API is there while `serve` lasts."""

    world: World
    app_database: AppDatabase
    guest_folder: Path
    vendor_api: VendorApi

    @classmethod
    async def prepare(cls, home: Path, postgres_uri: str, blueprint: Blueprint | None = None) -> "DemoPlatform":
        """Make the world, fill the app's database (libpq URI, its tables are made anew) and `home/guest-files`.

        Raises `Unavailable` when the database cannot be filled. About 3 s at scale 1, on threads.
        """
        world = await asyncio.to_thread(make_world, blueprint or Blueprint())
        platform = cls(world, AppDatabase(postgres_uri), home / GUEST_FOLDER, VendorApi(vendor_pages(world)))
        await asyncio.gather(
            asyncio.to_thread(platform.app_database.load, world),
            asyncio.to_thread(write_guest_files, platform.guest_folder, world.guests),
        )
        return platform

    def serve(self, port: int = 0) -> AbstractAsyncContextManager[str]:
        """Serve the vendor API on loopback; gives its base URL."""
        return serve_vendor_api(self.vendor_api, port)

    def connections(self, vendor_api_url: str, warehouse_uri: str) -> Connections:
        """What the demo's sources and destinations are configured with."""
        key = self.vendor_api.key
        return Connections(self.app_database.uri, warehouse_uri, vendor_api_url, self.guest_folder, key)

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows each dataset delivers."""
        return {dataset.name: dataset.rows for dataset in self.world.datasets}
