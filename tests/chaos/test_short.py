"""The chaos suite in its short form; `python -m tests.chaos` plays the long one and prints its figures."""

from tests.chaos import killing
from tests.chaos.figures import Figure
from tests.chaos.killing import Size
from tests.chaos.world import World


def told(figures: list[Figure]) -> None:
    """Print the figures: on a machine that does other things they prove nothing."""
    for figure in figures:
        print(figure)


async def test_workers_that_are_killed_lose_nothing_and_double_nothing(shaken: World) -> None:
    told(await killing.workers(shaken, Size(runs=8, at_once=4, pauses=(0.5, 2.0), kills=6)))


async def test_supervisors_that_are_killed_lose_nothing_and_double_nothing(shaken: World) -> None:
    told(await killing.supervisors(shaken, Size(runs=8, at_once=4, pauses=(0.5, 2.0), kills=6)))
