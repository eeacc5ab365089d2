"""Tells what changed between two documents of a definition, key by key."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from models.fields import Json, JsonObject, StrictModel


class ChangeKind(StrEnum):
    """What happened to a key."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Change(StrictModel):
    """One difference: the path of the key, and its value before and after (None where there was none).

    Steps are matched by name, as in `steps[clean].config.config.condition`, so that one moved is not all changed.
    """

    kind: ChangeKind
    path: str
    old: Json = None
    new: Json = None

    def __str__(self) -> str:
        match self.kind:
            case ChangeKind.ADDED:
                return f"+ {self.path}: {self.new}"
            case ChangeKind.REMOVED:
                return f"- {self.path}: {self.old}"
            case ChangeKind.CHANGED:
                return f"~ {self.path}: {self.old} -> {self.new}"


def difference(old: JsonObject, new: JsonObject) -> list[Change]:
    """The changes that turn one document into the other, in the order of the keys; empty where they are equal.

    A key that is null and one that is absent are the same.
    """
    return list(_objects(old, new, ""))


def _objects(old: JsonObject, new: JsonObject, path: str) -> Iterator[Change]:
    for key in dict.fromkeys([*old, *new]):
        yield from _values(old.get(key), new.get(key), f"{path}.{key}" if path else key)


def _values(old: Json, new: Json, path: str) -> Iterator[Change]:
    if old == new and type(old) is type(new):
        return
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _objects(old, new, path)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, path)
    elif old is None:
        yield Change(kind=ChangeKind.ADDED, path=path, new=new)
    elif new is None:
        yield Change(kind=ChangeKind.REMOVED, path=path, old=old)
    else:
        yield Change(kind=ChangeKind.CHANGED, path=path, old=old, new=new)


def _lists(old: Sequence[Json], new: Sequence[Json], path: str) -> Iterator[Change]:
    before, after = _by_name(old), _by_name(new)
    if before is None or after is None:
        for index in range(max(len(old), len(new))):
            earlier = old[index] if index < len(old) else None
            yield from _values(earlier, new[index] if index < len(new) else None, f"{path}[{index}]")
        return
    for name in dict.fromkeys([*before, *after]):
        yield from _values(before.get(name), after.get(name), f"{path}[{name}]")
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        yield Change(kind=ChangeKind.CHANGED, path=path, old=list(kept_before), new=list(kept_after))


def _by_name(items: Sequence[Json]) -> dict[str, Json] | None:
    """The items by their `name`; None where they have none, or not each its own."""
    named: dict[str, Json] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name in named:
            return None
        named[name] = item
    return named
