"""What a transform is: a validated configuration that becomes one SQL expression over named relations.

A transform is one module in this package that registers its class in `TRANSFORMS`; third parties use the entry-point
group `wedsync.transforms`. Each passes the shared suite in `tests/kit/contracts`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from sqlglot import exp

from models.base import StrictModel
from models.fields import Json
from runtime.batches.types import Columns
from runtime.registry import Registry

C_co = TypeVar("C_co", bound=StrictModel, covariant=True)


@dataclass(frozen=True, slots=True)
class Relation:
    """A named input of a step. `columns` is None where the schema is not known before the run."""

    name: str
    columns: Columns | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A further source that a transform reads; it becomes an extract step named `<step>__lookup` of its own."""

    source_id: str
    config: Json


class Transform(ABC, Generic[C_co]):
    """One step's relational meaning.

    `row_wise` says that each output row depends on one input row alone and their order does not matter: such
    neighbours fuse and run partition by partition. `arity` is the least and the greatest number of inputs, a lookup
    included (None: any number).
    """

    kind: ClassVar[str]
    Config: ClassVar[type[StrictModel]]
    row_wise: ClassVar[bool] = False
    arity: ClassVar[tuple[int, int | None]] = (1, 1)

    def __init__(self, config: C_co) -> None:
        self.config = config

    @abstractmethod
    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """The query (DuckDB dialect) over tables named as the inputs are.

        Raises `Invalid` whose path is relative to the transform's config (`mappings.price`) for SQL that does not
        parse, and for columns that the known inputs do not have.
        """

    def set_aside(self, inputs: Sequence[Relation]) -> exp.Query | None:
        """The query of the input rows that `expression` leaves out because they are bad; None where none can be.

        Its first column says why, the others are the row as it came. Only a row-wise transform sets rows aside, and
        it leaves out no others.
        """
        return None

    def lookup(self) -> Lookup | None:
        """The further source this transform reads, if it has one; it arrives as the last input."""
        return None


TRANSFORMS: Registry[type[Transform[StrictModel]]] = Registry("transform", "runtime.transforms", "wedsync.transforms")
