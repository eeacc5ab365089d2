"""Measures work with pytest-benchmark, and tells the headline: what `--benchmark-json` holds of it."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from pytest_benchmark.fixture import BenchmarkFixture


def seconds(
    benchmark: BenchmarkFixture,
    work: Callable[[], object],
    *,
    rounds: int = 1,
    warm_up: int = 0,
    before: Callable[[], None] | None = None,
) -> list[float]:
    """The seconds of each round of work; `before` runs ahead of each and is not counted."""
    benchmark.pedantic(work, setup=before, rounds=rounds, warmup_rounds=warm_up)  # type: ignore[no-untyped-call]
    assert benchmark.stats is not None
    return [float(one) for one in benchmark.stats.stats.data]


@dataclass(frozen=True, slots=True)
class Headline:
    """`value` in `unit`, compared with `against`, which was measured in the same run or published; wanted: `target`."""

    value: float | str
    unit: str
    against: str
    target: str

    def on(self, benchmark: BenchmarkFixture, **more: float | str) -> None:
        """Put it into a benchmark's `extra_info`, with further figures."""
        benchmark.extra_info.update(asdict(self) | more)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which that percentage of the values lies, between neighbours by their distance."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
