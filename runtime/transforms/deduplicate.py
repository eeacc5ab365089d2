"""Keeps one row of those that have the same keys."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.transforms._columns import at_path
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._selecting import first_of_each, tie_breakers
from runtime.transforms._sql import table

_ORDER = re.compile(r"(?P<path>.+?)(?:\s+(?P<direction>asc|desc))?", re.IGNORECASE)


class DeduplicateConfig(StrictModel):
    """Of the rows equal in `keys`, keep the first or last by `order_by` (`updated_at desc`); a null comes last in both.

    Rows that are equal in the order too are told apart by their other columns, so that a repeated run keeps the same.
    """

    keys: list[str] = Field(min_length=1)
    order_by: list[str] = Field(default_factory=list)
    keep: Literal["first", "last"] = "first"


@TRANSFORMS.register
class Deduplicate(Transform[DeduplicateConfig]):
    """The same columns; one row for each combination of keys."""

    kind = "deduplicate"
    Config = DeduplicateConfig

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT that numbers the rows of each key and keeps number one."""
        (source,) = inputs
        keys = [at_path(source, key, f"keys[{index}]") for index, key in enumerate(self.config.keys)]
        order = [self._ordered(source, text, f"order_by[{index}]") for index, text in enumerate(self.config.order_by)]
        return first_of_each(table(source.name), keys, [*order, *tie_breakers(source, self.config.keys)])

    def _ordered(self, source: Relation, text: str, path: str) -> exp.Expr:
        found = _ORDER.fullmatch(text.strip())
        if found is None:
            raise Invalid("is empty", hint="name a column, as in `updated_at desc`", path=path)
        descending = (found["direction"] or "asc").lower() == "desc"
        if self.config.keep == "last":
            descending = not descending
        return exp.Ordered(this=at_path(source, found["path"], path), desc=descending, nulls_first=False)
