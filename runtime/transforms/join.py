"""Puts the rows of two inputs side by side."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.transforms._columns import has
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._joins import all_of, chosen, condition, equalities, renumbered, shared_names
from runtime.transforms._sql import aliased, column, same, table, unknown

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]


class JoinConfig(StrictModel):
    """`left` and `right` name inputs (as depended on, by default); `on` is SQL or left column to right column."""

    left: str | None = None
    right: str | None = None
    on: str | dict[str, str] | None = None
    using: list[str] | None = Field(default=None, min_length=1)
    how: JoinKind = "inner"
    columns: list[str] | dict[str, str] | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> "JoinConfig":
        given = sum(one is not None for one in (self.on, self.using))
        if given != (0 if self.how == "cross" else 1) or self.on == {}:
            raise ValueError("give either on or using (a cross join takes neither)")
        return self


@TRANSFORMS.register
class Join(Transform[JoinConfig]):
    """The left columns, then the right ones; a right name that is taken gets the right input's name before it."""

    kind = "join"
    Config = JoinConfig
    arity = (2, 2)

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT over the two inputs."""
        left, right = self._sides(inputs)
        using = self._using(left, right)
        query = exp.Select().from_(table(left.name))
        query.append("joins", self._join(left, right, using))
        if self.config.columns is not None:
            visible = left if self.config.how not in ("semi", "anti") else Relation(left.name, left.columns)
            query.set("expressions", chosen(visible, right, self.config.columns, "columns"))
        elif self.config.how in ("semi", "anti"):
            query.set("expressions", [exp.Column(this=exp.Star(), table=exp.to_identifier(left.name, quoted=True))])
        elif left.columns is None or right.columns is None:
            query.set("expressions", [exp.Star()])
            return renumbered(query)
        else:
            query.set("expressions", self._everything(left, right, using))
        return query

    def _sides(self, inputs: Sequence[Relation]) -> tuple[Relation, Relation]:
        first, second = inputs
        by_name = {one.name: one for one in inputs}
        for side, wanted in (("left", self.config.left), ("right", self.config.right)):
            if wanted is not None and wanted not in by_name:
                raise unknown("input", wanted, list(by_name), side)
        left = by_name.get(self.config.left or "")
        right = by_name.get(self.config.right or "")
        left = left or (second if right is first else first)
        right = right or (second if left is first else first)
        if left is right:
            raise Invalid("both sides are the same input", hint="name the other one", path="right")
        return left, right

    def _using(self, left: Relation, right: Relation) -> list[str]:
        """The columns that both sides share and match on."""
        if self.config.using is not None:
            return shared_names(left, right, self.config.using, "using")
        pairs = self.config.on
        if isinstance(pairs, dict) and all(same(one, other) for one, other in pairs.items()):
            equalities(left, right, pairs, "on")
            return [next((c.name for c in left.columns or () if same(c.name, one)), one) for one in pairs]
        return []

    def _join(self, left: Relation, right: Relation, using: list[str]) -> exp.Join:
        side, kind = {
            "inner": (None, "INNER"),
            "left": ("LEFT", None),
            "right": ("RIGHT", None),
            "full": ("FULL", None),
            "semi": (None, "SEMI"),
            "anti": (None, "ANTI"),
            "cross": (None, "CROSS"),
        }[self.config.how]
        join = exp.Join(this=table(right.name), side=side, kind=kind)
        if using:
            join.set("using", [exp.to_identifier(one, quoted=True) for one in using])
        elif isinstance(self.config.on, dict):
            join.set("on", equalities(left, right, self.config.on, "on"))
        elif self.config.on is not None:
            join.set("on", condition(left, right, self.config.on, "on"))
        return join

    def _everything(self, left: Relation, right: Relation, using: list[str]) -> list[exp.Expr]:
        """All columns of both; a column of USING once, unqualified, so that an outer join fills it from either."""
        items: list[exp.Expr] = [column(one) for one in using]
        items.extend(all_of(left, using))
        taken = left.columns or ()
        for one in all_of(right, using):
            items.append(aliased(one, f"{right.name}_{one.name}") if has(taken, one.name) else one)
        return items
