"""Open sets: classes by their kind, found by scanning a package and then entry points."""

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from models.errors import Invalid


class HasKind(Protocol):
    """What a registered class has: the name it is stored under."""

    kind: str


T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one open set, by kind; `noun` names the set in messages."""

    def __init__(self, noun: str, package: str, group: str) -> None:
        self.noun = noun
        self._package = package
        self._group = group
        self._found: dict[str, T] = {}
        self._scanned = False

    def register(self, plugin: T) -> T:
        """Add a class under its `kind`; a decorator. A kind that is taken raises ValueError: a bug, not an input."""
        kind = str(plugin.kind)  # type: ignore[attr-defined]
        if self._found.setdefault(kind, plugin) is not plugin:
            raise ValueError(f"two {self.noun} plugins call themselves {kind!r}")
        return plugin

    def get(self, kind: str, path: str | None = None) -> T:
        """The class of that kind; raises `Invalid` that lists the known ones."""
        found = self.all()
        if kind not in found:
            near = difflib.get_close_matches(kind, found, n=1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise Invalid(
                f"no {self.noun} of kind {kind!r}", hint=f"{guess}known: {', '.join(sorted(found))}", path=path
            )
        return found[kind]

    def all(self) -> Mapping[str, T]:
        """Every registered class by kind."""
        if not self._scanned:
            self._scanned = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            for entry in entry_points(group=self._group):
                self.register(entry.load())
        return self._found
