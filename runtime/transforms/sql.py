"""Runs a person's own SELECT over the inputs."""

from collections.abc import Sequence

from pydantic import Field
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._inference import Inference
from runtime.transforms._sql import name, parse_query, same, unknown

SOLE_INPUT = "input"


class SqlConfig(StrictModel):
    """One SELECT (DuckDB dialect) over tables named as the steps it depends on; a sole one is also called `input`."""

    query: str = Field(min_length=1)


@TRANSFORMS.register
class Sql(Transform[SqlConfig]):
    """Whatever the SELECT gives; each of its columns needs a name of its own."""

    kind = "sql"
    Config = SqlConfig
    arity = (1, None)

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """The SELECT, reading only the inputs."""
        query = parse_query(self.config.query, "query")
        self._read_inputs_only(query, inputs)
        _refuse_nameless(query)
        Inference(inputs, "query").columns(query)
        return query

    def _read_inputs_only(self, query: exp.Query, inputs: Sequence[Relation]) -> None:
        """Give `input` its true name, and refuse tables that are neither inputs nor CTEs of the query."""
        known = {one.name.lower(): one.name for one in inputs}
        ctes = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
        for clash in sorted(ctes & known.keys()):
            raise Invalid(f"the CTE {clash!r} hides the input of that name", hint="rename the CTE", path="query")
        for node in list(query.find_all(exp.Table)):
            if not isinstance(node.this, exp.Identifier):
                continue
            wanted = ".".join(part.name for part in node.parts)
            if wanted.lower() in known:
                node.set("this", name(known[wanted.lower()]))
            elif same(wanted, SOLE_INPUT) and len(inputs) == 1 and SOLE_INPUT not in ctes:
                node.set("this", name(inputs[0].name))
                if not node.alias:
                    node.set("alias", exp.TableAlias(this=exp.to_identifier(SOLE_INPUT)))
            elif wanted.lower() not in ctes:
                raise unknown("table", wanted, [*known.values()], "query", " among the inputs")


def _refuse_nameless(query: exp.Query) -> None:
    outer: exp.Expr = query
    while isinstance(outer, exp.SetOperation | exp.Subquery):
        outer = outer.this
    if not isinstance(outer, exp.Select):
        return
    for index, item in enumerate(outer.expressions, start=1):
        if not isinstance(item, exp.Alias | exp.Column | exp.Star | exp.Columns | exp.Dot):
            raise Invalid(
                f"its column {index} ({item.sql('duckdb')[:60]}) has no name", hint="write `… AS name`", path="query"
            )
