"""Pages of JSON rows, written once and kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import orjson
import pyarrow as pa

from runtime.demo.vendors import with_contact
from runtime.demo.world import World

KEPT = 1_000


@dataclass(slots=True)
class Pages:
    """The rows of one dataset as JSON arrays; each stretch is serialised when first asked for."""

    rows: pa.Table
    _written: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def total(self) -> int:
        """How many rows there are."""
        return int(self.rows.num_rows)

    def page(self, offset: int, limit: int) -> bytes:
        """The JSON array of the rows from `offset` (counted from 0), `limit` of them at most."""
        with self._lock:
            found = self._written.get((offset, limit))
            if found is None:
                found = orjson.dumps(self.rows.slice(offset, limit).to_pylist(), option=orjson.OPT_UTC_Z)
                if len(self._written) < KEPT:
                    self._written[offset, limit] = found
            return found


def vendor_pages(world: World) -> Mapping[str, Pages]:
    """What the vendor API has: vendors (contact nested), prices and availability."""
    return {
        "vendors": Pages(with_contact(world.vendors.delivered)),
        "prices": Pages(world.prices.delivered),
        "availability": Pages(world.availability.delivered),
    }
