"""Makes one row of each group of rows."""

import re
from collections.abc import Callable, Mapping, Sequence

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.transforms._columns import at_path, check, has
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._selecting import refuse_twins
from runtime.transforms._sql import aliased, parse_scalar, same, table, unknown

_PATH = re.compile(r'[\w.\[\]" ]+')


class AggregationConfig(StrictModel):
    """`group_by`: columns, paths, or `expression AS name`; `aggregates`: name to SQL; `having` may use those names."""

    group_by: list[str] = Field(default_factory=list)
    aggregates: dict[str, str] = Field(min_length=1)
    having: str | None = None


@TRANSFORMS.register
class Aggregation(Transform[AggregationConfig]):
    """One row for each group, its keys first; one row in all where there is nothing to group by."""

    kind = "aggregation"
    Config = AggregationConfig

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT with GROUP BY and HAVING."""
        (source,) = inputs
        keys = [self._key(source, text, f"group_by[{i}]") for i, text in enumerate(self.config.group_by)]
        names = [key.alias_or_name for key in keys]
        refuse_twins(dict.fromkeys([*names, *self.config.aggregates]), "aggregates")
        made = {name: _aggregate(source, sql, keys, f"aggregates.{name}") for name, sql in self._sorted()}
        items = [*keys, *(aliased(tree, name) for name, tree in made.items())]
        query = exp.Select(expressions=items).from_(table(source.name))
        if keys:
            query.set("group", exp.Group(expressions=[key.unalias().copy() for key in keys]))
        if self.config.having is not None:
            query.set("having", exp.Having(this=self._having(source, made, keys)))
        return query

    def _sorted(self) -> list[tuple[str, str]]:
        for name in self.config.aggregates:
            clash = [key for key in self.config.group_by if same(key, name)]
            if clash:
                raise Invalid(f"{name!r} is also in group_by", hint="name it otherwise", path=f"aggregates.{name}")
        return list(self.config.aggregates.items())

    def _key(self, source: Relation, text: str, path: str) -> exp.Expr:
        """A grouping column, or an expression under its name."""
        if _PATH.fullmatch(text) and (" " not in text or has(source.columns or (), text)):
            tree = at_path(source, text, path)
            return tree if isinstance(tree, exp.Column) else aliased(tree, re.split(r"[.\[]", text)[-1].strip('"]'))
        tree = parse_scalar(text, path, alias=True)
        if not isinstance(tree, exp.Alias):
            raise Invalid("is an expression without a name", hint="write `expression AS name`", path=path)
        check(tree.this, source, path)
        return aliased(tree.this, tree.alias)

    def _having(self, source: Relation, made: Mapping[str, exp.Expr], keys: Sequence[exp.Expr]) -> exp.Expr:
        """The condition with the aggregates and keys that it names written out."""
        assert self.config.having is not None
        tree = parse_scalar(self.config.having, "having", aggregates=True)
        written = {name.lower(): tree for name, tree in made.items()}
        written.update({key.alias_or_name.lower(): key.unalias() for key in keys})

        def write_out(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Column) or node.find_ancestor(exp.AggFunc):
                return node
            if node.name.lower() not in written or node.table:
                raise unknown("aggregate or key", node.name, [*self.config.aggregates, *_names(keys)], "having")
            return exp.Paren(this=written[node.name.lower()].copy())

        tree = _outside_in(tree, write_out)
        check(tree, source, "having")
        return tree


def _outside_in(tree: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """Change columns outside aggregates; those put in are not visited again."""
    if isinstance(tree, exp.Column):
        return change(tree)
    for node in list(tree.find_all(exp.Column)):
        fresh = change(node)
        if fresh is not node:
            node.replace(fresh)
    return tree


def _names(keys: Sequence[exp.Expr]) -> list[str]:
    return [key.alias_or_name for key in keys]


def _aggregate(source: Relation, sql: str, keys: Sequence[exp.Expr], path: str) -> exp.Expr:
    tree = parse_scalar(sql, path, aggregates=True)
    check(tree, source, path)
    if not tree.find(exp.AggFunc, exp.Anonymous):
        raise Invalid("uses no aggregate function", hint="write `sum(price)`, or add it to group_by", path=path)
    plain = [key.name for key in keys if isinstance(key, exp.Column)]
    for one in tree.find_all(exp.Column):
        inside = one.find_ancestor(exp.AggFunc, exp.Anonymous, exp.Filter)
        if inside is None and not any(same(one.parts[0].name, key) for key in plain):
            raise Invalid(
                f"the column {one.name!r} is neither aggregated nor grouped by",
                hint=f"write `any_value({one.name})`, or add it to group_by",
                path=path,
            )
    return tree
