"""What goes wrong in a simulated world, and how often: drawn from the seed, so that each has troubles of its own."""

from dataclasses import dataclass
from random import Random

from tests.kit.simulation.loop import Process

MOST_STEPS = 400


@dataclass(frozen=True)
class Faults:
    """Chances of each fault until `healed` (seconds); after that nothing fails any more.

    `deaths` and `stops` are by kind of process the chance that one of it is killed, or stopped for a while, at some
    step of its life; messages are lost, repeated and delayed; `broken` is the chance that a task's work fails by
    itself, `hangs` that it does not end; `leaves` the chance
    that a dispatcher is stopped in good order.
    """

    healed: float
    deaths: dict[str, float]
    stops: dict[str, float]
    lost: float
    repeated: float
    slow: float
    broken: float
    hangs: float
    serialization: float
    unknown: float
    stalls: float
    crashes: int
    loss_reports: float
    leaves: float

    @classmethod
    def drawn(cls, chance: Random) -> "Faults":
        """The faults of one world: some kinds are left out altogether, so that others show by themselves."""

        def some(most: float) -> float:
            return chance.random() * most if chance.random() < 0.5 else 0.0

        return cls(
            healed=chance.uniform(6.0, 18.0),
            deaths={"dispatcher": some(0.4), "supervisor": some(0.6), "worker": some(0.3)},
            stops={"dispatcher": some(0.4), "supervisor": some(0.6), "worker": some(0.3)},
            lost=some(0.8),
            repeated=some(0.5),
            slow=some(0.5),
            broken=some(0.3),
            hangs=some(0.1),
            serialization=some(0.02),
            unknown=some(0.05),
            stalls=some(0.05),
            crashes=chance.choice((0, 0, 0, 1, 2)),
            loss_reports=some(0.1),
            leaves=some(0.5),
        )

    def befall(self, process: Process, kind: str, chance: Random) -> None:
        """Draw at which step of its life, if any, a new process is killed or stopped; few live long."""
        if chance.random() < self.deaths.get(kind, 0.0):
            process.dies_at = process.steps + _step(chance)
        if chance.random() < self.stops.get(kind, 0.0):
            process.stops_at = process.steps + _step(chance)
            process.stops_for = chance.choice((0.5, 3.0, 6.0, 12.0))


def _step(chance: Random) -> int:
    return 1 + int(MOST_STEPS ** chance.random())
