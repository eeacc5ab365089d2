"""Orders steps by their dependencies, and decides which run and what each of them reads."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.errors import Invalid
from runtime.pipelines.definition import ExtractStep, LoadStep, TransformStep
from runtime.pipelines.expand import PlacedStep
from runtime.transforms._sql import unknown


@dataclass(frozen=True, slots=True)
class Wired:
    """A step in its order: whether it runs, the steps whose rows it reads, and those it only waits for."""

    placed: PlacedStep
    enabled: bool
    inputs: tuple[str, ...]
    after: tuple[str, ...]
    because: str | None = None


def wire(steps: Sequence[PlacedStep]) -> list[Wired]:
    """The steps in an order that respects dependencies, ties broken by where they were written.

    A dependency on a load, and any dependency of an extract, orders and passes no rows. A disabled transform passes
    the rows of its first input through. What a disabled extract alone feeds is off too; a step that still has some
    of its inputs goes on with them. Raises `Invalid` for equal names, missing dependencies and circles, naming the
    steps, and for a step that is left with more or fewer inputs than it takes.
    """
    if not steps:
        raise Invalid("has no steps", hint="add an extract step", path="steps")
    by_name = _by_name(steps)
    _check_dependencies(steps, by_name)
    wiring = _Wiring(by_name)
    return [wiring.add(placed) for placed in _in_order(steps, by_name)]


def _by_name(steps: Sequence[PlacedStep]) -> dict[str, PlacedStep]:
    seen: dict[str, PlacedStep] = {}
    for placed in steps:
        other = seen.setdefault(placed.name.lower(), placed)
        if other is not placed:
            raise Invalid(
                f"two steps are called {placed.name!r}: {other.path} and {placed.path}",
                hint="names must differ in more than upper and lower case; rename one",
                path=f"{placed.path}.name",
            )
    return {placed.name: placed for placed in steps}


def _check_dependencies(steps: Sequence[PlacedStep], by_name: Mapping[str, PlacedStep]) -> None:
    for placed in steps:
        named: set[str] = set()
        for index, dependency in enumerate(placed.step.depends_on):
            path = f"{placed.path}.depends_on[{index}]"
            if dependency not in by_name:
                raise unknown("step", dependency, list(by_name), path)
            if dependency in named:
                raise Invalid(f"names {dependency!r} twice", hint="remove one", path=path)
            named.add(dependency)


def _in_order(steps: Sequence[PlacedStep], by_name: Mapping[str, PlacedStep]) -> list[PlacedStep]:
    position = {placed.name: index for index, placed in enumerate(steps)}
    waiting = {placed.name: len(placed.step.depends_on) for placed in steps}
    followers: dict[str, list[str]] = {name: [] for name in waiting}
    for placed in steps:
        for dependency in placed.step.depends_on:
            followers[dependency].append(placed.name)
    ready = [position[name] for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered: list[PlacedStep] = []
    while ready:
        placed = steps[heapq.heappop(ready)]
        ordered.append(placed)
        for name in followers[placed.name]:
            waiting[name] -= 1
            if waiting[name] == 0:
                heapq.heappush(ready, position[name])
    if len(ordered) < len(steps):
        _refuse_circle({name for name, count in waiting.items() if count}, by_name)
    return ordered


def _refuse_circle(stuck: set[str], by_name: Mapping[str, PlacedStep]) -> None:
    path = [next(name for name in by_name if name in stuck)]
    while True:
        following = next(name for name in by_name[path[-1]].step.depends_on if name in stuck)
        if following in path:
            circle = [*path[path.index(following) :], following]
            raise Invalid(
                f"the steps depend on each other: {' -> '.join(circle)} (each on the next)",
                hint="remove one of these dependencies",
                path=f"{by_name[circle[0]].path}.depends_on",
            )
        path.append(following)


class _Wiring:
    """Finds, step by step in order, what stands for each step's output."""

    def __init__(self, by_name: Mapping[str, PlacedStep]) -> None:
        self.by_name = by_name
        self.delivers: dict[str, str | None] = {}
        self.orders: dict[str, tuple[str, ...]] = {}

    def add(self, placed: PlacedStep) -> Wired:
        """Wire the next step; all it depends on was added before."""
        feeding = [one for one in placed.step.depends_on if self._feeds(placed, one)]
        lost = [one for one in feeding if self.delivers[one] is None]
        inputs = [found for found in (self.delivers[one] for one in feeding) if found is not None]
        because = self._off(placed, feeding, inputs)
        waits = dict.fromkeys(name for one in placed.step.depends_on for name in self.orders[one])
        after = tuple(name for name in waits if name not in inputs)
        if because is not None:
            passes = isinstance(placed.step, TransformStep) and not placed.step.is_enabled and inputs
            self.delivers[placed.name] = inputs[0] if passes else None
            self.orders[placed.name] = tuple(waits)
            return Wired(placed, False, tuple(feeding), (), because)
        self._check_inputs(placed, inputs, lost)
        self.delivers[placed.name] = None if isinstance(placed.step, LoadStep) else placed.name
        self.orders[placed.name] = (placed.name,)
        waited_for = after if len(feeding) < len(placed.step.depends_on) or lost else ()
        return Wired(placed, True, tuple(inputs), waited_for)

    def _feeds(self, placed: PlacedStep, dependency: str) -> bool:
        reads = not isinstance(placed.step, ExtractStep)
        return reads and not isinstance(self.by_name[dependency].step, LoadStep)

    def _off(self, placed: PlacedStep, feeding: Sequence[str], inputs: Sequence[str]) -> str | None:
        """Why the step does not run, or None."""
        if not placed.step.is_enabled:
            return "it is disabled"
        if feeding and not inputs:
            return f"{' and '.join(feeding)} {'is' if len(feeding) == 1 else 'are'} off"
        return None

    def _check_inputs(self, placed: PlacedStep, inputs: Sequence[str], lost: Sequence[str]) -> None:
        if isinstance(placed.step, ExtractStep):
            return
        least, most = placed.transform.arity if placed.transform else (1, None)
        path = f"{placed.path}.depends_on"
        twins = sorted({one for one in inputs if inputs.count(one) > 1})
        if twins:
            raise Invalid(
                f"step {placed.name!r} would read {twins[0]!r} twice, because a step between them is disabled",
                hint="disable this step too, or enable the one between",
                path=path,
            )
        if len(inputs) >= least and (most is None or len(inputs) <= most):
            return
        wanted = f"{least}" if most == least else f"at least {least}" if most is None else f"{least} to {most}"
        without = f"; without {', '.join(lost)}, which is off" if lost else ""
        raise Invalid(
            f"step {placed.name!r} takes {wanted} input{'' if wanted == '1' else 's'}, not {len(inputs)}{without}",
            hint=_remedy(placed, len(inputs) < least, bool(lost)),
            path=path if placed.path.startswith("steps") else placed.path,
        )


def _remedy(placed: PlacedStep, too_few: bool, lost: bool) -> str:
    if lost:
        return "disable this step too, or enable what it reads"
    if not placed.path.startswith("steps"):
        return "use the explicit form (`steps`) to give it several inputs"
    return "name what it reads in depends_on" if too_few else "put a `union` or `join` step before it"
