"""Puts the rows of several inputs one after the other, matching columns by name."""

from collections.abc import Sequence
from functools import reduce

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._sql import table


class UnionConfig(StrictModel):
    """With `distinct`, equal rows come once."""

    distinct: bool = Field(default=False)


@TRANSFORMS.register
class Union(Transform[UnionConfig]):
    """The columns of all inputs; a column that an input lacks is null in its rows."""

    kind = "union"
    Config = UnionConfig
    arity = (1, None)

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """SELECTs united by name."""
        query = united(inputs, distinct=self.config.distinct)
        if len(inputs) == 1 and self.config.distinct:
            query.set("distinct", exp.Distinct())
        return query


def united(inputs: Sequence[Relation], *, distinct: bool = False) -> exp.Query:
    """The union by name of all rows of the inputs."""
    selects: list[exp.Query] = [exp.Select(expressions=[exp.Star()]).from_(table(one.name)) for one in inputs]
    return reduce(lambda left, right: exp.Union(this=left, expression=right, distinct=distinct, by_name=True), selects)
