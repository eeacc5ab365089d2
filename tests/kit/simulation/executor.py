"""Where simulated tasks run: each phase in a worker of its own, which may fail, hang, be killed or be cut off."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from models.errors import Retryable, Terminal, Unavailable
from runtime.connectors._contract import Receipt, RunKey, Split
from runtime.executions.checkpoints import FOLDER, LOST_INPUT, Place, Shelf
from runtime.executions.executor import OnProgress, Ran, Refs, TaskResult, WorkerLost
from runtime.executions.program import Outcome, Phase, Progress, TaskRequest
from runtime.executions.state import StepReport, TaskReport
from tests.kit.simulation.destination import ROWS
from tests.kit.simulation.history import Ran as Begun
from tests.kit.simulation.loop import Process

if TYPE_CHECKING:
    from tests.kit.simulation.world import World

HANGS_SECONDS = 200.0


class SimulatedExecutor:
    """One supervisor's workers: they outlive a cancellation, and its process, by a moment, as Ray's do."""

    def __init__(self, world: "World", owner: Process) -> None:
        self.world = world
        self.owner = owner

    async def run(self, request: TaskRequest, inputs: Mapping[str, Refs], on_progress: OnProgress) -> Ran:
        """Raises the task's typed error, or `WorkerLost`."""
        world = self.world
        worker = world.process("worker")
        world.note(f"{self.owner.name} has {worker.name} do {request.program.task} ({request.phase.value})")
        execution, generation = request.context.execution_id, request.context.generation
        # A generation that was superseded may find what it needs removed, as the execution has ended, and make it anew.
        if world.server.tables["pipeline_executions"][execution]["generation"] == generation:
            world.ran.append(Begun(execution, request.program.task, generation))
        answer: asyncio.Future[Ran] = world.loop.create_future()
        worker.on_death.append(lambda: world.later(world.delay(), lambda: self.lost(answer)))
        self.owner.on_death.append(lambda: world.later(world.delay(), lambda: world.end(worker)))
        world.loop.spawn(worker, self._answered(request, inputs, answer))
        try:
            on_progress(Progress(ROWS, 0))
            return await answer
        except asyncio.CancelledError:
            world.later(world.delay(), lambda: world.end(worker))
            raise

    async def save(self, output: TaskResult, file: str) -> Place:
        """Write an output to the artifact store, after a while; raises OSError when it cannot be written."""
        world = self.world
        await world.loop.passes(world.chance.choice((0.0, 0.05, 1.5)) * world.chance.random())
        if world.is_troubled and world.chance.random() < world.faults.broken:
            raise OSError("no space left on device")
        place = world.artifacts[file] = Place(file, len(output.blocks), ROWS)
        return place

    def lost(self, answer: "asyncio.Future[Ran]") -> None:
        """Tell that a worker died."""
        if not answer.done():
            answer.set_exception(WorkerLost("the worker died"))

    async def _answered(self, request: TaskRequest, inputs: Mapping[str, Refs], answer: "asyncio.Future[Ran]") -> None:
        """Do the work in the worker, and send its outcome back."""
        try:
            ran = await self._work(request, inputs)
        except (Retryable, Terminal, Unavailable) as error:
            await self.world.loop.passes(self.world.delay())
            if not answer.done():
                answer.set_exception(error)
            return
        await self.world.loop.passes(self.world.delay())
        if not answer.done():
            answer.set_result(ran)

    async def _work(self, request: TaskRequest, inputs: Mapping[str, Refs]) -> Ran:
        if any(not refs for refs in inputs.values()):
            raise Terminal("an input delivered no block", code=LOST_INPUT)
        places = [block for refs in inputs.values() for block in refs if isinstance(block, Place)]
        if any(self.world.artifacts.get(place.file) != place for place in places):
            raise Retryable("a checkpoint is gone", code=LOST_INPUT)
        await self._toil(request)
        program, run = request.program, _run_key(request)
        match request.phase:
            case Phase.SPLIT:
                return Ran(Outcome(TaskReport(()), splits=tuple(Split(n) for n in range(program.partitions))))
            case Phase.PARTITION if program.load is not None and request.split is not None:
                return Ran(Outcome(_report(request), receipt=await self._land(run, request.split.index)))
            case Phase.COMMIT:
                await self._publish(run, request.receipts)
                return Ran(Outcome(_report(request)))
            case Phase.ABORT:
                self.world.destination.abort(run)
                return Ran(Outcome(TaskReport(())))
            case _:
                if program.load is not None:
                    await self._load(run)
                return Ran(Outcome(_report(request)), ("block",))

    async def _toil(self, request: TaskRequest) -> None:
        """Take the time that such work takes, and fail as it does."""
        world, chance = self.world, self.world.chance
        await world.loop.passes(chance.choice((0.01, 0.1, 0.5, 2.0)) * (0.5 + chance.random()))
        if request.phase is Phase.ABORT or not world.is_troubled:
            return
        if chance.random() < world.faults.hangs:
            await world.loop.passes(HANGS_SECONDS)
        if chance.random() < world.faults.broken:
            raise chance.choice((Retryable("try again"), Unavailable("away"), Retryable("later", retry_after=3.0)))

    async def _land(self, run: RunKey, partition: int) -> Receipt:
        world = self.world
        world.destination.open(run)
        await world.loop.passes(world.delay())
        return world.destination.land(run, partition, f"{partition}-{world.chance.getrandbits(32):08x}")

    async def _load(self, run: RunKey) -> None:
        if self.world.destination.known(run) is None:
            await self.world.loop.passes(self.world.delay())
            await self._publish(run, (Receipt(0, ROWS),))

    async def _publish(self, run: RunKey, receipts: tuple[Receipt, ...]) -> None:
        """Commit; now and then the answer is lost, whether it was done or not."""
        world = self.world
        is_unknown = world.is_troubled and world.chance.random() < world.faults.unknown
        if is_unknown and world.chance.random() < 0.5:
            raise Retryable("the connection was lost")
        world.destination.publish(run, receipts)
        world.note(f"{run.step} of {str(run.execution_id)[:8]} is published by generation {run.generation}")
        if is_unknown:
            raise Retryable("the connection was lost")


class SimulatedShelf(Shelf):
    """The checkpoints of one execution in the world's artifact store."""

    def __init__(self, world: "World", artifacts: Path, execution_id: UUID) -> None:
        super().__init__(artifacts, execution_id)
        self._stored = world.artifacts
        self._name = f"{FOLDER}/{execution_id}"

    def file(self, task: str, generation: int, attempt: int) -> str:
        """Where that attempt's output goes."""
        return f"{self._name}/{task}-{generation}-{attempt}"

    def whole(self, places: Sequence[Place]) -> bool:
        """Whether there is anything and all of it is there."""
        return bool(places) and all(self._stored.get(place.file) == place for place in places)

    def clear(self) -> None:
        """Remove all of it."""
        for file in [file for file in self._stored if file.startswith(f"{self._name}/")]:
            del self._stored[file]


def _run_key(request: TaskRequest) -> RunKey:
    context = request.context
    return RunKey(context.pipeline_id, context.execution_id, request.program.members[-1].name, context.generation)


def _report(request: TaskRequest) -> TaskReport:
    load = request.program.load_step
    steps = tuple(
        StepReport(member.name, ROWS, ROWS, inserted=ROWS if member.name == load else 0)
        for member in request.program.members
    )
    return TaskReport(steps)
