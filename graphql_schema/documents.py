"""Remembers documents that were found good, so that one which comes again is neither parsed nor validated again."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from graphql import DocumentNode

from models.access import Role

MOST: Final = 256
LONGEST: Final = 20_000
"""In letters: longer ones are rare, and would let strangers fill the memory."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A parsed document, and the roles that may run it."""

    document: DocumentNode
    roles: set[Role | None] = field(default_factory=set)


class KnownDocuments:
    """The documents used last, of one schema."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def document(self, query: str | None) -> DocumentNode | None:
        """The parsed document of a text; None for one that is not known."""
        known = self._known.get(query or "")
        return None if known is None else known.document

    def may_run(self, query: str | None, role: Role | None) -> bool:
        """Whether the document is valid and permits all of its fields to the role, as far as is known."""
        known = self._known.get(query or "")
        return known is not None and role in known.roles

    def keep(self, query: str | None, document: DocumentNode, role: Role | None) -> None:
        """Note that a document is valid and permitted to the role."""
        if not query or len(query) > LONGEST:
            return
        self._known.setdefault(query, _Known(document)).roles.add(role)
        self._known.move_to_end(query)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
