"""The processes of a stack, each started again when it ends by itself."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from models.errors import Unavailable
from runtime.embedded.guard import Guard
from runtime.embedded.processes import Child

STAYS_SECONDS = 5.0
"""A part that ends sooner than this after its start has not stayed."""

AGAIN_SECONDS = 1.0
"""Until then one that is started again, by itself, is left the processors."""

MOST_SHORT_LIVES = 3
"""A part that has not stayed this often in a row will not, however often it is started."""

FIRST_PAUSE_SECONDS = 0.5
"""Between an end that came too soon and the next start; each further one waits twice as long."""


@dataclass(slots=True)
class _Life:
    """When a part began, how often it did, and how often in a row it has not stayed until now."""

    began: float
    starts: int = 0
    short: int = 0
    next_at: float | None = None


class Parts:
    """Child processes in the order of their starts, which a guard ends when their maker is killed.

    Of a part that is `spared` another process waits, soon after the first began: it has imported, which is most of a
    start, and takes the place of the first when that ends. Processes are made by the thread that calls.
    """

    def __init__(self, guard: Guard, clock: Callable[[], float] = monotonic, spared: Collection[str] = ()) -> None:
        self._guard = guard
        self._clock = clock
        self._spared = frozenset(spared)
        self._spares: dict[str, Child] = {}
        self._children: list[Child] = []
        self._told: dict[str, tuple[Mapping[str, str], Path]] = {}
        self._lives: dict[str, _Life] = {}

    def begin(self, child: Child, environment: Mapping[str, str], logs: Path) -> None:
        """Let a child run in this environment, with its log in the folder."""
        if child not in self._children:
            self._children.append(child)
        self._told[child.name] = (environment, logs)
        life = self._lives.setdefault(child.name, _Life(0))
        life.began, life.starts = self._clock(), life.starts + 1
        child.begin(environment, logs)
        self._guard.end(child.pid)

    def mend(self) -> dict[str, str]:
        """Start again what has ended by itself: how each had, by name.

        One that ended soon after its start waits for its next. Raises `Unavailable` for what ends so again and again.
        """
        mended: dict[str, str] = {}
        for child in list(self._children):
            ending = child.ending
            if ending is not None and self._again(child, ending):
                mended[child.name] = ending
            elif ending is None and child.name in self._spared:
                self._spare(child)
        return mended

    def _spare(self, child: Child) -> None:
        """Have another wait to take a child's place; one for each start, which it is not to slow down."""
        life = self._lives[child.name]
        starts_for = STAYS_SECONDS if life.starts == 1 else AGAIN_SECONDS
        if self._clock() >= life.began + starts_for and child.name not in self._spares:
            self._spares[child.name] = spare = child.again()
            self._guard.end(spare.pid)

    def _again(self, child: Child, ending: str) -> bool:
        """Start a part that has ended again; False when it has to wait."""
        life, now = self._lives[child.name], self._clock()
        if life.next_at is None:
            life.short = life.short + 1 if now < life.began + STAYS_SECONDS else 0
            if life.short == MOST_SHORT_LIVES:
                said = f"{ending}, as it did before: {MOST_SHORT_LIVES} times it has not stayed {STAYS_SECONDS:g} s"
                raise Unavailable(said, hint=f"its log is {child.log}", code="part_ended")
            life.next_at = now + FIRST_PAUSE_SECONDS * 2 ** (life.short - 1) if life.short else now
        if now < life.next_at:
            return False
        life.next_at = None
        self._children.remove(child)
        self.begin(self._next_after(child), *self._told[child.name])
        return True

    def _next_after(self, child: Child) -> Child:
        spare = self._spares.pop(child.name, None)
        if spare is None:
            return child.again()
        if spare.ending is not None:
            spare.stop()
            return child.again()
        return spare

    def pid(self, name: str) -> int:
        """The process of a part now; raises KeyError for one that was not begun."""
        return {child.name: child.pid for child in self._children}[name]

    def stops(self) -> list[Callable[[], None]]:
        """Ask all to end, and give what waits for each, the last begun first."""
        children = [*self._children, *self._spares.values()]
        for child in children:
            child.ask_to_stop()
        return [child.stop for child in reversed(children)]
