"""A task that outgrows its memory is ended in all its threads, at no moment when it does something else."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from models.pipelines import Resources
from runtime.batches.engine import EngineLimits
from runtime.cluster.confinement import MemoryWatch, Outgrown, limited, own_memory_mb

PATIENCE_SECONDS = 10.0


class Memory:
    """What a process holds, as a test wants it, and how often its engine was interrupted."""

    def __init__(self) -> None:
        self.used_mb = 100.0
        self.interrupts = 0

    def interrupt(self) -> None:
        self.interrupts += 1


@contextmanager
def watching(memory: Memory) -> Iterator[MemoryWatch]:
    watch = MemoryWatch(50, memory.interrupt, lambda: memory.used_mb)
    try:
        yield watch
    finally:
        watch.end()


def spin(until: float | None = None) -> None:
    """Work in Python until somebody ends it."""
    end = time.monotonic() + PATIENCE_SECONDS if until is None else until
    while time.monotonic() < end:
        pass


def grow(memory: Memory) -> None:
    memory.used_mb = 151.0
    spin()


def fired(watch: MemoryWatch) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not watch.fired and time.monotonic() < end:
        pass
    return watch.fired


def test_a_task_that_goes_too_far_is_ended_where_it_is_and_its_engine_too() -> None:
    memory = Memory()
    with watching(memory) as watch:
        watch.enter()
        with pytest.raises(Outgrown):
            grow(memory)
    assert memory.interrupts == 1


def test_a_task_within_its_limit_is_let_be() -> None:
    memory = Memory()
    with watching(memory) as watch:
        watch.enter()
        memory.used_mb = 149.0
        spin(time.monotonic() + 0.2)
        watch.leave()
    assert not watch.fired


def test_what_is_due_while_the_worker_does_something_else_is_raised_when_the_task_goes_on() -> None:
    memory = Memory()
    with watching(memory) as watch:
        watch.enter()
        watch.leave()
        memory.used_mb = 151.0
        assert fired(watch)
        spin(time.monotonic() + 0.1)
        with pytest.raises(Outgrown):
            watch.enter()


def test_a_thread_that_the_task_began_is_ended_too_and_one_that_was_there_before_is_not() -> None:
    memory, ended, stop = Memory(), list[str](), threading.Event()

    def work(name: str) -> None:
        try:
            while not stop.is_set():
                pass
        except Outgrown:
            ended.append(name)

    before = threading.Thread(target=work, args=("before",))
    before.start()
    with watching(memory) as watch:
        own = threading.Thread(target=work, args=("own",))
        own.start()
        memory.used_mb = 151.0
        own.join(PATIENCE_SECONDS)
        assert watch.fired
    stop.set()
    before.join(PATIENCE_SECONDS)
    assert ended == ["own"]


def test_memory_that_a_process_takes_is_seen() -> None:
    before = own_memory_mb()
    taken = b"x" * (64 * 1024 * 1024)
    assert own_memory_mb() - before > 60
    del taken


def test_an_engine_is_made_for_what_a_step_asks_for_and_else_as_all_are() -> None:
    usual = EngineLimits(threads=2, memory_mb=1024)
    assert limited(usual, Resources()) == usual
    assert limited(usual, Resources(cpus=0.5)).threads == 1
    asked = limited(usual, Resources(memory_mb=500, cpus=4))
    assert (asked.threads, asked.memory_mb) == (4, 300)
