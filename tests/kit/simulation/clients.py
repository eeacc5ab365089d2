"""People of a simulated world: they have pipelines executed, and change their minds."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from models.errors import DomainError
from models.events import EventKind
from tests.kit.simulation.loop import Process
from tests.kit.simulation.pipelines import PLANS
from tests.kit.simulation.queueing import withdraw
from tests.kit.simulation.statements import ENDED
from tests.kit.simulation.store import Row, Transaction
from tests.kit.simulation.submissions import VERSION, accept, tell

if TYPE_CHECKING:
    from tests.kit.simulation.world import World

Work: TypeAlias = Callable[[Transaction], Awaitable[None]]

MOST_EXECUTIONS = 3
MOST_OF_LIMITED = 3
PIPELINES = {UUID(int=100 + place): plan for place, plan in enumerate(PLANS)}
_VERSIONS: dict[object, Row] = {
    (pipeline, VERSION): {"fingerprint": plan.fingerprint, "plan": plan.model_dump(mode="json")}
    for pipeline, plan in PIPELINES.items()
}


class Clients:
    """They submit and cancel as `runtime.executions.submission` does, of which this is what reaches the rows."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.process = Process("client")
        self.plans = PIPELINES
        self.waiting = 0
        world.server.tables["pipeline_versions"].update(_VERSIONS)

    @property
    def are_done(self) -> bool:
        """Whether nobody wants anything any more."""
        return self.waiting == 0

    def start(self) -> None:
        """Let them come."""
        more = MOST_OF_LIMITED if self.world.schedulers.limits.max_active else 0
        for _ in range(self.world.chance.randint(1, MOST_EXECUTIONS) + more):
            self.waiting += 1
            self.world.loop.spawn(self.process, self._visit())

    async def _visit(self) -> None:
        world, chance = self.world, self.world.chance
        pipeline = chance.choice(list(self.plans))
        identity = UUID(int=chance.getrandbits(128))
        try:
            await world.loop.passes(chance.uniform(0.0, 4.0))
            await self._write(lambda transaction: self._submit(transaction, identity, pipeline))
            world.send("wedsync:work")
            if chance.random() < 0.3:
                await world.loop.passes(chance.uniform(0.0, 6.0))
                await self._write(lambda transaction: self._cancel(transaction, identity))
                world.send(f"wedsync:control:{identity}")
        finally:
            self.waiting -= 1

    async def _write(self, work: Work) -> None:
        """One transaction; whoever is not answered does not know whether it was done, and lets it be."""
        server = self.world.server
        try:
            transaction = await server.begin(self.process, lasting=True)
        except (DomainError, RuntimeError):
            return
        try:
            await work(transaction)
            await server.commit(transaction)
        except (DomainError, RuntimeError):
            return
        finally:
            server.end(transaction)

    async def _submit(self, transaction: Transaction, identity: UUID, pipeline: UUID) -> None:
        accept(transaction, identity, pipeline, UUID(int=identity.int ^ 1))
        self.world.note(f"{str(identity)[:8]} of {self.plans[pipeline].pipeline_name} is submitted")

    async def _cancel(self, transaction: Transaction, identity: UUID) -> None:
        state = await cancel(transaction, identity)
        self.world.note(f"{str(identity)[:8]} is to be cancelled: it is {state}")


async def cancel(transaction: Transaction, identity: UUID) -> str:
    """What `submission.request_cancel` writes; answers the state."""
    found = await transaction.lock("pipeline_executions", identity)
    if not found or found["state"] in ENDED or found["cancel_requested_at"] is not None:
        return str(found.get("state"))
    changed = {**found, "cancel_requested_at": transaction.now, "last_event_seq": found["last_event_seq"] + 1}
    if found["state"] == "queued" and await withdraw(transaction, {"subject": identity}):
        changed |= {"state": "cancelled", "status": "cancelled", "completed_at": transaction.now}
        tell(transaction, identity, changed["last_event_seq"], EventKind.EXECUTION_CANCELLED)
    else:
        changed["state"] = "cancelling"
        tell(transaction, identity, changed["last_event_seq"], EventKind.EXECUTION_CANCELLING)
    transaction.write("pipeline_executions", identity, changed)
    return str(changed["state"])
