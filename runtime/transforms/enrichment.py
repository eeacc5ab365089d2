"""Looks up columns in another source."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from models.fields import Json
from runtime.transforms._columns import at_path, has, known_name
from runtime.transforms._contract import TRANSFORMS, Lookup, Relation, Transform
from runtime.transforms._joins import all_of, equalities, renumbered
from runtime.transforms._selecting import first_of_each, refuse_twins, tie_breakers
from runtime.transforms._sql import aliased, column, same, table


class EnrichmentConfig(StrictModel):
    """`on`: column of the input to column of the lookup (or names that both have); `columns`: what to bring over.

    `columns` is a list, or new name to lookup column; without it all but the keys come. `prefix` goes before names
    that are not given anew. Of several matches the first counts (`multiple: all` repeats the row for each). Without
    a match the columns are null, or with `how: inner` the row goes.
    """

    source_id: str = Field(min_length=1)
    dataset: str | None = None
    query: str | None = None
    filters: dict[str, Json] = Field(default_factory=dict)
    on: dict[str, str] | list[str] | str
    columns: list[str] | dict[str, str] | None = None
    how: Literal["left", "inner"] = "left"
    prefix: str = ""
    multiple: Literal["first", "all"] = "first"

    @model_validator(mode="after")
    def _something_to_match(self) -> "EnrichmentConfig":
        if not self.on:
            raise ValueError("on names no column")
        return self


@TRANSFORMS.register
class Enrichment(Transform[EnrichmentConfig]):
    """The input's columns, then those looked up."""

    kind = "enrichment"
    Config = EnrichmentConfig
    arity = (2, 2)

    def lookup(self) -> Lookup:
        """The extract of the other source."""
        config: dict[str, Json] = {"source_id": self.config.source_id}
        for key, value in (("dataset", self.config.dataset), ("query", self.config.query)):
            if value is not None:
                config[key] = value
        if self.config.filters:
            config["filters"] = self.config.filters
        return Lookup(self.config.source_id, config)

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A join with the lookup, which comes last among the inputs."""
        source, other = inputs
        pairs = self._pairs()
        matches = equalities(source, other, pairs, "on")
        looked_up = self._looked_up(source, other, list(pairs.values()))
        query = exp.Select(expressions=[*_all_columns(source), *looked_up]).from_(table(source.name))
        side, kind = ("LEFT", None) if self.config.how == "left" else (None, "INNER")
        query.append("joins", exp.Join(this=self._rows(other, pairs), side=side, kind=kind, on=matches))
        return query if source.columns is not None and other.columns is not None else renumbered(query)

    def _pairs(self) -> dict[str, str]:
        if isinstance(self.config.on, dict):
            return self.config.on
        names = [self.config.on] if isinstance(self.config.on, str) else self.config.on
        return {one: one for one in names}

    def _rows(self, other: Relation, pairs: dict[str, str]) -> exp.Expr:
        if self.config.multiple == "all":
            return table(other.name)
        keys = list(pairs.values())
        first = first_of_each(table(other.name), [at_path(other, key, "on") for key in keys], tie_breakers(other, keys))
        return first.subquery(exp.to_identifier(other.name, quoted=True), copy=False)

    def _looked_up(self, source: Relation, other: Relation, keys: list[str]) -> list[exp.Expr]:
        wanted = self.config.columns
        if wanted is None and other.columns is None:
            return [self._pattern(other, keys)]
        if isinstance(wanted, dict):
            named = {name: known_name(other, text, f"columns.{name}") for name, text in wanted.items()}
        elif wanted is not None:
            found = [known_name(other, text, f"columns[{index}]") for index, text in enumerate(wanted)]
            named = {f"{self.config.prefix}{name}": name for name in found}
        else:
            rest = [one.name for one in all_of(other, keys)]
            named = {f"{self.config.prefix}{name}": name for name in rest}
        refuse_twins(named, "columns")
        self._refuse_taken(source, list(named))
        return [aliased(column(origin, other.name), name) for name, origin in named.items()]

    def _pattern(self, other: Relation, keys: list[str]) -> exp.Expr:
        """All columns of a lookup whose columns are not known before the run."""
        if self.config.prefix:
            raise Invalid(
                "a prefix needs the lookup's columns, which are not known yet",
                hint="discover the source, or list `columns`",
                path="prefix",
            )
        dropped = [exp.to_identifier(key, quoted=True) for key in keys]
        return exp.Column(this=exp.Star(except_=dropped), table=exp.to_identifier(other.name, quoted=True))

    def _refuse_taken(self, source: Relation, names: list[str]) -> None:
        taken = next((name for name in names if has(source.columns or (), name)), None)
        if taken is None:
            return
        listed = self.config.columns if isinstance(self.config.columns, list) else []
        index = next((i for i, one in enumerate(listed) if same(f"{self.config.prefix}{one}", taken)), None)
        place = f"columns.{taken}" if isinstance(self.config.columns, dict) else f"columns[{index}]"
        raise Invalid(
            f"the input has a column {taken!r} already",
            hint="give a prefix, or new names: `columns: {new_name: column}`",
            path="columns" if self.config.columns is None else place,
        )


def _all_columns(source: Relation) -> list[exp.Expr]:
    if source.columns is not None:
        return all_of(source)
    return [exp.Column(this=exp.Star(), table=exp.to_identifier(source.name, quoted=True))]
