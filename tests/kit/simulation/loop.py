"""An event loop of virtual time that plays several processes, whose turns a seed deals out.

Callbacks of one process run in the order in which they were made ready, as in a real event loop; whose turn it is
among the processes is drawn. So a seed replays exactly, and every interleaving of processes can come up.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


class Process:
    """One process: its ready callbacks, and at which of its steps the seed has it killed or stopped for a while."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[events.Handle] = deque()
        self.is_dead = False
        self.is_stopped = False
        self.is_waiting = False
        self.resumed_at = 0.0
        self.steps = 0
        self.dies_at: int | None = None
        self.stops_at: int | None = None
        self.stops_for = 0.0
        self.on_death: list[Callable[[], None]] = []

    @property
    def can_run(self) -> bool:
        """Whether it has something to do and may do it."""
        return bool(self.ready) and not self.is_stopped


NATURE = Process("nature")
CURRENT: ContextVar[Process] = ContextVar("process", default=NATURE)


_Loop: Any = asyncio.AbstractEventLoop
"""Typed as having all methods of a loop abstract, of which a simulation needs a dozen."""


class NumberedTask(asyncio.Task[Any]):
    """A task that sets hold by its number: asyncio cancels a group's tasks in the order of a set, else by address."""

    def __init__(self, number: int, work: Coroutine[Any, Any, Any], **named: Any) -> None:
        self._number = number
        super().__init__(work, **named)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(_Loop):  # type: ignore[misc]
    """Time moves only when no process has anything left to do. `died` and `stopped` hear of what the seed does."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.nature = Process("nature")
        self.died: Callable[[Process], None] = lambda _: None
        self.stopped: Callable[[Process], None] = lambda _: None
        self._now = 0.0
        self._order = 0
        self._timers: list[tuple[float, int, events.TimerHandle, Process]] = []
        self._waiting: list[Process] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Seconds since the world began."""
        return self._now

    def get_debug(self) -> bool:
        """No."""
        return False

    def is_running(self) -> bool:
        """Yes."""
        return True

    def is_closed(self) -> bool:
        """No."""
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> "asyncio.Task[Any]":
        """A task of the process that makes it; kept, so that nothing but its process decides when it ends."""
        task = NumberedTask(len(self._tasks), coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> events.Handle:
        """Run it in the turn of its process; never, when that is dead."""
        handle = events.Handle(callback, args, self, context)
        self._enqueue(handle, self._owner(context))
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> events.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> events.TimerHandle:
        """Run it `delay` seconds from now."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> events.TimerHandle:
        """Run it once it is `when`."""
        timer = events.TimerHandle(when, callback, args, self, context)
        self._order += 1
        heapq.heappush(self._timers, (when, self._order, timer, self._owner(context)))
        return timer

    def _timer_handle_cancelled(self, handle: events.TimerHandle) -> None:
        """It is left out when its time has come."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":
        """Threads take no time here."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_exception_handler(self, context: Any) -> None:
        """What nobody awaited is nobody's."""

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Begin work in a process."""
        context = copy_context()
        context.run(CURRENT.set, process)
        return self.create_task(work, name=process.name, context=context)

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        future = self.create_future()
        timer = self.call_later(seconds, _settle, future)
        try:
            await future
        finally:
            timer.cancel()

    def kill(self, process: Process) -> None:
        """End a process where it stands: nothing of it ever runs again, no `finally` either."""
        if process.is_dead:
            return
        process.is_dead = True
        process.ready.clear()
        for told in process.on_death:
            self.call_soon(told, context=Context())

    def stop(self, process: Process, seconds: float) -> None:
        """Stop a process as SIGSTOP does; it goes on where it was, not knowing that time passed."""
        process.is_stopped = True
        self.call_later(seconds, self._resume, process, context=Context())

    def run(self, is_over: Callable[[], bool], horizon: float) -> None:
        """Run until it is over, which is asked whenever time moves, or no longer than to the horizon in seconds."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while True:
                while process := self._next():
                    self._step(process)
                if not self._timers or is_over() or self._timers[0][0] > horizon:
                    return
                self._now = max(self._now, self._timers[0][0])
                self._wake_due()
        finally:
            events._set_running_loop(before)

    def close(self) -> None:
        """Close what is left over, one after the other, unseen: the world has ended."""
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _closed(task.get_coro())
        finally:
            events._set_running_loop(before)
            self._tasks.clear()
            self._timers.clear()
            self._waiting.clear()

    def _owner(self, context: Context | None) -> Process:
        found = CURRENT.get() if context is None else context.get(CURRENT, NATURE)
        return self.nature if found is NATURE else found

    def _enqueue(self, handle: events.Handle, process: Process) -> None:
        if process.is_dead:
            return
        process.ready.append(handle)
        self._let_wait(process)

    def _let_wait(self, process: Process) -> None:
        if process.can_run and not process.is_waiting:
            process.is_waiting = True
            self._waiting.append(process)

    def _next(self) -> Process | None:
        """Whose turn it is."""
        waiting = self._waiting
        while waiting:
            place = int(self.chance.random() * len(waiting)) if len(waiting) > 1 else 0
            if waiting[place].can_run:
                return waiting[place]
            waiting[place].is_waiting = False
            waiting[place] = waiting[-1]
            waiting.pop()
        return None

    def _step(self, process: Process) -> None:
        handle = process.ready.popleft()
        if handle._cancelled:
            return
        process.steps += 1
        if process.steps == process.dies_at:
            self.kill(process)
            self.died(process)
        elif process.steps == process.stops_at:
            process.ready.appendleft(handle)
            self.stop(process, process.stops_for)
            self.stopped(process)
        else:
            handle._run()

    def _resume(self, process: Process) -> None:
        process.is_stopped = False
        process.resumed_at = self._now
        self._let_wait(process)

    def _wake_due(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self._now:
            _, _, timer, process = heapq.heappop(timers)
            if not timer._cancelled:
                self._enqueue(timer, process)


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


CLOSINGS = 100


def _closed(coroutine: Any) -> None:
    """Close a coroutine, however often it waits while it ends."""
    for _ in range(CLOSINGS):
        try:
            coroutine.close()
        except (Exception, asyncio.CancelledError):
            continue
        return
