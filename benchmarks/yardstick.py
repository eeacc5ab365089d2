"""How fast bare Ray is on this machine, now: what the figures that wait for Ray are judged by.

Run as a program it starts a small cluster of its own, measures, and prints one JSON object.
"""

import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import time
from typing import Any, Final

import pytest
from pydantic import BaseModel

DIAMOND_MS: Final = 8.0
WIDE_SECONDS: Final = 0.13
"""What the same took where the targets were set (`DESIGN.md`'s measured facts)."""

ROUNDS: Final = 100
WIDE: Final = 200
LIMIT_SECONDS: Final = 120.0


class Yardstick(BaseModel):
    """Milliseconds of a diamond of four empty tasks under a warm actor, and seconds of 200 empty tasks at once."""

    diamond_ms: float
    wide_s: float

    def diamonds(self, milliseconds: float) -> str:
        """A time in diamonds, and what it would be where one takes as long as the targets suppose."""
        share = milliseconds / self.diamond_ms
        scaled = f"at {DIAMOND_MS:g} ms: {share * DIAMOND_MS:.0f}"
        return f"bare Ray's diamond {self.diamond_ms:.1f} ms: {share:.1f} x; {scaled}"

    def wides(self, seconds: float) -> str:
        """The same by 200 tasks at once."""
        share = seconds / self.wide_s
        scaled = f"at {WIDE_SECONDS:g} s: {share * WIDE_SECONDS:.2f}"
        return f"bare Ray's {WIDE} tasks {self.wide_s:.2f} s: {share:.1f} x; {scaled}"


@pytest.fixture(scope="session")
def yardstick() -> Yardstick:
    """Measured in a process of its own, before the program starts."""
    command = [sys.executable, "-m", "benchmarks.yardstick"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    return Yardstick.model_validate_json(answer.stdout.splitlines()[-1])


def _bare() -> Yardstick:
    """Start Ray, and let a warm actor run empty tasks, as a supervisor runs steps."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray  # noqa: PLC0415 -- its settings are read when it is imported

    ray.init(num_cpus=4, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)

    def nothing(*inputs: object) -> None:
        return None

    task: Any = ray.remote(num_cpus=1, max_retries=0)(nothing)

    class Supervisor:
        async def diamond(self) -> float:
            began = time.perf_counter()
            top = task.remote()
            await top
            sides = [task.remote(top), task.remote(top)]
            await asyncio.gather(*sides)
            await task.remote(*sides)
            return (time.perf_counter() - began) * 1000

        async def wide(self) -> float:
            began = time.perf_counter()
            await asyncio.gather(*(task.remote() for _ in range(WIDE)))
            return time.perf_counter() - began

    supervisor: Any = ray.remote(num_cpus=0)(Supervisor).remote()
    ray.get([supervisor.diamond.remote() for _ in range(ROUNDS)])
    diamonds = [ray.get(supervisor.diamond.remote()) for _ in range(ROUNDS)]
    ray.get(supervisor.wide.remote())
    wides = [ray.get(supervisor.wide.remote()) for _ in range(5)]
    ray.shutdown()
    return Yardstick(diamond_ms=statistics.median(diamonds), wide_s=statistics.median(wides))


if __name__ == "__main__":
    print(json.dumps(_bare().model_dump()))
