"""Looks through many seeds for those whose worlds are judged, with as many processes as are given."""

import gc
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from tests.kit.simulation.bugs import BUGS
from tests.kit.simulation.history import History, judged
from tests.kit.simulation.witness import history_of
from tests.kit.simulation.world import Parts, Quiet, World

CHUNK = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A seed whose world went wrong, and how."""

    seed: int
    sentences: tuple[str, ...]


def verdict(seed: int, bug: str | None = None) -> Found | None:
    """Run one seed's world; None when nothing is wrong with it."""
    sentences = judged(lived(seed, bug)[0], restores=True)
    return Found(seed, tuple(sentences)) if sentences else None


def lived(seed: int, bug: str | None = None, *, telling: bool = False) -> tuple[History, Sequence[tuple[float, str]]]:
    """The history of a seed's world, and its notes, if they are wanted: seconds and what happened."""
    world = World(seed, Parts() if bug is None else BUGS[bug], telling=telling)
    try:
        with Quiet():
            world.run()
        return history_of(world), tuple(world.notes or ())
    finally:
        world.loop.close()


def first_found(bug: str, seeds: int) -> Found | None:
    """The first of so many seeds that betrays a bug."""
    return next((found for seed in range(seeds) if (found := verdict(seed, bug)) is not None), None)


def found_among(seeds: range, jobs: int) -> Generator[tuple[int, list[Found]]]:
    """How many seeds were looked through so far, and what a further lot of them showed."""
    if jobs == 1:
        yield from ((len(lot), _found_in(lot)) for lot in _lots(seeds))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_found_in, lot): len(lot) for lot in _lots(seeds)}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _lots(seeds: range) -> Iterator[range]:
    return (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))


def _found_in(seeds: range) -> list[Found]:
    found = [one for seed in seeds if (one := verdict(seed)) is not None]
    gc.collect()
    return found
