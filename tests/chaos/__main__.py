"""The chaos suite in its long form: `python -m tests.chaos --long`, or some scenarios of it by name."""

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.chaos import cluster, destination, disk, greed, killing, scheduling, servers, stopping
from tests.chaos.disks import go_apart
from tests.chaos.killing import Scenario, Size
from tests.chaos.world import World, world

LEASE_SECONDS: Final = 15.0

SCENARIOS: Final[Mapping[str, tuple[Scenario, Size, Size]]] = {
    "workers": (killing.workers, Size(30, 4, (0.5, 2.0), 15), Size(200, 4, (1.0, 4.0), 100)),
    "supervisors": (killing.supervisors, Size(10, 3, (3.0, 6.0), 4), Size(60, 3, (3.0, 6.0), 100)),
    "scheduler": (scheduling.scheduler, Size(500, 50, (4.0, 8.0), 2), Size(10_000, 500, (4.0, 8.0), 20)),
    "zombies": (stopping.zombies, Size(2, 1, (0.0, 0.0), 2), Size(10, 1, (0.0, 0.0), 10)),
    "sleepers": (stopping.sleepers, Size(12, 3, (0.0, 0.0), 2), Size(60, 4, (0.0, 0.0), 20)),
    "postgres": (servers.postgres, Size(10, 3, (2.0, 5.0), 3), Size(150, 4, (5.0, 40.0), 30)),
    "valkey": (servers.valkey, Size(6, 3, (1.0, 3.0), 0), Size(10, 3, (5.0, 30.0), 6)),
    "api": (servers.api, Size(5, 10, (3.0, 6.0), 2), Size(5, 10, (3.0, 6.0), 10)),
    "half_open": (servers.half_open, Size(30, 3, (0.5, 1.0), 1), Size(200, 4, (1.0, 10.0), 10)),
    "destination": (destination.destination, Size(10, 3, (1.0, 3.0), 0), Size(100, 4, (1.0, 3.0), 60)),
    "memory": (greed.memory, Size(20, 3, (1.0, 1.0), 0), Size(100, 3, (1.0, 1.0), 0)),
    "dispatcher": (cluster.dispatcher, Size(8, 4, (2.0, 4.0), 1), Size(30, 4, (2.0, 4.0), 1)),
    "runtime": (cluster.runtime, Size(8, 4, (2.0, 4.0), 1), Size(30, 4, (2.0, 4.0), 1)),
    "raylet": (cluster.raylet, Size(8, 4, (2.0, 4.0), 1), Size(30, 4, (2.0, 4.0), 1)),
    "head": (cluster.head, Size(8, 4, (2.0, 4.0), 1), Size(30, 4, (2.0, 4.0), 1)),
    "node": (cluster.node, Size(20, 4, (2.0, 4.0), 1), Size(60, 4, (10.0, 20.0), 8)),
    "disk": (disk.disk, Size(6, 3, (1.0, 1.0), 1), Size(20, 3, (5.0, 10.0), 4)),
}
"""Each in its short and its long form."""

APART: Final[Mapping[str, Mapping[str, int]]] = {"node": {"nodes": 3}, "disk": {"disk_mb": 2_048}}
"""What needs a world of its own, and of what kind."""


async def play(names: list[str], *, long: bool, logs: Path | None) -> bool:
    """Play scenarios one after the other, in one world where they can; whether all went well."""
    together = [name for name in names if name not in APART]
    is_well = True
    for some, kind in [(together, {}), *(([name], APART[name]) for name in names if name in APART)]:
        if some:
            async with world(LEASE_SECONDS, **kind) as made:
                for name in some:
                    is_well &= await _played(made, name, long=long)
                if logs is not None:
                    await _keep(made, logs)
    return is_well


async def _played(made: World, name: str, *, long: bool) -> bool:
    """Play a scenario and print its figures; whether it went well."""
    scenario, short, whole = SCENARIOS[name]
    began, is_well = time.monotonic(), True
    try:
        for figure in await scenario(made, whole if long else short):
            print(figure, flush=True)
    except Exception as error:
        is_well = False
        print(f"{name}: {type(error).__name__}: {error}", flush=True)
    print(f"{name}: took {time.monotonic() - began:.0f} s", flush=True)
    return is_well


async def _keep(made: World, logs: Path) -> None:
    """Copy the logs of a world."""
    for ray in (made.stack.home.path / "ray", made.cluster.folder):
        for folder in (made.stack.home.logs, ray / "session_latest" / "logs"):
            if folder.exists():
                await asyncio.to_thread(shutil.copytree, folder, logs, dirs_exist_ok=True)


def main() -> int:
    """Play what is asked for; 1 when something was lost, doubled or never ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="all of them unless some are named")
    parser.add_argument("--long", action="store_true", help="as often as the published figures ask for")
    parser.add_argument("--logs", type=Path, help="a folder to keep the logs of the world in")
    given = parser.parse_args()
    names = given.scenarios or [*SCENARIOS]
    if any("disk_mb" in APART.get(name, {}) for name in names):
        go_apart()
    return 0 if asyncio.run(play(names, long=given.long, logs=given.logs)) else 1


if __name__ == "__main__":
    sys.exit(main())
