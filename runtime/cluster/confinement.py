"""Keeps a task to its step's resources: one that outgrows its memory fails with a typed error, its worker lives on.

DuckDB gets most of the memory and spills beyond; a watcher sees to the rest of the process. Guaranteed is that a task
which allocates in steps ends soon after it has crossed its limit, within the size of one batch or so, and takes nothing
else with it. One single allocation that is huge, made in C while it holds the interpreter, is seen only once it is
done: the machine's memory is then Ray's monitor's to defend, which kills the worker and has the task tried again.
"""

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyarrow as pa

from models.errors import Terminal
from models.pipelines import Resources
from runtime.batches.engine import Engine, EngineLimits
from runtime.executions.faults import sign, signed_step
from runtime.executions.program import TaskRequest
from runtime.executions.steps import Blocks, Item, Worker, run_task

LOOK_SECONDS: Final = 0.02
ENGINE_SHARE: Final = 0.6
"""What DuckDB gets of a task's memory: batches on their way in and out, and their encoders, need the rest."""

_MEGABYTE: Final = 1024 * 1024
_PAGE: Final = 4096


class Outgrown(Exception):
    """Raised in the threads of a task that has crossed its limit of memory; what leaves the task is typed."""


def own_memory_mb() -> float:
    """The memory of this process that it shares with nobody, in MB: blocks in the object store are not its own."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_bytes().split()
    return (int(resident) - int(shared)) * _PAGE / _MEGABYTE


class MemoryWatch:
    """Watches what this process holds beyond what it held when the watch was made, and ends what goes too far.

    It raises `Outgrown` in the thread that made it and in those begun since, while they are `inside` the task, and
    interrupts the engine. It fires once.
    """

    def __init__(
        self, most_mb: int, interrupt: Callable[[], None], used_mb: Callable[[], float] = own_memory_mb
    ) -> None:
        self.fired = False
        self._most = used_mb() + most_mb
        self._interrupt = interrupt
        self._used = used_mb
        self._lock = threading.Lock()
        self._inside = False
        self._ended = threading.Event()
        self._owner = threading.get_ident()
        self._others = {thread.ident for thread in threading.enumerate()}
        threading.Thread(target=self._watch, name="memory-watch", daemon=True).start()

    def enter(self) -> None:
        """The owner goes on with the task; raises `Outgrown` when the limit was crossed meanwhile."""
        with self._lock:
            if self.fired:
                raise Outgrown
            self._inside = True

    def leave(self) -> None:
        """The owner does something else, in which nothing may be raised; raises `Outgrown` if that was due."""
        with self._lock:
            self._inside = False
            if self.fired:
                _raise_in(self._owner, None)
                raise Outgrown

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()
        with self._lock:
            self._inside = False
            if self.fired:
                _raise_in(self._owner, None)

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self._used() > self._most:
                with self._lock:
                    self._fire()
                return

    def _fire(self) -> None:
        if self._ended.is_set():
            return
        self.fired = True
        self._interrupt()
        begun = [thread for thread in threading.enumerate() if thread.ident not in self._others and not thread.daemon]
        for thread in begun:
            if thread.ident is not None:
                _raise_in(thread.ident, Outgrown)
        if self._inside:
            _raise_in(self._owner, Outgrown)


def _raise_in(thread: int, error: type[Exception] | None) -> None:
    """Have a thread raise an error when it next runs Python, or with None, take back one that it has yet to raise."""
    raised = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


class Confinement:
    """Runs the tasks of one worker process, each within its resources; keeps the engine of the last limits at hand."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._special: Engine | None = None

    def items(self, request: TaskRequest, inputs: Mapping[str, Blocks]) -> Iterator[Item]:
        """What `run_task` yields; raises `Terminal` with the code `memory_limit` where it would take too much."""
        resources = request.program.resources
        worker = self._worker if resources is None else replace(self._worker, engine=self._engine(resources))
        if resources is None or resources.memory_mb is None:
            yield from run_task(request, inputs, worker)
            return
        watch = MemoryWatch(resources.memory_mb, worker.engine.interrupt)
        try:
            with closing(run_task(request, inputs, worker)) as items:
                yield from _watched(items, watch)
        except Exception as error:
            watch.end()
            if not watch.fired:
                raise
            raise _outgrown(error, request, resources.memory_mb) from None
        finally:
            watch.end()
            if watch.fired:
                pa.default_memory_pool().release_unused()

    def _engine(self, resources: Resources) -> Engine:
        limits = limited(self._worker.engine.limits, resources)
        if limits == self._worker.engine.limits:
            return self._worker.engine
        if self._special is None or self._special.limits != limits:
            if self._special is not None:
                self._special.close()
            self._special = Engine(limits)
        return self._special


def limited(limits: EngineLimits, resources: Resources) -> EngineLimits:
    """The limits of an engine for a task of these resources."""
    threads = limits.threads if resources.cpus is None else max(1, int(resources.cpus))
    memory = limits.memory_mb if resources.memory_mb is None else int(resources.memory_mb * ENGINE_SHARE)
    return replace(limits, threads=threads, memory_mb=memory)


def _watched(items: Iterator[Item], watch: MemoryWatch) -> Iterator[Item]:
    while True:
        watch.enter()
        item = next(items, None)
        watch.leave()
        if item is None:
            return
        yield item


def _outgrown(error: Exception, request: TaskRequest, most_mb: int) -> Terminal:
    failure = Terminal(
        f"the step needs more than its {most_mb} MB of memory",
        hint="raise resources.memory_mb of the step, or let it take fewer or smaller rows at once",
        code="memory_limit",
    )
    step = signed_step(error, request.program)
    if step is not None:
        sign(failure, step)
    return failure
