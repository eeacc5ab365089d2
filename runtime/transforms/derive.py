"""Computes new columns, or new values of columns, from the others of the row."""

from collections.abc import Mapping, Sequence

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.batches.types import Column
from runtime.transforms._columns import check, has
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._selecting import kept_columns, refuse_twins
from runtime.transforms._sql import aliased, column, parse_scalar, same, table


class DeriveConfig(StrictModel):
    """Column to SQL expression. A derived name means the derived value in every expression but its own.

    So the order in which they are written does not matter (JSON objects have none).
    """

    columns: dict[str, str] = Field(min_length=1)


@TRANSFORMS.register
class Derive(Transform[DeriveConfig]):
    """All columns of the input, those derived anew in their place, and the new ones after them."""

    kind = "derive"
    Config = DeriveConfig
    row_wise = True

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT; nested ones where a derived column builds on another."""
        (source,) = inputs
        refuse_twins(self.config.columns, "columns")
        trees = {name: parse_scalar(sql, f"columns.{name}") for name, sql in self.config.columns.items()}
        query: exp.Select | None = None
        for stage in _stages(trees):
            source, query = _extended(source, {name: trees[name] for name in stage}, query)
        assert query is not None
        return query


def _stages(trees: Mapping[str, exp.Expr]) -> list[list[str]]:
    """The names in groups, each of which builds on the groups before it; raises `Invalid` for a circle."""
    needs = {name: _mentioned(tree, trees) - {name} for name, tree in trees.items()}
    stages: list[list[str]] = []
    while needs:
        ready = [name for name, others in needs.items() if not others & needs.keys()]
        if not ready:
            circle = _circle(needs)
            raise Invalid(
                f"the columns build on each other: {' -> '.join(circle)}",
                hint="derive one of them in a step of its own",
                path=f"columns.{circle[0]}",
            )
        stages.append(ready)
        for name in ready:
            del needs[name]
    return stages


def _mentioned(tree: exp.Expr, names: Mapping[str, exp.Expr]) -> set[str]:
    used = {node.parts[0].name.lower() for node in tree.find_all(exp.Column)}
    return {name for name in names if name.lower() in used}


def _circle(needs: Mapping[str, set[str]]) -> list[str]:
    path = [min(needs)]
    while True:
        following = min(needs[path[-1]] & needs.keys())
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _extended(
    source: Relation, derived: Mapping[str, exp.Expr], inner: exp.Select | None
) -> tuple[Relation, exp.Select]:
    """The relation with some columns derived, and the query that makes it of the one before."""
    types = {name: check(tree, source, f"columns.{name}") for name, tree in derived.items()}
    origin: exp.Expr = table(source.name)
    if inner is not None:
        origin = inner.subquery(exp.to_identifier(source.name, quoted=True), copy=False)
    if source.columns is None:
        items = [*kept_columns(source, list(derived)), *(aliased(tree, name) for name, tree in derived.items())]
        return source, exp.Select(expressions=items).from_(origin, copy=False)
    named = {name.lower(): (name, tree) for name, tree in derived.items()}
    items, columns = list[exp.Expr](), list[Column]()
    for one in source.columns:
        name, tree = named.get(one.name.lower(), (one.name, column(one.name)))
        items.append(aliased(tree, name))
        columns.append(one if same(name, one.name) and name not in derived else Column(name, types[name]))
    for name, tree in derived.items():
        if not has(source.columns, name):
            items.append(aliased(tree, name))
            columns.append(Column(name, types[name]))
    return Relation(source.name, tuple(columns)), exp.Select(expressions=items).from_(origin, copy=False)
