"""What the demo wedding platform is made from: a seed, a size, a share of dirty rows and the day it shows."""

from dataclasses import dataclass
from datetime import UTC, datetime
from zlib import crc32

import numpy as np

from models.errors import Invalid

# Before any machine's clock on which this runs, so that an incremental read up to "now" misses no row.
AS_OF = datetime(2026, 10, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Equal blueprints make equal bytes. At scale 1 some 550,000 rows are delivered; scale 0.01 is enough for a test.

    `dirty_share` (0 to 0.5) of the rows of each dataset carry one defect each. `as_of` is the moment, in UTC, at
    which the platform is seen: nothing in it was written later.
    """

    seed: int = 269
    scale: float = 1.0
    dirty_share: float = 0.03
    as_of: datetime = AS_OF

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 100:
            raise Invalid(f"the scale {self.scale} is not above 0 and at most 100", hint="1 is usual", path="scale")
        if not 0 <= self.dirty_share <= 0.5:
            message = f"the dirty share {self.dirty_share} is not between 0 and 0.5"
            raise Invalid(message, hint="0.03 is usual", path="dirty_share")
        if self.as_of.tzinfo is None:
            raise Invalid("as_of has no time zone", hint="give it in UTC", path="as_of")

    def rows(self, at_scale_one: int, least: int = 1) -> int:
        """How many rows there are of something of which scale 1 has so many."""
        return max(least, round(at_scale_one * self.scale))

    def random(self, purpose: str) -> np.random.Generator:
        """The random numbers for one purpose, which do not change when another purpose draws more."""
        return np.random.default_rng([self.seed, crc32(purpose.encode())])

    @property
    def today(self) -> int:
        """The day of `as_of`, in days since 1970."""
        return int(self.as_of.timestamp() // 86_400)

    @property
    def now(self) -> int:
        """The second of `as_of`, in seconds since 1970."""
        return int(self.as_of.timestamp())
