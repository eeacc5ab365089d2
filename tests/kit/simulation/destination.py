"""A destination with the ledger's real rules: a run is published once, and never by an older generation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from models.errors import Terminal
from runtime.connectors._contract import LoadCounts, Receipt, RunKey
from tests.kit.simulation.history import Commit

ROWS = 10


@dataclass
class Run:
    """What the ledger knows of a run: who has it, and whether it is open, published or aborted."""

    generation: int
    state: str
    counts: LoadCounts = field(default_factory=LoadCounts)


class SimulatedDestination:
    """Each method is one transaction; `published` is what readers of the destination see."""

    def __init__(self) -> None:
        self.published: list[Commit] = []
        self._ledger: dict[tuple[UUID, str], Run] = {}
        self._staged: dict[str, tuple[UUID, str]] = {}

    def known(self, run: RunKey) -> LoadCounts | None:
        """The counts of a run that was published; raises `Terminal` when a younger generation has it."""
        found = self._ledger.get((run.execution_id, run.step))
        if found is None:
            return None
        _refuse_superseded(found, run)
        return found.counts if found.state == "published" else None

    def open(self, run: RunKey) -> None:
        """Record that a run writes."""
        found = self._ledger.setdefault((run.execution_id, run.step), Run(run.generation, "open"))
        if found.state != "published" and found.generation <= run.generation:
            found.state = "open"
        found.generation = max(found.generation, run.generation)
        _refuse_superseded(found, run)

    def land(self, run: RunKey, partition: int, tag: str) -> Receipt:
        """Land a part in a staging table of its own, which a tag names."""
        found = self._ledger.get((run.execution_id, run.step))
        if found is not None:
            _refuse_superseded(found, run)
        if found is None or found.state == "aborted":
            raise Terminal("the load is not open", hint="run the step again", code="superseded")
        self._staged[tag] = (run.execution_id, run.step)
        return Receipt(partition, ROWS, tag)

    def publish(self, run: RunKey, receipts: Sequence[Receipt]) -> LoadCounts:
        """Publish parts, unless the run was published before; raises `Terminal` when staging is gone."""
        known = self.known(run)
        if known is not None:
            return known
        if any(receipt.token and receipt.token not in self._staged for receipt in receipts):
            raise Terminal("a part's staging is gone", hint="run the step again", code="missing_table")
        counts = self._make_visible(run, receipts)
        self._ledger[run.execution_id, run.step] = Run(run.generation, "published", counts)
        self._clear(run)
        return counts

    def abort(self, run: RunKey) -> None:
        """Remove a run's staging, unless a younger generation has it."""
        found = self._ledger.get((run.execution_id, run.step))
        if found is not None and found.generation > run.generation:
            return
        if found is not None and found.state == "open":
            self._ledger[run.execution_id, run.step] = Run(run.generation, "aborted")
        self._clear(run)

    def _make_visible(self, run: RunKey, receipts: Sequence[Receipt]) -> LoadCounts:
        parts = {receipt.partition for receipt in receipts}
        self.published += [Commit(run.execution_id, run.step, part, run.generation) for part in sorted(parts)]
        return LoadCounts(inserted=ROWS * len(parts))

    def _clear(self, run: RunKey) -> None:
        place = (run.execution_id, run.step)
        self._staged = {tag: one for tag, one in self._staged.items() if one != place}


class Ungoverned(SimulatedDestination):
    """A destination that keeps no ledger: whatever comes is published."""

    def known(self, run: RunKey) -> LoadCounts | None:
        """It does not remember."""
        return None


def _refuse_superseded(found: Run, run: RunKey) -> None:
    if found.generation > run.generation:
        raise Terminal(
            f"generation {run.generation} of step {run.step} was taken over by generation {found.generation}",
            hint="nothing to do: the younger one goes on",
            code="superseded",
        )
