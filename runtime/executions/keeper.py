"""Decides which outputs of finished tasks are written as checkpoints, and when, and has that done beside the work.

A task's completion is told together with its checkpoint, in one transaction of the journal, so that what is told to be
finished does not run again. The journal first gathers for a tenth of a second: an execution that completes within that
has told nothing yet, and writes no file. What takes longer than `SAVE_SECONDS` to write is told without, and its
checkpoint follows. An execution that fails or is cancelled writes what is missing before it ends, for a retry.

Loads have no output: their checkpoint is their report, and the destination's ledger is what keeps them from loading
twice. A dry run keeps nothing. A disk that is full costs checkpoints, never the execution.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from models.executions import ExecutionState, Keeping
from runtime.executions.checkpoints import Kept, Place, Shelf
from runtime.executions.executor import Executor, TaskResult
from runtime.pipelines.plan import Plan

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 3.0
LAST_SECONDS: Final = {ExecutionState.COMPLETED: 300.0, ExecutionState.FAILED: 60.0, ExecutionState.CANCELLED: 0.5}

Save: TypeAlias = Callable[[TaskResult, str], Awaitable[Place]]
"""Writes the output of a task to a file of the artifact store; raises whatever is in the way."""


class SavingExecutor(Executor, Protocol):
    """An executor that writes outputs of what it ran."""

    async def save(self, output: TaskResult, file: str) -> Place:
        """As `Save` says."""


@dataclass(frozen=True, slots=True)
class Keeps:
    """What a plan wants kept: which tasks have an output that another reads, and which leave only a report."""

    keeping: Keeping
    outputs: frozenset[str]
    reports: frozenset[str]

    @classmethod
    def of(cls, plan: Plan, *, dry_run: bool) -> "Keeps":
        """The whole of it, unless the plan keeps nothing: then only the reports of loads; of a dry run nothing."""
        if dry_run:
            return cls(plan.checkpoints, frozenset(), frozenset())
        loads = frozenset(task.name for task in plan.tasks if plan.members(task)[-1].load is not None)
        if plan.checkpoints is Keeping.NEVER:
            return cls(plan.checkpoints, frozenset(), loads)
        outputs = frozenset(source for task in plan.tasks for source in task.inputs)
        return cls(plan.checkpoints, outputs, frozenset(task.name for task in plan.tasks) - outputs)


class Keeper:
    """The checkpoints of one execution: `done` hears of finished tasks, `kept` answers what can be told of them."""

    def __init__(self, save: Save, shelf: Shelf, keeps: Keeps, generation: int) -> None:
        self._save = save
        self._shelf = shelf
        self._keeps = keeps
        self._generation = generation
        self._reported: list[Kept] = []
        self._waiting: dict[str, tuple[int, TaskResult]] = {}
        self._saving: dict[str, asyncio.Task[Kept | None]] = {}
        self.saved: dict[str, tuple[Place, ...]] = {}
        self._is_used = generation > 1

    @property
    def keeping(self) -> Keeping:
        """How long checkpoints are kept."""
        return self._keeps.keeping

    @property
    def is_used(self) -> bool:
        """Whether the execution may have checkpoints, by this supervisor or by one before."""
        return self._is_used or bool(self.saved)

    @property
    def is_saving(self) -> bool:
        """Whether something is being written."""
        return bool(self._saving)

    @property
    def is_behind(self) -> bool:
        """Whether `kept` has more to write or to tell."""
        return bool(self._reported or self._waiting or self._saving)

    def done(self, task: str, attempt: int, result: TaskResult) -> None:
        """Hear that a task is done; nothing is written yet."""
        self.undone(task)
        if task in self._keeps.outputs:
            self._waiting[task] = (attempt, result)
        elif task in self._keeps.reports:
            self._reported.append(Kept(task, attempt, result.report))

    def undone(self, task: str) -> None:
        """Hear that a task runs again: what it left does not count any more."""
        self._waiting.pop(task, None)
        self.saved.pop(task, None)
        saving = self._saving.pop(task, None)
        if saving is not None:
            saving.cancel()

    async def kept(self, within: float = SAVE_SECONDS) -> list[Kept]:
        """Write what is not written yet, and answer what is there after at most `within` seconds.

        Of tasks that are done when it is called, never of later ones: their completion is not told with these.
        """
        found, self._reported = self._reported, []
        for task, (attempt, result) in self._waiting.items():
            self._saving[task] = asyncio.create_task(self._written(task, attempt, result))
        self._waiting.clear()
        if self._saving:
            await asyncio.wait(self._saving.values(), timeout=within)
        self._is_used |= bool(found or self._saving)
        for task, saving in list(self._saving.items()):
            if saving.done():
                del self._saving[task]
                kept = None if saving.cancelled() else saving.result()
                if kept is not None:
                    self.saved[task] = kept.places
                    found.append(kept)
        return found

    def let_go(self) -> None:
        """Write nothing any more."""
        self._waiting.clear()
        for saving in self._saving.values():
            saving.cancel()

    async def clear(self) -> None:
        """Remove all files of the execution, those of earlier generations too."""
        await asyncio.to_thread(self._shelf.clear)

    async def _written(self, task: str, attempt: int, result: TaskResult) -> Kept | None:
        try:
            file = self._shelf.file(task, self._generation, attempt)
            place = await self._save(result, file)
        except Exception as error:
            log.warning("the output of %s is not kept: %s", task, error)
            return None
        return Kept(task, attempt, result.report, (place,))
