"""The chaos suite in its short form; `python -m tests.chaos --long` plays the long one.

Each scenario judges what became of its runs. Its figures are printed, not asserted: CI's machines do other things, too.
"""

from typing import Final

import pytest

from tests.chaos import cluster, destination, killing, scheduling, servers, stopping
from tests.chaos.conftest import LEASE_SECONDS
from tests.chaos.killing import Scenario, Size
from tests.chaos.world import World, world

SHORT: Final = (
    (killing.workers, Size(runs=6, at_once=3, pauses=(0.5, 2.0), kills=3)),
    (killing.supervisors, Size(runs=6, at_once=3, pauses=(1.0, 3.0), kills=2)),
    (scheduling.scheduler, Size(runs=200, at_once=40, pauses=(4.0, 5.0), kills=2)),
    (stopping.zombies, Size(runs=1, at_once=1, pauses=(0.0, 0.0), kills=1)),
    (servers.postgres, Size(runs=5, at_once=3, pauses=(1.0, 3.0), kills=2)),
    (servers.api, Size(runs=3, at_once=4, pauses=(1.0, 2.0), kills=1)),
    (servers.valkey, Size(runs=3, at_once=3, pauses=(0.3, 1.0), kills=0)),
    (destination.destination, Size(runs=5, at_once=3, pauses=(0.5, 2.0), kills=0)),
)


@pytest.mark.parametrize(("scenario", "size"), SHORT, ids=[scenario.__name__ for scenario, _ in SHORT])
async def test_nothing_is_lost_and_nothing_is_doubled(shaken: World, scenario: Scenario, size: Size) -> None:
    for figure in await scenario(shaken, size):
        print(figure)


async def test_what_ran_on_a_node_that_dies_goes_on_elsewhere() -> None:
    async with world(LEASE_SECONDS, nodes=3) as made:
        for figure in await cluster.node(made, Size(runs=8, at_once=4, pauses=(1.0, 2.0), kills=1)):
            print(figure)
