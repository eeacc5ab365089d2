"""Pieces of SELECT that several transforms make: kept columns, first rows, names that are apart."""

from collections.abc import Iterable, Sequence

from sqlglot import exp

from models.errors import Invalid
from runtime.transforms._contract import Relation
from runtime.transforms._sql import column, literal, name, same


def refuse_twins(names: Iterable[str], path: str) -> None:
    """Refuse two names that DuckDB takes for the same."""
    seen: dict[str, str] = {}
    for one in names:
        other = seen.setdefault(one.lower(), one)
        if other is not one:
            raise Invalid(f"{other!r} and {one!r} are the same column name", hint="rename one", path=f"{path}.{one}")


def kept_columns(source: Relation, dropped: Sequence[str]) -> list[exp.Expr]:
    """The source's columns without those dropped: a list where they are known, else a pattern over those there are."""
    if source.columns is not None:
        return [column(one.name) for one in source.columns if not any(same(one.name, gone) for gone in dropped)]
    variable = exp.to_identifier("c")
    gone = exp.In(
        this=exp.Lower(this=variable.copy()), expressions=[literal(one.lower()) for one in dict.fromkeys(dropped)]
    )
    return [exp.Columns(this=exp.Lambda(this=exp.Not(this=gone), expressions=[name("c")]))]


def tie_breakers(source: Relation, keys: Sequence[str]) -> list[exp.Expr]:
    """Every other column in order, where they are known."""
    names = [one.name for one in source.columns or () if not any(same(one.name, key) for key in keys)]
    return [exp.Ordered(this=column(name), nulls_first=False) for name in names]


def first_of_each(origin: exp.Expr, keys: Sequence[exp.Expr], order: Sequence[exp.Expr]) -> exp.Select:
    """All columns of the first row of each key."""
    window = exp.Window(
        this=exp.RowNumber(), partition_by=list(keys), order=exp.Order(expressions=list(order)) if order else None
    )
    query = exp.Select(expressions=[exp.Star()]).from_(origin, copy=False)
    query.set("qualify", exp.Qualify(this=exp.EQ(this=window, expression=exp.Literal.number(1))))
    return query
