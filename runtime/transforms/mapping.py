"""Gives columns new names, and brings nested values up into columns of their own."""

from collections.abc import Sequence

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.fields import Json
from runtime.transforms._columns import at_path, has
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._selecting import kept_columns, refuse_twins
from runtime.transforms._sql import aliased, literal, scalar, table


class MappingConfig(StrictModel):
    """Target column to source path (`venue.name`); `defaults` fill nulls, or stand alone as constant columns.

    With `keep_unmapped` the columns that no mapping takes (as a whole) stay as they are.
    """

    mappings: dict[str, str] = Field(min_length=1)
    defaults: dict[str, Json] = Field(default_factory=dict)
    keep_unmapped: bool = False


@TRANSFORMS.register
class Mapping(Transform[MappingConfig]):
    """One output column for each mapping, in their order, then the constant ones."""

    kind = "mapping"
    Config = MappingConfig
    row_wise = True

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT of the mapped columns."""
        (source,) = inputs
        targets = [*self.config.mappings, *self.config.defaults]
        refuse_twins(dict.fromkeys(targets), "mappings")
        mapped = [self._mapped(source, target, path) for target, path in self.config.mappings.items()]
        constants = [
            aliased(literal(scalar(value, f"defaults.{target}")), target)
            for target, value in self.config.defaults.items()
            if target not in self.config.mappings
        ]
        kept = kept_columns(source, [*targets, *self._taken(source)]) if self.config.keep_unmapped else []
        return exp.Select(expressions=[*kept, *mapped, *constants]).from_(table(source.name))

    def _mapped(self, source: Relation, target: str, text: str) -> exp.Expr:
        value = at_path(source, text, f"mappings.{target}")
        default = scalar(self.config.defaults.get(target), f"defaults.{target}")
        if default is not None:
            value = exp.Coalesce(this=value, expressions=[literal(default)])
        return aliased(value, target)

    def _taken(self, source: Relation) -> list[str]:
        """The columns that a mapping takes as a whole."""
        paths = self.config.mappings.values()
        if source.columns is not None:
            return [path for path in paths if has(source.columns, path)]
        return [path for path in paths if "." not in path and "[" not in path]
