"""Keeps the rows for which a condition is true."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator
from sqlglot import exp

from models.base import StrictModel
from models.errors import Invalid
from models.fields import Json
from runtime.transforms._columns import at_path, check
from runtime.transforms._contract import TRANSFORMS, Relation, Transform
from runtime.transforms._sql import literal, parse_scalar, scalar, table


class Operator(StrEnum):
    """How a column's value is compared."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="
    IN = "in"
    NOT_IN = "not_in"
    BETWEEN = "between"
    LIKE = "like"
    ILIKE = "ilike"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    MATCHES = "matches"
    IS_NULL = "is_null"
    IS_NOT_NULL = "is_not_null"


class Condition(StrictModel):
    """A comparison of a column (or a path into it) with a value: a list for `in` and `not_in`, a pair for `between`."""

    column: str = Field(min_length=1)
    operator: Operator = Operator.EQUAL
    value: Json = None


class FilterConfig(StrictModel):
    """Either `condition`, a SQL expression, or `conditions`, of which `match` says whether all or any must hold."""

    condition: str | None = None
    conditions: list[Condition] | None = Field(default=None, min_length=1)
    match: Literal["all", "any"] = "all"

    @model_validator(mode="after")
    def _one_form(self) -> "FilterConfig":
        if (self.condition is None) == (self.conditions is None):
            raise ValueError("give either condition (SQL) or conditions (a list)")
        return self


@TRANSFORMS.register
class Filter(Transform[FilterConfig]):
    """The rows for which the condition is true; neither those for which it is false nor those where it is null."""

    kind = "filter"
    Config = FilterConfig
    row_wise = True

    def expression(self, inputs: Sequence[Relation]) -> exp.Query:
        """A SELECT of all columns with the condition as its WHERE."""
        (source,) = inputs
        return exp.Select(expressions=[exp.Star()]).from_(table(source.name)).where(self._condition(source), copy=False)

    def _condition(self, source: Relation) -> exp.Expr:
        if self.config.condition is not None:
            tree = parse_scalar(self.config.condition, "condition")
            check(tree, source, "condition")
            return tree
        tests = [_test(source, one, f"conditions[{index}]") for index, one in enumerate(self.config.conditions or [])]
        wrapped = [exp.Paren(this=test) for test in tests]
        return exp.and_(*wrapped) if self.config.match == "all" else exp.or_(*wrapped)


_COMPARISONS: dict[Operator, type[exp.Binary]] = {
    Operator.EQUAL: exp.EQ,
    Operator.NOT_EQUAL: exp.NEQ,
    Operator.LESS: exp.LT,
    Operator.AT_MOST: exp.LTE,
    Operator.GREATER: exp.GT,
    Operator.AT_LEAST: exp.GTE,
    Operator.LIKE: exp.Like,
    Operator.ILIKE: exp.ILike,
}

_FUNCTIONS: dict[Operator, str] = {
    Operator.CONTAINS: "contains",
    Operator.STARTS_WITH: "starts_with",
    Operator.ENDS_WITH: "ends_with",
    Operator.MATCHES: "regexp_matches",
}


def _test(source: Relation, condition: Condition, path: str) -> exp.Expr:
    value = at_path(source, condition.column, f"{path}.column")
    operator = condition.operator
    if operator in _COMPARISONS:
        return _COMPARISONS[operator](this=value, expression=_given(condition, path))
    if operator in _FUNCTIONS:
        return exp.Anonymous(this=_FUNCTIONS[operator], expressions=[value, _given(condition, path)])
    return _OTHERS[operator](value, condition, f"{path}.value")


def _given(condition: Condition, path: str) -> exp.Expr:
    value = scalar(condition.value, f"{path}.value")
    if value is None:
        raise Invalid("needs a value; null equals nothing", hint="use is_null or is_not_null", path=f"{path}.value")
    return literal(value)


def _listed(condition: Condition, path: str, count: int | None = None) -> list[exp.Expr]:
    values = condition.value
    if not isinstance(values, list) or not values or (count is not None and len(values) != count):
        wanted = "a list of values" if count is None else "a list of the least and the greatest value"
        raise Invalid(f"{condition.operator.value} needs {wanted}", hint="give a JSON list", path=path)
    return [literal(scalar(value, f"{path}[{index}]")) for index, value in enumerate(values)]


def _in(value: exp.Expr, condition: Condition, path: str) -> exp.Expr:
    return exp.In(this=value, expressions=_listed(condition, path))


def _between(value: exp.Expr, condition: Condition, path: str) -> exp.Expr:
    low, high = _listed(condition, path, 2)
    return exp.Between(this=value, low=low, high=high)


_OTHERS: dict[Operator, Callable[[exp.Expr, Condition, str], exp.Expr]] = {
    Operator.IN: _in,
    Operator.NOT_IN: lambda value, condition, path: exp.Not(this=_in(value, condition, path)),
    Operator.BETWEEN: _between,
    Operator.IS_NULL: lambda value, condition, path: exp.Is(this=value, expression=exp.Null()),
    Operator.IS_NOT_NULL: lambda value, condition, path: exp.Not(this=exp.Is(this=value, expression=exp.Null())),
}
