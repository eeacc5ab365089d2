"""The processes of a stack, each started again when it ends by itself."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from models.errors import Unavailable
from runtime.embedded.guard import Guard
from runtime.embedded.processes import Child

log = logging.getLogger(__name__)

STAYS_SECONDS = 10.0
"""A part that ends sooner than this after it was started again will not stay, however often it is started."""


class Parts:
    """Child processes in the order of their starts, which a guard ends when their maker is killed."""

    def __init__(self, guard: Guard, clock: Callable[[], float] = monotonic) -> None:
        self._guard = guard
        self._clock = clock
        self._children: list[Child] = []
        self._told: dict[str, tuple[Mapping[str, str], Path]] = {}
        self._again: dict[str, float] = {}

    def begin(self, child: Child, environment: Mapping[str, str], logs: Path) -> None:
        """Let a child run in this environment, with its log in the folder."""
        if child not in self._children:
            self._children.append(child)
        self._told[child.name] = (environment, logs)
        child.begin(environment, logs)
        self._guard.end(child.pid)

    def mend(self) -> list[str]:
        """Start again what has ended by itself; the names. Raises `Unavailable` for what ends again and again."""
        ended = [child for child in self._children if child.ending is not None]
        for child in ended:
            if self._clock() < self._again.get(child.name, float("-inf")) + STAYS_SECONDS:
                raise Unavailable(str(child.ending), hint=f"its log is {child.log}", code="part_ended")
            log.warning("%s; it is started again", child.ending)
            self._again[child.name] = self._clock()
            self._children.remove(child)
            self.begin(child.again(), *self._told[child.name])
        return [child.name for child in ended]

    def pid(self, name: str) -> int:
        """The process of a part now; raises KeyError for one that was not begun."""
        return {child.name: child.pid for child in self._children}[name]

    def stops(self) -> list[Callable[[], None]]:
        """Ask all to end, and give what waits for each, the last begun first."""
        for child in self._children:
            child.ask_to_stop()
        return [child.stop for child in reversed(self._children)]
