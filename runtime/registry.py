"""Open sets: classes by their kind, found by scanning a package and then entry points."""

import difflib
import importlib
import logging
import pkgutil
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from models.errors import Invalid

log = logging.getLogger(__name__)


T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one open set, by kind.

    `noun` names the set in messages, `package` is scanned for modules without a leading underscore, `group` names the
    entry points of third parties. Both are read when the first class is asked for.
    """

    def __init__(self, noun: str, package: str, group: str) -> None:
        self.noun = noun
        self.package = package
        self.group = group
        self._found: dict[str, T] = {}
        self._broken: dict[str, str] = {}
        self._scanned = False
        self._scanning = threading.RLock()

    def register(self, plugin: T) -> T:
        """Add a class under its `kind`; a decorator. A kind that is taken raises ValueError: a bug, not an input."""
        kind = _kind_of(plugin)
        if self._found.setdefault(kind, plugin) is not plugin:
            raise ValueError(f"two {self.noun} plugins call themselves {kind!r}")
        return plugin

    def get(self, kind: str, path: str | None = None) -> T:
        """The class of that kind; raises `Invalid` that lists the known ones and guesses which was meant."""
        found = self.all()
        if kind in found:
            return found[kind]
        message = f"no {self.noun} of kind {kind!r}"
        if kind in self._broken:
            raise Invalid(f"{message}: its plugin does not load: {self._broken[kind]}", hint="mend it", path=path)
        near = difflib.get_close_matches(kind, found, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise Invalid(message, hint=f"{guess}known: {', '.join(sorted(found))}", path=path)

    def all(self) -> Mapping[str, T]:
        """Every registered class by kind."""
        with self._scanning:
            if not self._scanned:
                self._scanned = True
                self._scan()
        return self._found

    def _scan(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.group):
            try:
                self.register(entry.load())
            except Exception as error:
                # Somebody else's code: it must not keep the others from working.
                log.exception("the %s plugin %s does not load", self.noun, entry.name)
                self._broken[entry.name] = str(error)


def _kind_of(plugin: object) -> str:
    kind = getattr(plugin, "kind", None)
    if not isinstance(kind, str):
        raise TypeError(f"{plugin!r} has no kind")
    return kind
