"""Tells the DuckDB type of a SQL expression from the types of its columns, or `UNKNOWN` where that is not certain.

sqlglot's own annotator follows other dialects in decimals, division, sums and literals, so the rules are ours; the
tests compare each with what DuckDB itself says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from runtime.batches.types import UNKNOWN
from runtime.transforms import _types as t

SMALL_INT_LIMIT = 2**31
BIG_INT_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Typed:
    """The type of an expression, and whether it may be null."""

    type: str
    nullable: bool = True


ColumnTyper = Callable[[exp.Column], Typed]
UNSURE = Typed(UNKNOWN)


class Typer:
    """Types expressions over columns whose types `column` gives."""

    def __init__(self, column: ColumnTyper) -> None:
        self.column = column

    def of(self, node: exp.Expr | None) -> Typed:
        """The type of an expression."""
        if node is None:
            return Typed(t.NULL)
        if isinstance(node, exp.Column):
            return self.column(node)
        rule = _RULES.get(type(node))
        return rule(self, node) if rule else UNSURE

    def kind(self, node: exp.Expr | None) -> str:
        """The type's name alone."""
        return self.of(node).type

    def all_of(self, nodes: Sequence[exp.Expr | None]) -> list[Typed]:
        """The types of several expressions."""
        return [self.of(node) for node in nodes]


Rule = Callable[[Typer, exp.Expr], Typed]


def _fixed(kind: str, *, nullable: bool = True) -> Rule:
    return lambda typer, node: Typed(kind, nullable)


def _strict(kind: str) -> Rule:
    """Of this type, and null only where an argument is."""

    def rule(typer: Typer, node: exp.Expr) -> Typed:
        operands = [child for child in node.iter_expressions() if isinstance(child, exp.Condition)]
        return Typed(kind, any(one.nullable for one in typer.all_of(operands)))

    return rule


def _wrapped(typer: Typer, node: exp.Expr) -> Typed:
    return typer.of(node.this)


def _kept(typer: Typer, node: exp.Expr) -> Typed:
    """Of its first argument's type, possibly null."""
    return Typed(typer.kind(node.this))


def _literal(typer: Typer, node: exp.Expr) -> Typed:
    text = node.name
    if isinstance(node, exp.Literal) and node.is_string:
        return Typed(t.VARCHAR, False)
    if "e" in text.lower():
        return Typed(t.DOUBLE, False)
    if "." in text:
        whole, _, fraction = text.partition(".")
        return Typed(f"DECIMAL({len(whole) + len(fraction)}, {len(fraction)})", False)
    size = int(text)
    return Typed(t.INT if size < SMALL_INT_LIMIT else t.BIGINT if size < BIG_INT_LIMIT else UNKNOWN, False)


def _cast(typer: Typer, node: exp.Expr) -> Typed:
    target = node.args.get("to")
    kind = t.spelled(target) if isinstance(target, exp.DataType) else UNKNOWN
    if t.canonical(kind) == UNKNOWN:
        return UNSURE
    return Typed(kind, isinstance(node, exp.TryCast) or typer.of(node.this).nullable)


def _operands(typer: Typer, node: exp.Expr) -> tuple[Typed, Typed]:
    """Both sides; an integer literal beside a narrower integer column takes the column's type."""
    left, right = typer.of(node.this), typer.of(node.expression)
    if t.is_integer(left.type) and _is_small(node.expression, left.type):
        right = Typed(left.type, False)
    if t.is_integer(right.type) and _is_small(node.this, right.type):
        left = Typed(right.type, False)
    return left, right


def _is_small(node: exp.Expr | None, beside: str) -> bool:
    limits = {"TINYINT": 2**7, "SMALLINT": 2**15, t.INT: 2**31, t.BIGINT: 2**63, t.HUGEINT: 2**63}
    return isinstance(node, exp.Literal) and node.is_int and int(node.name) < limits[beside]


def _add(typer: Typer, node: exp.Expr) -> Typed:
    left, right = _operands(typer, node)
    nullable = left.nullable or right.nullable
    pair = (left.type, right.type)
    if t.INTERVAL in pair and (pair[0] != t.INTERVAL or isinstance(node, exp.Add)):
        other = pair[0] if pair[1] == t.INTERVAL else pair[1]
        return Typed({t.DATE: t.TIMESTAMP, t.NULL: UNKNOWN}.get(other, other), nullable)
    if t.DATE in pair:
        return Typed(_date_sum(pair, isinstance(node, exp.Sub)), nullable)
    if isinstance(node, exp.Sub) and left.type == right.type and left.type in (t.TIMESTAMP, t.TIMESTAMPTZ):
        return Typed(t.INTERVAL, nullable)
    return Typed(t.added(*pair), nullable)


def _date_sum(pair: tuple[str, str], subtracted: bool) -> str:
    if pair == (t.DATE, t.DATE):
        return t.BIGINT if subtracted else UNKNOWN
    other = pair[0] if pair[1] == t.DATE else pair[1]
    return t.DATE if other in ("TINYINT", "SMALLINT", t.INT) and not (subtracted and pair[1] == t.DATE) else UNKNOWN


def _multiply(typer: Typer, node: exp.Expr) -> Typed:
    left, right = _operands(typer, node)
    return Typed(t.multiplied(left.type, right.type), left.nullable or right.nullable)


def _divide(typer: Typer, node: exp.Expr) -> Typed:
    left, right = typer.kind(node.this), typer.kind(node.expression)
    if not (t.is_number(left) and t.is_number(right)):
        return UNSURE
    return Typed(t.FLOAT if t.FLOAT in (left, right) and t.DOUBLE not in (left, right) else t.DOUBLE)


def _whole_divide(typer: Typer, node: exp.Expr) -> Typed:
    left, right = _operands(typer, node)
    both = t.is_integer(left.type) and t.is_integer(right.type)
    return Typed(t.combined((left.type, right.type)) if both else UNKNOWN)


def _negate(typer: Typer, node: exp.Expr) -> Typed:
    inner = typer.of(node.this)
    return inner if t.is_number(inner.type) else UNSURE


def _coalesce(typer: Typer, node: exp.Expr) -> Typed:
    parts = typer.all_of([node.this, *node.expressions])
    return Typed(_combined_with_literals(typer, [node.this, *node.expressions]), all(p.nullable for p in parts))


def _combined_with_literals(typer: Typer, nodes: Sequence[exp.Expr | None]) -> str:
    """The common type; integer literals give way to integer columns, and text literals to whatever they stand by."""
    loose = [one for one in nodes if isinstance(one, exp.Literal) and (one.is_int or one.is_string)]
    common = t.combined(typer.kind(one) for one in nodes if one not in loose)
    for node in loose:
        if node.is_string:
            common = t.VARCHAR if common in (t.NULL, t.VARCHAR) else UNKNOWN if common == UNKNOWN else common
        elif not (t.is_integer(common) and _is_small(node, common)):
            common = t.combined((common, typer.kind(node)))
    return common


def _case(typer: Typer, node: exp.Expr) -> Typed:
    branches = [branch.args.get("true") for branch in node.args.get("ifs", [])]
    default = node.args.get("default")
    types = typer.all_of(branches)
    nullable = default is None or any(one.nullable for one in [*types, typer.of(default)])
    return Typed(_combined_with_literals(typer, [*branches, *([default] if default else [])]), nullable)


def _if(typer: Typer, node: exp.Expr) -> Typed:
    branches = [node.args.get("true"), *([node.args["false"]] if node.args.get("false") else [])]
    nullable = len(branches) < 2 or any(one.nullable for one in typer.all_of(branches))
    return Typed(_combined_with_literals(typer, branches), nullable)


def _extremes(typer: Typer, node: exp.Expr) -> Typed:
    return Typed(_combined_with_literals(typer, [node.this, *node.expressions]))


def _round(typer: Typer, node: exp.Expr) -> Typed:
    inner = typer.of(node.this)
    parts, digits = t.decimal(inner.type), node.args.get("decimals")
    if inner.type in (t.FLOAT, t.DOUBLE) or t.is_integer(inner.type):
        return inner
    if parts is None or not (digits is None or (isinstance(digits, exp.Literal) and digits.is_int)):
        return UNSURE
    scale = 0 if digits is None else int(digits.name)
    if digits is None:
        return Typed(f"DECIMAL({parts[0]}, 0)", inner.nullable)
    return inner if scale >= parts[1] else Typed(f"DECIMAL({parts[0]}, {scale})", inner.nullable)


def _whole(typer: Typer, node: exp.Expr) -> Typed:
    """Floor and ceiling."""
    inner = typer.of(node.this)
    if t.is_decimal(inner.type):
        parts = t.decimal(inner.type) or (18, 0)
        return Typed(f"DECIMAL({parts[0]}, 0)", inner.nullable)
    if t.is_integer(inner.type):
        return Typed(t.DOUBLE, inner.nullable)
    return inner if inner.type in (t.FLOAT, t.DOUBLE) else UNSURE


def _truncated(typer: Typer, node: exp.Expr) -> Typed:
    """`date_trunc`: to a day or more a date stays a date."""
    inner = typer.kind(node.this)
    return Typed(inner if inner in (t.TIMESTAMP, t.TIMESTAMPTZ) else t.TIMESTAMP if inner == t.DATE else UNKNOWN)


def _zoned(typer: Typer, node: exp.Expr) -> Typed:
    swapped = {t.TIMESTAMP: t.TIMESTAMPTZ, t.TIMESTAMPTZ: t.TIMESTAMP}
    return Typed(swapped.get(typer.kind(node.this), UNKNOWN))


def _dot(typer: Typer, node: exp.Expr) -> Typed:
    return Typed(t.field(typer.kind(node.this), node.expression.name))


def _member(typer: Typer, node: exp.Expr) -> Typed:
    """`a['field']`, `a[1]`."""
    inner, keys = typer.kind(node.this), node.expressions
    if len(keys) != 1 or isinstance(keys[0], exp.Slice):
        return UNSURE
    if isinstance(keys[0], exp.Literal) and keys[0].is_string:
        return Typed(t.field(inner, keys[0].name))
    return Typed(t.element(inner))


def _sum(typer: Typer, node: exp.Expr) -> Typed:
    return Typed(t.summed(typer.kind(_argument(node))))


def _average(typer: Typer, node: exp.Expr) -> Typed:
    return Typed(t.DOUBLE if t.is_number(typer.kind(_argument(node))) else UNKNOWN)


def _median(typer: Typer, node: exp.Expr) -> Typed:
    kind = typer.kind(_argument(node))
    return Typed(kind if t.is_decimal(kind) or kind == t.FLOAT else t.DOUBLE if t.is_number(kind) else UNKNOWN)


def _chosen(typer: Typer, node: exp.Expr) -> Typed:
    """Aggregates that give back one of their values."""
    return Typed(typer.kind(_argument(node)))


def _argument(node: exp.Expr) -> exp.Expr:
    inner: exp.Expr = node.this
    while isinstance(inner, exp.Distinct | exp.Order | exp.IgnoreNulls | exp.RespectNulls | exp.Limit):
        inner = inner.expressions[0] if isinstance(inner, exp.Distinct) else inner.this
    return inner


def _list_of(typer: Typer, node: exp.Expr) -> Typed:
    kind = typer.kind(_argument(node))
    return Typed(f"{kind}[]" if kind not in (UNKNOWN, t.NULL) else UNKNOWN)


def _array(typer: Typer, node: exp.Expr) -> Typed:
    kind = t.combined(typer.kind(one) for one in node.expressions)
    return Typed(f"{kind}[]" if kind not in (UNKNOWN, t.NULL) else UNKNOWN, False)


def _anonymous(typer: Typer, node: exp.Expr) -> Typed:
    name = node.name.lower()
    if name in ("struct_extract", "list_extract") and len(node.expressions) == 2:
        inner, key = node.expressions
        kind = typer.kind(inner)
        return Typed(t.element(kind) if name == "list_extract" else t.field(kind, key.name))
    return Typed(_BY_NAME.get(name, UNKNOWN), name not in ("to_json", "typeof", "now", "hash"))


def _struct_field(typer: Typer, node: exp.Expr) -> Typed:
    return Typed(t.field(typer.kind(node.this), node.expression.name))


def _parsed_moment(typer: Typer, node: exp.Expr) -> Typed:
    form = node.args.get("format")
    zoned = not isinstance(form, exp.Literal) or "%z" in form.name or "%Z" in form.name
    return Typed(UNKNOWN if zoned else t.TIMESTAMP)


def _concatenated(typer: Typer, node: exp.Expr) -> Typed:
    left, right = typer.of(node.this), typer.of(node.expression)
    texts = (t.VARCHAR in (left.type, right.type)) and not any(one.type.endswith("[]") for one in (left, right))
    return Typed(t.VARCHAR, left.nullable or right.nullable) if texts else UNSURE


def _each(rule: Rule, *kinds: type[exp.Expr]) -> dict[type[exp.Expr], Rule]:
    return dict.fromkeys(kinds, rule)


_BY_NAME: Mapping[str, str] = {
    "date_part": t.BIGINT,
    "dayname": t.VARCHAR,
    "epoch_us": t.BIGINT,
    "json_extract_string": t.VARCHAR,
    "monthname": t.VARCHAR,
    "now": t.TIMESTAMPTZ,
    "to_json": t.JSON,
    "typeof": t.VARCHAR,
}

_RULES: dict[type[exp.Expr], Rule] = {
    exp.Literal: _literal,
    exp.Boolean: _fixed(t.BOOLEAN, nullable=False),
    exp.Null: _fixed(t.NULL),
    exp.Interval: _fixed(t.INTERVAL, nullable=False),
    exp.Anonymous: _anonymous,
    exp.StructExtract: _struct_field,
    exp.StrToTime: _parsed_moment,
    exp.DPipe: _concatenated,
    **_each(_wrapped, exp.Paren, exp.Alias, exp.Filter),
    **_each(_cast, exp.Cast, exp.TryCast),
    **_each(_add, exp.Add, exp.Sub),
    exp.Mul: _multiply,
    exp.Div: _divide,
    **_each(_whole_divide, exp.IntDiv, exp.Mod),
    **_each(_negate, exp.Neg, exp.Abs),
    exp.Coalesce: _coalesce,
    exp.Nullif: _kept,
    exp.Case: _case,
    exp.If: _if,
    **_each(_extremes, exp.Greatest, exp.Least),
    exp.Round: _round,
    **_each(_whole, exp.Floor, exp.Ceil),
    **_each(_truncated, exp.TimestampTrunc, exp.DateTrunc),
    exp.AtTimeZone: _zoned,
    exp.Dot: _dot,
    exp.Bracket: _member,
    **_each(_fixed(t.DOUBLE), exp.Sqrt, exp.Pow, exp.Ln, exp.Exp, exp.Stddev, exp.Variance, exp.Rand),
    **_each(
        _strict(t.BOOLEAN), exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between
    ),
    **_each(_fixed(t.BOOLEAN), exp.Like, exp.ILike, exp.In, exp.RegexpLike, exp.RegexpFullMatch, exp.StartsWith),
    **_each(_fixed(t.BOOLEAN), exp.EndsWith, exp.Contains, exp.ArrayContains, exp.LogicalAnd, exp.LogicalOr),
    **_each(_fixed(t.BOOLEAN, nullable=False), exp.Is, exp.Exists, exp.NullSafeEQ, exp.NullSafeNEQ),
    **_each(_strict(t.VARCHAR), exp.Upper, exp.Lower, exp.Trim, exp.Replace),
    **_each(_fixed(t.VARCHAR, nullable=False), exp.Concat),
    **_each(_fixed(t.VARCHAR), exp.Substring, exp.Left, exp.Right, exp.Pad, exp.SplitPart, exp.RegexpReplace),
    **_each(_fixed(t.VARCHAR), exp.TimeToStr, exp.ConcatWs, exp.MD5, exp.Reverse, exp.Repeat, exp.JSONExtractScalar),
    **_each(_fixed(t.VARCHAR), exp.GroupConcat, exp.Typeof, exp.Dayname, exp.Monthname, exp.RegexpExtract, exp.Chr),
    exp.Split: _fixed(f"{t.VARCHAR}[]"),
    exp.JSONExtract: _fixed(t.JSON),
    **_each(_strict(t.BIGINT), exp.Length, exp.Year, exp.Month, exp.Day, exp.Quarter, exp.Week, exp.DayOfWeek),
    **_each(_strict(t.BIGINT), exp.DayOfWeekIso, exp.DayOfYear, exp.Hour, exp.Minute),
    **_each(_fixed(t.BIGINT), exp.DateDiff, exp.StrPosition, exp.ApproxDistinct),
    exp.Extract: lambda typer, node: Typed(t.DOUBLE if node.name.upper() in ("EPOCH", "JULIAN") else t.BIGINT),
    exp.Uuid: _fixed(t.UUID, nullable=False),
    exp.CurrentDate: _fixed(t.DATE, nullable=False),
    exp.CurrentTimestamp: _fixed(t.TIMESTAMPTZ, nullable=False),
    exp.LastDay: _fixed(t.DATE),
    exp.DateFromParts: _fixed(t.DATE),
    exp.Count: _fixed(t.BIGINT, nullable=False),
    exp.CountIf: _fixed(t.HUGEINT),
    exp.Sum: _sum,
    exp.Avg: _average,
    exp.Median: _median,
    **_each(_chosen, exp.Min, exp.Max, exp.First, exp.Last, exp.AnyValue, exp.ArgMax, exp.ArgMin, exp.IgnoreNulls),
    **_each(_chosen, exp.FirstValue, exp.LastValue, exp.Lag, exp.Lead, exp.Mode),
    exp.ArrayAgg: _list_of,
    exp.Array: _array,
    exp.Window: _wrapped,
    **_each(_fixed(t.BIGINT, nullable=False), exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile),
    **_each(_fixed(t.DOUBLE, nullable=False), exp.PercentRank, exp.CumeDist),
}
