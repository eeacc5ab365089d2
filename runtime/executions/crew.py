"""The tasks of one execution that run now or are being stopped, and the outputs of those that are done."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from models.errors import Cancelled
from runtime.executions.executor import Executor, Refs, TaskResult, WorkerLost, clear, run_program
from runtime.executions.program import Progress, TaskRequest

STOP_SECONDS = 1.0
PARALLEL_PARTITIONS = 2

OnDone = Callable[[str, int, TaskResult | BaseException], None]
OnProgress = Callable[[str, Progress], None]


class Crew:
    """Starts and stops tasks through an executor. `on_done` hears of every task that was not told to stop."""

    def __init__(self, executor: Executor, on_done: OnDone, on_progress: OnProgress) -> None:
        self._executor = executor
        self._on_done = on_done
        self._on_progress = on_progress
        self._outputs: dict[str, Refs] = {}
        self._left: dict[str, TaskRequest] = {}
        self._running: dict[str, asyncio.Task[TaskResult]] = {}
        self._stopping: set[asyncio.Task[TaskResult] | asyncio.Task[None]] = set()

    def start(self, request: TaskRequest, attempt: int) -> None:
        """Begin a task on the outputs of those it reads."""
        name = request.program.task
        inputs = {source: self._outputs[source] for source in request.program.inputs}
        task = asyncio.create_task(self._run(name, request, inputs), name=name)
        self._running[name] = task
        task.add_done_callback(lambda done: self._arrived(request, attempt, done))

    def stop(self, name: str) -> None:
        """Make a running task stop; nothing more is heard of it."""
        task = self._running.pop(name)
        self._stopping.add(task)
        task.cancel()

    @property
    def held(self) -> set[str]:
        """The tasks whose outputs are at hand."""
        return set(self._outputs)

    def restore(self, name: str, blocks: Refs) -> None:
        """Have the output of a task that did not run here, or in place of one that was lost."""
        self._outputs[name] = blocks

    def drop(self, name: str) -> Refs:
        """Let go of an output that was lost; answers what it was."""
        return self._outputs.pop(name, ())

    def keep(self, needed: Iterable[str]) -> None:
        """Let go of all outputs but these."""
        wanted = set(needed)
        self._outputs = {name: refs for name, refs in self._outputs.items() if name in wanted}

    async def abandon(self) -> None:
        """Stop whatever still runs, and give it a moment to clear its staging, and that of workers that were lost."""
        for name in list(self._running):
            self.stop(name)
        while self._left:
            name, request = self._left.popitem()
            task = asyncio.create_task(clear(self._executor, request), name=name)
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=STOP_SECONDS)

    async def cleared(self) -> None:
        """Wait until all that was stopped has cleared its staging, which an ending does not wait for."""
        if self._stopping:
            await asyncio.wait(self._stopping)

    async def _run(self, name: str, request: TaskRequest, inputs: Mapping[str, Refs]) -> TaskResult:
        """Run a task, once an attempt that was stopped has cleared the staging that both use."""
        stopped = [task for task in self._stopping if task.get_name() == name]
        if stopped:
            await asyncio.wait(stopped)
        on_progress = partial(self._on_progress, name)
        return await run_program(self._executor, request, inputs, on_progress, parallel=PARALLEL_PARTITIONS)

    def _arrived(self, request: TaskRequest, attempt: int, done: "asyncio.Task[TaskResult]") -> None:
        name = request.program.task
        error = Cancelled("the task was cancelled") if done.cancelled() else done.exception()
        if self._running.get(name) is not done:
            self._stopping.discard(done)
            return
        del self._running[name]
        if isinstance(error, WorkerLost):
            self._left[name] = request
        if error is None:
            self._left.pop(name, None)
            self._outputs[name] = done.result().blocks
        self._on_done(name, attempt, done.result() if error is None else error)
