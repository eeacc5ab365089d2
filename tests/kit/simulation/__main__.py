"""Replays a seed, or looks through many: `python -m tests.kit.simulation 42`, or `--seeds 1000000 --jobs 2`."""

import argparse
import os
import sys
from time import monotonic

from tests.kit.simulation.bugs import BUGS
from tests.kit.simulation.history import judged
from tests.kit.simulation.search import found_among, lived


def replay(seed: int, bug: str | None) -> int:
    """Print what happened in a seed's world and what is wrong with it; 1 when something is."""
    history, notes = lived(seed, bug, telling=True)
    for at, text in notes:
        sys.stdout.write(f"{at:9.3f} s  {text}\n")
    sys.stdout.write("\n")
    for told in sorted(history.events, key=lambda one: (str(one.execution), one.seq)):
        attempt = "" if told.attempt is None else f", attempt {told.attempt}"
        sys.stdout.write(f"{str(told.execution)[:8]} {told.seq:4} {told.kind} {told.step or ''}{attempt}\n")
    wrong = judged(history, restores=True)
    sys.stdout.write("".join(f"WRONG: {sentence}\n" for sentence in wrong) or "nothing is wrong\n")
    return 1 if wrong else 0


def look_through(first: int, count: int, jobs: int, seconds: float) -> int:
    """Run many seeds, for so many seconds at most, and print those that went wrong; 1 when there are any."""
    began, looked, bad = monotonic(), 0, 0
    lots = found_among(range(first, first + count), jobs)
    for number, found in lots:
        looked += number
        bad += len(found)
        for one in found:
            sys.stdout.write(f"seed {one.seed}: {'; '.join(one.sentences)}\n")
        sys.stdout.flush()
        if monotonic() - began > seconds:
            lots.close()
            break
    rate = looked / (monotonic() - began)
    sys.stdout.write(f"{looked:,} seeds, {rate:.0f} a second with {jobs} processes, {bad} went wrong\n")
    return 1 if bad else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kit.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="replay this seed")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with this bug in it")
    parser.add_argument("--seeds", type=int, default=2_000, help="look through so many")
    parser.add_argument("--first", type=int, default=0, help="beginning at this one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="with so many processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for no longer than this")
    given = parser.parse_args()
    if given.seed is not None:
        return replay(given.seed, given.bug)
    return look_through(given.first, given.seeds, given.jobs, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
