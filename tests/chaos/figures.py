"""The figures of a chaos run: how long things took, beside what was wanted of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure under a fault: its value, and the value wanted."""

    fault: str
    what: str
    value: str
    wanted: str = ""

    def __str__(self) -> str:
        wanted = f" (wanted {self.wanted})" if self.wanted else ""
        return f"{self.fault}: {self.what} {self.value}{wanted}"


def spread(seconds: Sequence[float]) -> str:
    """The median, the 95th percentile, the most, and how many there are."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    p95 = quantiles(ordered, n=20, method="inclusive")[-1] if len(ordered) > 1 else ordered[0]
    return f"p50 {ordered[len(ordered) // 2]:.2f} s, p95 {p95:.2f} s, most {ordered[-1]:.2f} s of {len(ordered)}"
