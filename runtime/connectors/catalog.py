"""What a definition is compiled against: the sources and destinations there are, and the columns discovered in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from models.destinations import DestinationType, WriteMode
from models.sources import SourceType
from runtime.batches.types import Columns


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A source. `datasets` are the columns of each discovered dataset by name; empty before discovery.

    `primary_keys` holds the key columns of the datasets whose keys are known.
    """

    id: UUID
    name: str
    type: SourceType
    kind: str
    active: bool = True
    datasets: Mapping[str, Columns] = field(default_factory=dict)
    primary_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """A destination, its default write mode, and what was discovered in it.

    `primary_keys` holds the key columns of the tables whose keys are known.
    """

    id: UUID
    name: str
    type: DestinationType
    kind: str
    active: bool = True
    write_mode: WriteMode = WriteMode.APPEND
    datasets: Mapping[str, Columns] = field(default_factory=dict)
    primary_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The sources and destinations that a definition may name, by UUID or by name."""

    sources: Sequence[SourceEntry] = ()
    destinations: Sequence[DestinationEntry] = ()

    def source(self, reference: str) -> SourceEntry | None:
        """The source of that UUID or name, or None."""
        return next((entry for entry in self.sources if reference in (entry.name, str(entry.id))), None)

    def destination(self, reference: str) -> DestinationEntry | None:
        """The destination of that UUID or name, or None."""
        return next((entry for entry in self.destinations if reference in (entry.name, str(entry.id))), None)
